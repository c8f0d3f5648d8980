"""Gradient-boosted trees on reduced features."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.base import Array, Learner, Validation
from promptroute.predictors.features import Features, FittedFeatures
from promptroute.predictors.targets import Targets, text_folds

if TYPE_CHECKING:
    from lightgbm import Booster


ENOUGH = 20  # prompts; of fewer, a share may be none


def reduced_features() -> Features:
    """Principal components of embeddings, tf-idf reduced by truncated SVD, and text statistics: trees take
    long on wide features, and ask axes that mean something."""
    return Features(components=32, embedding_components=64)


@dataclass
class Gbm(Learner):
    """LightGBM (Ke et al. 2017), one booster for each model's difference and one for the level (see
    `split_level`), squared error.

    The number of rounds is where a fifth of the training prompts, held out by text, is predicted best; then
    all of them are fitted for so long.

    Args:
        features: what it sees; must be dense.
        rounds: at most.
        learning_rate: shrinkage per round.
        leaves: per tree.
        min_leaf: training prompts per leaf.
        column_share: share of features that a tree may use.
        row_share: share of prompts that a tree is fitted on.
        threads: of LightGBM; part of what decides the last bits.
        seed: of sampling and of the held-out fifth.
    """

    kind: ClassVar[str] = "gbm"
    features: Features = field(default_factory=reduced_features)
    rounds: int = 300
    learning_rate: float = 0.05
    leaves: int = 8
    min_leaf: int = 40
    column_share: float = 0.3
    row_share: float = 0.7
    threads: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.features, dict):
            self.features = Features(**self.features)
        for name, low in (("rounds", 1), ("leaves", 2), ("min_leaf", 1), ("threads", 1)):
            if getattr(self, name) < low:
                raise UserError(f"gbm: {name} is {getattr(self, name)}; expected {low} or more")
        for name in ("column_share", "row_share", "learning_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"gbm: {name} is {getattr(self, name)}; expected above 0, up to 1")

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        fitted = self.features.fit(prompts)
        rows = fitted.transform(prompts).matrix()
        targets = Targets.fit(quality)
        y = targets.encode(quality)
        fold = text_folds(prompts.texts, 5, self.seed)
        texts = [self._boost(rows, column, fold) for column in y.T]
        # The kept text is what predicts, so that a loaded predictor can't differ from this one.
        self._fitted, self._targets, self._texts, self._boosters = fitted, targets, texts, _boosters(texts)

    def _boost(self, rows: Array, y: Array, fold: Array) -> str:
        """One booster, as LightGBM's text."""
        import lightgbm as lgb

        options = {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.min_leaf,
            "feature_fraction": self.column_share,
            "bagging_fraction": self.row_share if len(rows) >= ENOUGH else 1.0,
            "bagging_freq": 1,
            "lambda_l2": 5.0,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.threads,
            "verbosity": -1,
        }
        rounds = self.rounds
        train, held = np.flatnonzero(fold > 0), np.flatnonzero(fold == 0)
        if len(train):
            inner = lgb.Dataset(rows[train], y[train])
            tried = lgb.train(
                options,
                inner,
                self.rounds,
                valid_sets=[lgb.Dataset(rows[held], y[held], reference=inner)],
                callbacks=[lgb.early_stopping(30, verbose=False)],
            )
            rounds = max(tried.best_iteration, 1)
        text: str = lgb.train(options, lgb.Dataset(rows, y), rounds).model_to_string()
        return text

    def _predict(self, prompts: PromptBatch) -> Array:
        rows = self._fitted.transform(prompts).matrix()
        columns = [booster.predict(rows, num_threads=self.threads) for booster in self._boosters]
        return self._targets.decode(np.stack(columns, 1))

    def _widths(self) -> dict[str, int]:
        return self._fitted.widths

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        state, arrays = self._fitted.state()
        return {"features": state, "boosters": self._texts}, arrays | self._targets.arrays()

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        self._fitted = FittedFeatures.from_state(self.features, state["features"], arrays)
        self._targets = Targets.from_arrays(arrays)
        self._texts = state["boosters"]
        self._boosters = _boosters(self._texts)


def _boosters(texts: list[str]) -> "list[Booster]":
    import lightgbm as lgb

    try:
        return [lgb.Booster(model_str=text) for text in texts]
    except lgb.basic.LightGBMError as error:
        raise ValueError(f"a booster's text can't be read: {error}") from error
