"""Small neural networks on dense features."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Arrays, State
from promptroute.predictors.features import Design, Features
from promptroute.predictors.regressor import Regressor

Layers = list[tuple[Array, Array]]
ENOUGH = 50  # prompts; of fewer, a tenth is too few to stop by


class Mlp(Regressor):
    """Multi-layer perceptrons (scikit-learn's, ReLU, Adam), averaged over seeds.

    The differences between models and their level (see `split_level`) have networks of their own. Each stops
    when a tenth of the training prompts, left out of the fit, is no longer predicted better.

    Args:
        features: what it sees; must be dense. Default: embeddings, or tf-idf in 128 dimensions where there are none,
            and text statistics, each column of unit variance.
        hidden: width of each hidden layer, 1 or more.
        alpha: L2 penalty, 0 or more.
        learning_rate: Adam's.
        epochs: at most.
        networks: how many, over seeds seed … seed + networks - 1.
        seed: of the first network.
    """

    features: Features = Features(words="fallback", components=128, scale="column")
    hidden: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = (64,)
    alpha: NonNegativeFloat = 10.0
    learning_rate: PositiveFloat = 1e-3
    epochs: PositiveInt = 100
    networks: PositiveInt = 5

    _parts: list[list[Layers]]

    def _learn(self, design: Design, y: Array, prompts: PromptBatch, quality: Array) -> None:
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        rows = design.matrix()
        parts: list[list[Layers]] = []
        for part in (y[:, :-1], y[:, -1:]):
            nets = []
            for seed in range(self.seed, self.seed + self.networks):
                net = MLPRegressor(
                    hidden_layer_sizes=tuple(self.hidden),
                    alpha=self.alpha,
                    learning_rate_init=self.learning_rate,
                    batch_size=max(min(128, len(rows) // 2), 1),
                    max_iter=self.epochs,
                    early_stopping=len(rows) >= ENOUGH,
                    n_iter_no_change=8,
                    random_state=seed,
                )
                # The products are too small to gain from threads, and on a busy machine lose much to them.
                with warnings.catch_warnings(), threadpool_limits(1):
                    warnings.simplefilter("ignore", ConvergenceWarning)  # `epochs` is a limit, not a failure
                    net.fit(rows, part if part.shape[1] > 1 else part[:, 0])
                nets.append(list(zip(net.coefs_, net.intercepts_, strict=True)))
            parts.append(nets)
        self._parts = parts

    def _columns(self, design: Design) -> Array:
        rows = design.matrix()
        columns = [np.mean([_forward(net, rows) for net in nets], axis=0) for nets in self._parts]
        return np.hstack(columns)

    def _state(self, folder: Path) -> tuple[State, Arrays]:
        state, arrays = super()._state(folder)
        for p, nets in enumerate(self._parts):
            for n, net in enumerate(nets):
                for i, (weight, bias) in enumerate(net):
                    arrays[f"net.{p}.{n}.{i}.weight"] = weight
                    arrays[f"net.{p}.{n}.{i}.bias"] = bias
        return state, arrays

    def _restore(self, folder: Path, state: State, arrays: Arrays) -> None:
        super()._restore(folder, state, arrays)
        self._parts = [
            [
                [
                    (arrays[f"net.{p}.{n}.{i}.weight"], arrays[f"net.{p}.{n}.{i}.bias"])
                    for i in range(len(self.hidden) + 1)
                ]
                for n in range(self.networks)
            ]
            for p in range(2)
        ]


def _forward(net: Layers, rows: Array) -> Array:
    """Map rows [n, d] to [n, outputs]."""
    for weight, bias in net[:-1]:
        rows = np.maximum(rows @ weight + bias, 0)
    weight, bias = net[-1]
    return rows @ weight + bias
