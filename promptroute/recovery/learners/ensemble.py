"""The transformer ensemble: our own training of it, and the published checkpoint as it is."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from promptroute.core.errors import UserError
from promptroute.core.plain import Section
from promptroute.io.files import sha256
from promptroute.recovery.checkpoint import published_network, read_checkpoint
from promptroute.recovery.learners.base import Arrays, Examples, Learner, Scaling, held_out, mean_cosine
from promptroute.recovery.vectors import Views

if TYPE_CHECKING:
    from promptroute.recovery.network import EnsembleNetwork


class Ensemble(Learner):
    """Attend over the views of an image, each a token with a learned vector that says which view it is.

    Trained by 1 - cosine with AdamW over shuffled batches; the epoch with the best mean cosine on held-out images is
    kept. After `patience` epochs without a better one it ends.

    Args:
        width, blocks, heads, feed_forward: of the transformer; see `EnsembleNetwork`.
        dropout: share of values that training drops.
        rate: AdamW's, at its highest: it rises over the first tenth of the epochs and falls to 0 by a cosine.
        decay: AdamW's weight decay.
        epochs, patience: at most so many, and so many without gain.
        batch_size: images per step.
        seed: of the weights, the order, and the groups held out.
        device: torch device.
    """

    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    incidental: ClassVar[frozenset[str]] = frozenset({"device"})

    width: PositiveInt = 256
    blocks: PositiveInt = 2
    heads: PositiveInt = 4
    feed_forward: PositiveInt = 512
    dropout: float = Field(0.2, ge=0, lt=1)
    rate: PositiveFloat = 1e-3
    decay: float = Field(0.05, ge=0)
    epochs: PositiveInt = 40
    patience: PositiveInt = 8
    batch_size: PositiveInt = 64
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = "cpu"

    def _fit(self, examples: Examples, groups: np.ndarray, validation: Examples | None) -> Arrays:
        import torch

        known, judged = held_out(examples, groups, validation, self.seed)
        scaling = Scaling.of(known.views)
        widths = {name: view.shape[1] for name, view in known.views.items()}
        rows = {
            name: torch.from_numpy(part).to(self.device)
            for name, part in _split(scaling(known.views), widths)
        }
        target = torch.from_numpy(known.target).to(self.device)
        seen = dict(_split(scaling(judged.views), widths))
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network = self._network(widths, known.target.shape[1]).to(self.device)
            best = self._train(network, list(rows.values()), target, seen, judged.target)
        return {**scaling._asdict(), **best}

    def _train(
        self, network: "EnsembleNetwork", rows: list[Any], target: Any, seen: Views, judged: np.ndarray
    ) -> Arrays:
        """Train, and return the weights of the best epoch."""
        import torch

        optimizer = torch.optim.AdamW(network.parameters(), self.rate, weight_decay=self.decay)
        steps = -(-len(target) // self.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.rate, total_steps=self.epochs * steps + 1, pct_start=0.1
        )
        best, top, since = {}, -np.inf, 0
        for _ in range(self.epochs):
            network.train()
            order = torch.randperm(len(target)).to(self.device)
            for start in range(0, len(target), self.batch_size):
                part = order[start : start + self.batch_size]
                answer = network([view[part] for view in rows])
                loss: Any = 1 - torch.nn.functional.cosine_similarity(answer, target[part]).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            network.eval()
            found, since = mean_cosine(network.answers(seen, 4096), judged), since + 1
            if found > top:
                best = {name: value.cpu().numpy().copy() for name, value in network.state_dict().items()}
                top, since = found, 0
            if since >= self.patience:
                break
        if not best:
            raise UserError("the ensemble's training gave no finite answer; lower its rate")
        return best

    def _network(self, widths: Mapping[str, int], out: int) -> "EnsembleNetwork":
        from promptroute.recovery.network import EnsembleNetwork

        if self.width % self.heads:
            raise UserError(
                f"the ensemble's width {self.width} can't be shared by {self.heads} heads; give a multiple"
            )
        return EnsembleNetwork(
            widths, width=self.width, blocks=self.blocks, heads=self.heads, feed_forward=self.feed_forward, out=out,
            dropout=self.dropout,
        )  # fmt: skip

    def _predict(self, views: Views) -> np.ndarray:
        import torch

        learned = {name: value for name, value in self._arrays.items() if name not in Scaling._fields}
        network = self._network(self.widths, len(learned["out.bias"]))
        network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in learned.items()})
        scaling = Scaling(self._arrays["mean"], self._arrays["scale"])
        rows = dict(_split(scaling(views), self.widths))
        return network.eval().to(self.device).answers(rows, 4096)


def _split(rows: np.ndarray, widths: Mapping[str, int]) -> list[tuple[str, np.ndarray]]:
    """Take apart what `Scaling` set side by side."""
    parts = np.split(rows, np.cumsum(list(widths.values()))[:-1], axis=1)
    return [(name, np.ascontiguousarray(part)) for name, part in zip(widths, parts, strict=True)]


class EnsembleOriginal(Learner):
    """Predict by the published checkpoint as it is; a fit learns nothing.

    Its views are CLIP ViT-B/32 (512), ConvNeXt-tiny (768) and the interrogator's text (384), in this order, under any
    names. As its code does by mistake, it attends over the images of a batch: an image's answer depends on the others in
    its batch, and on its CLIP embedding alone.

    Args:
        checkpoint: the published torch file, or what `convert_checkpoint` made of it.
        batch_axis: attend over the batch; false: over the views, by the same weights.
        batch_size: images at once; part of the result where `batch_axis` is true.
    """

    learns = False
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    incidental: ClassVar[frozenset[str]] = frozenset({"checkpoint"})

    checkpoint: str
    batch_axis: bool = True
    batch_size: PositiveInt = 64

    @cached_property
    def _published(self) -> Arrays:
        return read_checkpoint(self.checkpoint)

    def weights(self) -> Section:
        """Check-sum the checkpoint.

        Raises:
            UserError: it is absent, or another network's.
        """
        _ = self._published
        return {"sha256": sha256(self.checkpoint)}

    def _fit(self, examples: Examples, groups: np.ndarray, validation: Examples | None) -> Arrays:
        from promptroute.recovery.network import PUBLISHED

        widths = [view.shape[1] for view in examples.views.values()]
        if widths != list(PUBLISHED.values()):
            raise UserError(
                f"the published ensemble takes views of widths {list(PUBLISHED.values())} ({', '.join(PUBLISHED)}), not "
                f"{widths} ({', '.join(examples.views)}); name its own views in its order"
            )
        return self._published

    def _predict(self, views: Views) -> np.ndarray:
        network = published_network(self._arrays, self.batch_axis)
        return network.answers(dict(zip(network.widths, views.values(), strict=True)), self.batch_size)
