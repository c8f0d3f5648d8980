"""An image network, trained to give the prompt's sentence embedding."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.io.files import sha256
from promptroute.recovery.learners.base import Arrays, Examples, Learner, held_out, mean_cosine
from promptroute.recovery.vectors import Views


class Finetune(Learner):
    """Fine-tune an image network of timm with one linear layer, without bias, in the place of its classifier.

    First the layer alone over the frozen network, then all, as the best entries of "Stable Diffusion - Image to Prompts"
    (Kaggle 2023) do: 1 - cosine, random crops, colours changed a little, no flip, since left and right are in prompts. Its
    one view is the pixels (`promptroute.encoders.features.Pixels`). Meant for a GPU.

    Args:
        model: architecture that timm knows, as `convnext_tiny`.
        checkpoint: path of a .safetensors file with its weights; None: random ones.
        head_epochs, epochs: of the layer alone, and of all.
        head_rate, rate: AdamW's, falling to 0 by a cosine in each of the two.
        crop: the smallest share of an image's area that a crop keeps.
        batch_size: images per step.
        seed: of the weights, order, crops, and the groups held out.
        device: torch device.
    """

    libraries: ClassVar[tuple[str, ...]] = ("torch", "timm")
    incidental: ClassVar[frozenset[str]] = frozenset({"device", "checkpoint"})

    model: str
    checkpoint: str | None = None
    head_epochs: int = Field(2, ge=0)
    epochs: PositiveInt = 4
    head_rate: PositiveFloat = 1e-2
    rate: PositiveFloat = 1e-4
    crop: float = Field(0.5, gt=0, le=1)
    batch_size: PositiveInt = 32
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = "cpu"

    def weights(self) -> Plain:
        """Check-sum the checkpoint; raises UserError where it is absent."""
        if self.checkpoint is None:
            return {}
        if not Path(self.checkpoint).is_file():
            raise UserError(
                f"{self.checkpoint}: no such file; give the image network's weights as .safetensors"
            )
        return {"sha256": sha256(self.checkpoint)}

    def _network(self, out: int, trained: bool) -> Any:
        import timm
        import torch
        from safetensors.torch import load_file

        try:
            network: Any = timm.create_model(self.model, pretrained=False, num_classes=0)
            if trained and self.checkpoint is not None:
                network.load_state_dict(load_file(self.checkpoint), strict=False)
        except Exception as error:  # timm raises what its parts raise
            raise UserError(
                f"{self.model} can't be made with weights {self.checkpoint} ({error}); check both"
            ) from error
        return torch.nn.Sequential(network, torch.nn.Linear(network.num_features, out, bias=False)).to(
            self.device
        )

    def _fit(self, examples: Examples, groups: np.ndarray, validation: Examples | None) -> Arrays:
        import torch

        _ = self.weights()
        known, judged = held_out(examples, groups, validation, self.seed)
        pixels, target = self._pixels(known.views), torch.from_numpy(known.target)
        best, top = {}, -np.inf
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network = self._network(known.target.shape[1], trained=True)
            for whole, epochs, rate in (
                (False, self.head_epochs, self.head_rate),
                (True, self.epochs, self.rate),
            ):
                network[0].requires_grad_(whole)
                moved = [part for part in network.parameters() if part.requires_grad]
                optimizer = torch.optim.AdamW(moved, rate)
                schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs, 1))
                for _ in range(epochs):
                    network.train()
                    network[0].train(whole)  # frozen, its running means stay too
                    order: Any = torch.randperm(len(target))
                    for part in order.split(self.batch_size):
                        answer = network(self._augmented(pixels[part].to(self.device)))
                        loss: Any = 1 - torch.cosine_similarity(answer, target[part].to(self.device)).mean()
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                    schedule.step()
                    found = mean_cosine(self._answers(network, self._pixels(judged.views)), judged.target)
                    if found > top:
                        state = network.state_dict().items()
                        best, top = {name: value.cpu().numpy().copy() for name, value in state}, found
        if not best:
            raise UserError("fine-tuning gave no finite answer; lower its rates")
        return best

    def _predict(self, views: Views) -> np.ndarray:
        import torch

        network = self._network(self._arrays["1.weight"].shape[0], trained=False)
        network.load_state_dict(
            {name: torch.from_numpy(value.copy()) for name, value in self._arrays.items()}
        )
        return self._answers(network, self._pixels(views))

    def _answers(self, network: Any, pixels: Any) -> np.ndarray:
        import torch

        network.eval()
        with torch.inference_mode():
            parts = [
                network(self._scaled(part.to(self.device))).cpu() for part in pixels.split(self.batch_size)
            ]
        return np.asarray(torch.cat(parts).numpy())

    @staticmethod
    def _pixels(views: Views) -> Any:
        """Give the one view as uint8 [n, 3, side, side]."""
        import torch

        rows = next(iter(views.values()))
        side = round((rows.shape[1] / 3) ** 0.5)
        if len(views) > 1 or side * side * 3 != rows.shape[1]:
            raise UserError(
                f"fine-tuning takes one view, the pixels of square images, not {', '.join(views)}; name the encoder "
                f"promptroute.encoders.features.Pixels"
            )
        return (
            torch.from_numpy(rows.astype(np.uint8))
            .reshape(-1, side, side, 3)
            .permute(0, 3, 1, 2)
            .contiguous()
        )

    @staticmethod
    def _scaled(pixels: Any) -> Any:
        return pixels.float() / 127.5 - 1

    def _augmented(self, pixels: Any) -> Any:
        """Crop each image at random and change its colours by up to 5 %."""
        import torch

        n, _, side, _ = pixels.shape
        scale = torch.sqrt(self.crop + (1 - self.crop) * torch.rand(n))
        shift = (2 * torch.rand(n, 2) - 1) * (1 - scale)[:, None]
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale, scale, shift
        grid = torch.nn.functional.affine_grid(theta, [n, 3, side, side], align_corners=False).to(
            pixels.device
        )
        colour = (1 + 0.1 * (torch.rand(n, 3, 1, 1) - 0.5)).to(pixels.device)
        return torch.nn.functional.grid_sample(self._scaled(pixels), grid, align_corners=False, padding_mode="reflection") * colour  # fmt: skip
