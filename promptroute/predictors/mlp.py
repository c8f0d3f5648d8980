"""Small neural networks on dense features."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.base import Array, Learner, Validation
from promptroute.predictors.features import Features, FittedFeatures
from promptroute.predictors.targets import Targets

Layers = list[tuple[Array, Array]]
ENOUGH = 50  # prompts; with fewer, a tenth held out is too few to stop by


def column_features() -> Features:
    """Embeddings (tf-idf in 128 dimensions where there are none) and statistics, each column of unit variance."""
    return Features(words="fallback", components=128, scale="column")


@dataclass
class Mlp(Learner):
    """Multi-layer perceptrons (scikit-learn's, ReLU, Adam), averaged over seeds.

    The differences between models and their level (see `split_level`) have networks of their own. Each stops
    when a tenth of the training prompts, held out, is no longer predicted better.

    Args:
        features: what it sees; must be dense.
        hidden: width of each hidden layer.
        alpha: L2 penalty.
        learning_rate: Adam's.
        epochs: at most.
        networks: how many, over seeds seed … seed + networks - 1.
        seed: of the first network.
    """

    kind: ClassVar[str] = "mlp"
    features: Features = field(default_factory=column_features)
    hidden: Sequence[int] = (64,)
    alpha: float = 10.0
    learning_rate: float = 1e-3
    epochs: int = 100
    networks: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.features, dict):
            self.features = Features(**self.features)
        for name in ("epochs", "networks"):
            if getattr(self, name) < 1:
                raise UserError(f"mlp: {name} is {getattr(self, name)}; expected 1 or more")
        if self.alpha < 0:
            raise UserError(f"mlp: alpha is {self.alpha}; expected 0 or more")
        if self.learning_rate <= 0:
            raise UserError(f"mlp: learning_rate is {self.learning_rate}; expected above 0")
        if any(width < 1 for width in self.hidden):
            raise UserError(f"mlp: hidden is {list(self.hidden)}; expected widths of 1 or more")

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        fitted = self.features.fit(prompts)
        rows = fitted.transform(prompts).matrix()
        targets = Targets.fit(quality)
        y = targets.encode(quality)
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
        self._fitted, self._targets, self._parts = fitted, targets, parts

    def _predict(self, prompts: PromptBatch) -> Array:
        rows = self._fitted.transform(prompts).matrix()
        columns = [np.mean([_forward(net, rows) for net in nets], axis=0) for nets in self._parts]
        return self._targets.decode(np.hstack(columns))

    def _widths(self) -> dict[str, int]:
        return self._fitted.widths

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        state, arrays = self._fitted.state()
        arrays |= self._targets.arrays()
        for p, nets in enumerate(self._parts):
            for n, net in enumerate(nets):
                for i, (weight, bias) in enumerate(net):
                    arrays[f"net.{p}.{n}.{i}.weight"] = weight
                    arrays[f"net.{p}.{n}.{i}.bias"] = bias
        return {"features": state}, arrays

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        self._fitted = FittedFeatures.from_state(self.features, state["features"], arrays)
        self._targets = Targets.from_arrays(arrays)
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
    """Rows [n, d] → [n, outputs]."""
    for weight, bias in net[:-1]:
        rows = np.maximum(rows @ weight + bias, 0)
    weight, bias = net[-1]
    return rows @ weight + bias
