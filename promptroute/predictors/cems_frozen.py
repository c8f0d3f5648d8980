"""The objective of CEMS on frozen embeddings."""

from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveFloat

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Validation
from promptroute.predictors.classifier import Classifier, macro_f1, make_head, softmax
from promptroute.predictors.features import Features
from promptroute.predictors.regressor import FeaturePredictor


class CemsFrozen(Classifier, FeaturePredictor):
    """The classifier of CEMS (see `Cems`), but only its head learns; the text encoder stays as it is.

    The same head, loss, class weights, optimiser and choice of epoch. Learning rate and epochs are our own:
    the paper's 6.4e-6 is made for fine-tuning, and a head alone hardly moves at it.

    Args:
        features: what it sees; must be dense. Default: embeddings, or tf-idf in 128 dimensions where there are none,
            each column of unit variance.
        epochs, batch_size, learning_rate, weight_decay, seed: see `Classifier`.
    """

    features: Features = Features(words="fallback", components=128, statistics=False, scale="column")
    learning_rate: PositiveFloat = 1e-4

    learned: ClassVar[tuple[str, ...]] = ("epoch", "first", "first_bias", "last", "last_bias")
    _first: Array
    _first_bias: Array
    _last: Array
    _last_bias: Array

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        held, best = self._required(validation)
        import torch

        fitted = self.features.fit(prompts, self.seed)
        m = quality.shape[1]
        rows, held_rows = (
            torch.tensor(fitted.transform(batch).matrix(), dtype=torch.float32) for batch in (prompts, held)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            head = make_head(rows.shape[1], m)

            def score() -> float:
                with torch.inference_mode():
                    return macro_f1(best, head(held_rows).argmax(1).numpy(), m)

            self._epoch = self._train(
                head, lambda index: head(rows[torch.from_numpy(index)]), quality.argmax(1), m, score
            )
        first, last = (layer for layer in head if isinstance(layer, torch.nn.Linear))
        self._first, self._first_bias = _arrays(first)
        self._last, self._last_bias = _arrays(last)
        self._fitted = fitted

    def _predict(self, prompts: PromptBatch) -> Array:
        hidden = self._fitted.transform(prompts).matrix() @ self._first + self._first_bias
        hidden = hidden / (1 + np.exp(-np.clip(1.702 * hidden, -500, 500)))  # QuickGELU
        return softmax(hidden @ self._last + self._last_bias)


def _arrays(layer: Any) -> tuple[Array, Array]:
    """Return a linear layer's weight, float64 [in, out], and bias [out]."""
    return layer.weight.detach().double().numpy().T, layer.bias.detach().double().numpy()
