"""The objective of CEMS on frozen embeddings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Learner, Validation
from promptroute.predictors.classifier import (
    Schedule,
    macro_f1,
    make_head,
    need_validation,
    softmax,
    train_classifier,
)
from promptroute.predictors.features import Features, FittedFeatures


def frozen_features() -> Features:
    """Embeddings, each column of unit variance; tf-idf in 128 dimensions where there are none."""
    return Features(words="fallback", statistics=False, components=128, scale="column")


@dataclass
class CemsFrozen(Learner):
    """The classifier of CEMS (see `Cems`), but only its head learns; the text encoder stays as it is.

    The same head, loss, class weights, optimiser and choice of epoch. Learning rate and epochs are our own:
    the paper's 6.4e-6 is made for fine-tuning, and a head alone hardly moves at it.

    Predicts probabilities that each model is the best, in 0 … 1, rows summing to 1.

    Args:
        features: what it sees; must be dense.
        epochs, batch_size, learning_rate, weight_decay, seed: see `Schedule`.
    """

    kind: ClassVar[str] = "cems-frozen"
    predicts: ClassVar[str] = "probability"
    features: Features = field(default_factory=frozen_features)
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.features, dict):
            self.features = Features(**self.features)
        self._schedule()

    def _schedule(self) -> Schedule:
        return Schedule(self.epochs, self.batch_size, self.learning_rate, self.weight_decay, self.seed)

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        need_validation(validation, self.kind)
        assert validation is not None
        import torch

        fitted = self.features.fit(prompts)
        held, m = validation[1].argmax(1), quality.shape[1]
        rows, held_rows = (
            torch.tensor(fitted.transform(batch).matrix(), dtype=torch.float32)
            for batch in (prompts, validation[0])
        )

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            head = make_head(rows.shape[1], m)

            def score() -> float:
                with torch.inference_mode():
                    return macro_f1(held, head(held_rows).argmax(1).numpy(), m)

            self._epoch = train_classifier(
                head,
                lambda index: head(rows[torch.from_numpy(index)]),
                quality.argmax(1),
                m,
                self._schedule(),
                score,
                self.kind,
            )
        linear = [layer for layer in head if isinstance(layer, torch.nn.Linear)]
        self._layers = [
            (layer.weight.detach().double().numpy().T, layer.bias.detach().double().numpy())
            for layer in linear
        ]
        self._fitted = fitted

    def _predict(self, prompts: PromptBatch) -> Array:
        (first, first_bias), (last, last_bias) = self._layers
        hidden = self._fitted.transform(prompts).matrix() @ first + first_bias
        hidden = hidden / (1 + np.exp(-np.clip(1.702 * hidden, -500, 500)))  # QuickGELU
        return softmax(hidden @ last + last_bias)

    def _widths(self) -> dict[str, int]:
        return self._fitted.widths

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        state, arrays = self._fitted.state()
        for i, (weight, bias) in enumerate(self._layers):
            arrays |= {f"head.{i}.weight": weight, f"head.{i}.bias": bias}
        return {"features": state, "epoch": self._epoch}, arrays

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        self._fitted = FittedFeatures.from_state(self.features, state["features"], arrays)
        self._layers = [(arrays[f"head.{i}.weight"], arrays[f"head.{i}.bias"]) for i in range(2)]
        self._epoch = state["epoch"]
