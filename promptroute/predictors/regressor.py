"""Predictors that see a prompt as a row of features."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import field_validator

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Predictor, Seed, Validation
from promptroute.predictors.features import Design, Features, FittedFeatures
from promptroute.predictors.targets import Targets


class FeaturePredictor(Predictor):
    """A predictor on features, which are fitted on the training prompts and saved with it.

    Args:
        features: what it sees. Settings alone, without `_target_`, change the class's own default.
        seed: of everything random.
    """

    features: Features = Features()
    seed: Seed = 0

    _fitted: FittedFeatures

    @field_validator("features", mode="before")
    @classmethod
    def _onto_default(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        default = cls.model_fields["features"].default
        return type(default)(**{**dict(default), **given})

    @property
    def embedding_widths(self) -> Mapping[str, int]:
        """Return the width of the embeddings that it was fitted with, by encoder name."""
        return self._fitted.widths

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        state, arrays = super()._state(folder)
        features, more = self._fitted.state()
        return state | {"features": features}, arrays | more

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        super()._restore(folder, state, arrays)
        self._fitted = FittedFeatures.from_state(self.features, state["features"], arrays)


class Regressor(FeaturePredictor):
    """A predictor that maps features to the m + 1 columns of `Targets`: differences between models, then level."""

    _targets: Targets

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        self._fitted = self.features.fit(prompts, self.seed)
        self._targets = Targets.fit(quality)
        self._learn(self._fitted.transform(prompts), self._targets.encode(quality), prompts, quality)

    def _predict(self, prompts: PromptBatch) -> Array:
        return self._targets.decode(self._columns(self._fitted.transform(prompts)))

    @abstractmethod
    def _learn(self, design: Design, y: Array, prompts: PromptBatch, quality: Array) -> None:
        """Learn the columns y [n, m + 1] from the prompts' features; quality [n, m] is what y was made of."""

    @abstractmethod
    def _columns(self, design: Design) -> Array:
        """Predict the columns, float64 [n, m + 1], from features."""

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        state, arrays = super()._state(folder)
        return state, arrays | self._targets.arrays()

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        super()._restore(folder, state, arrays)
        self._targets = Targets.from_arrays(arrays)
