"""Train the small NIMA on scenes with known degradations: params `nima` → mini/pipeline/data/weights/nima/."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mini.degradations import DEGRADATIONS, degrade, score_distribution
from mini.render_scenes import FREE, read_scenes
from mini.settings import WEIGHTS, load_settings
from mini.training import Step, compute_device, finish, fit, to_tensor
from promptroute.io.files import write_json
from promptroute.runtime.stage import run_stage

FOLDER = WEIGHTS / "nima"
WIDTH = 0.25  # of MobileNet's channels


def new_nima(width: float = WIDTH) -> Any:
    """Make an untrained MobileNet v1 with ten outputs, as in NIMA: images in -1…1 → logits [n, 10]."""
    from timm.models.efficientnet import _gen_mobilenet_v1  # timm has no public name for other widths

    return _gen_mobilenet_v1("mobilenetv1_100", width, pretrained=False, num_classes=10, bn_eps=1e-3)


def emd_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the earth mover's distance with r = 2: the root mean squared difference of the cumulative distributions.

    Args:
        logits: [n, 10].
        target: [n, 10], each row sums to 1.

    Source: Talebi & Milanfar, NIMA: Neural Image Assessment (2018), equation 1.
    """
    difference = (logits.softmax(dim=1) - target).cumsum(dim=1)
    return (difference.square().mean(dim=1) + 1e-12).sqrt().mean()


def mean_score(logits: Tensor) -> Tensor:
    """Return the mean of the predicted distribution, 1 to 10, higher is better; [n, 10] → [n]."""
    return logits.softmax(dim=1) @ torch.arange(1, 11, dtype=logits.dtype, device=logits.device)


def degrade_all(
    images: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Degrade each image by a random kind and level; return the images, and the levels [n]."""
    levels = rng.random(len(images)) * (rng.random(len(images)) > 0.1)  # a tenth stays intact
    kinds = rng.choice(list(DEGRADATIONS), len(images))
    parts = [degrade(*row, rng) for row in zip(images, kinds, levels, strict=True)]
    return np.stack(parts), levels


def train(images: NDArray[np.uint8], settings: dict[str, Any], device: str) -> tuple[Any, list[float]]:
    """Train on images, uint8 [n, 64, 64, 3]; return the model and the loss of each step."""
    torch.manual_seed(settings["seed"])
    nima = new_nima().to(device)

    def loss_of(step: Step) -> Tensor:
        batch, levels = degrade_all(images[step.rows(len(images), settings["batch"])], step.rng)
        target = (
            torch.from_numpy(np.stack([score_distribution(level) for level in levels])).float().to(device)
        )
        return emd_loss(nima(to_tensor(batch, device)), target)

    losses = fit("nima", nima, loss_of, settings)
    measure_batch_norm(nima, images, settings, device)
    return nima, losses


def measure_batch_norm(
    nima: Any, images: NDArray[np.uint8], settings: dict[str, Any], device: str, batches: int = 40
) -> None:
    """Measure batch normalisation's means and variances for the averaged weights."""
    rng = np.random.default_rng(settings["seed"])
    rows = (np.sort(rng.integers(0, len(images), 4 * settings["batch"])) for _ in range(batches))
    torch.optim.swa_utils.update_bn(
        (to_tensor(degrade_all(images[part], rng)[0], device) for part in rows), nima
    )
    nima.eval()


def save(folder: Path, nima: Any) -> None:
    """Write weights and configuration: half precision, but the normalisations' statistics in single."""
    from safetensors.torch import save_file

    weights = {
        key: (value if "running" in key or not value.is_floating_point() else value.half()).cpu().contiguous()
        for key, value in nima.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    write_json(
        folder / "config.json", {"backbone": "mobilenetv1", "width": WIDTH, "size": 64, "bn_eps": 1e-3}
    )


def load_nima(folder: Path | str = FOLDER) -> Any:
    """Load the trained model, float32, ready to score."""
    from safetensors.torch import load_file

    nima = new_nima()
    nima.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return nima.float().eval()


def main() -> str:
    settings = load_settings("nima")
    images, _ = read_scenes(FREE)
    nima, losses = train(images, settings, compute_device())
    return finish("nima", settings, FOLDER, lambda folder: save(folder, nima), losses)


if __name__ == "__main__":
    run_stage(main)
