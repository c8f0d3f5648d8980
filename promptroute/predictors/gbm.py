"""Gradient-boosted trees on reduced features."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Arrays, State
from promptroute.predictors.features import Design, Features
from promptroute.predictors.regressor import Regressor
from promptroute.predictors.targets import text_folds

if TYPE_CHECKING:
    from lightgbm import Booster

ENOUGH = 20  # prompts; of fewer, a share may be none
NODES = ("split_feature", "decision_type", "left_child", "right_child")  # whole numbers, one for each node
Share = Annotated[float, Field(gt=0, le=1)]


class Gbm(Regressor):
    """LightGBM (Ke et al. 2017), one booster for each model's difference and one for the level (see
    `split_level`), squared error.

    The number of rounds is where a fifth of the training prompts, left out by text, is predicted best; then
    all of them are fitted for so long.

    Args:
        features: what it sees; must be dense. Default: 64 principal components of each encoder's vectors, tf-idf in 32
            dimensions, and text statistics: trees take long on wide features, and need axes that mean something.
        rounds: at most.
        learning_rate: shrinkage per round, above 0, up to 1.
        leaves: per tree, 2 or more.
        min_leaf: training prompts per leaf.
        column_share: share of features that a tree may use, above 0, up to 1.
        row_share: share of prompts that a tree is fitted on, above 0, up to 1.
        threads: of LightGBM; part of what decides the last bits.
        seed: of sampling and of the held-out fifth.
    """

    features: Features = Features(components=32, embedding_components=64)
    rounds: PositiveInt = 300
    learning_rate: Share = 0.05
    leaves: int = Field(8, ge=2)
    min_leaf: PositiveInt = 40
    column_share: Share = 0.3
    row_share: Share = 0.7
    threads: int = Field(1, ge=1, le=1024)

    learned: ClassVar[tuple[str, ...]] = ("texts",)
    _texts: list[str]
    _boosters: "list[Booster]"

    def _learn(self, design: Design, y: Array, prompts: PromptBatch, quality: Array) -> None:
        rows = design.matrix()
        fold = text_folds(prompts.texts, 5, self.seed)
        self._texts = [self._boost(rows, column, fold) for column in y.T]
        # The saved text is what predicts, so that a loaded predictor can't differ from this one.
        self._boosters = _boosters(self._texts, rows.shape[1])

    def _boost(self, rows: Array, y: Array, fold: Array) -> str:
        """Fit a booster; return LightGBM's text of it."""
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

    def _columns(self, design: Design) -> Array:
        rows = design.matrix()
        return np.stack([booster.predict(rows, num_threads=self.threads) for booster in self._boosters], 1)

    def _restore(self, folder: Path, state: State, arrays: Arrays) -> None:
        super()._restore(folder, state, arrays)
        width = sum(len(block.centre) for block in self._fitted.blocks.values())
        self._boosters = _boosters(self._texts, width)


def _boosters(texts: list[str], width: int) -> "list[Booster]":
    import lightgbm as lgb

    try:
        return [lgb.Booster(model_str=checked(text, width)) for text in texts]
    except lgb.basic.LightGBMError as error:
        raise ValueError(f"a booster's text can't be read: {error}") from error


def checked(text: str, width: int) -> str:
    """Return LightGBM's text of a booster with nothing in it but what was checked; it may come from a stranger.

    LightGBM trusts the text: a feature or a leaf out of range is read out of bounds, and a circle of nodes never ends.

    Args:
        text: as `model_to_string` gives it.
        width: number of features.

    Raises:
        ValueError: it isn't a regression on so many features by plain trees, or a node points anywhere but down.
    """
    head, *trees = re.split(r"^Tree=\d+$", text.partition("\nend of trees")[0], flags=re.MULTILINE)
    facts = _facts(head)
    facts.pop("tree_sizes", None)  # offsets into the text; without them it is read in order
    wanted = {"num_class": "1", "num_tree_per_iteration": "1", "max_feature_idx": str(width - 1)}
    if facts | wanted != facts or facts.get("objective") != "regression":
        raise ValueError(f"a booster isn't a regression on {width} features")
    parts = ["tree", *(f"{name}={value}" for name, value in facts.items())]
    for number, part in enumerate(trees):
        facts = _facts(part)
        _check_tree(facts, width)
        parts += ["", f"Tree={number}", *(f"{name}={value}" for name, value in facts.items()), ""]
    return "\n".join([*parts, "", "end of trees", ""])


def _facts(text: str) -> dict[str, str]:
    """Read lines NAME=VALUE.

    Raises:
        ValueError: a name occurs twice, or begins another tree.
    """
    pairs = [line.partition("=")[::2] for line in text.splitlines() if "=" in line]
    facts = dict(pairs)
    if len(facts) < len(pairs) or "Tree" in facts:
        raise ValueError("a booster's text repeats a line")
    return facts


def _check_tree(facts: Mapping[str, str], width: int) -> None:
    """Refuse a tree whose nodes are not LightGBM's: each is made after its parent, and splits one of the features."""
    leaves = int(facts["num_leaves"])
    values = {name: np.array(facts.get(name, "").split(), np.int64) for name in NODES}
    feature, kind, left, right = values.values()
    children = np.concatenate([left, right])
    nodes = np.tile(np.arange(leaves - 1), 2)
    if (
        {*map(len, values.values()), len(facts.get("threshold", "").split())} != {leaves - 1}
        or len(facts["leaf_value"].split()) != leaves
        or (facts["num_cat"], facts.get("is_linear", "0")) != ("0", "0")
        or (kind % 2).any()  # categorical
        or not ((feature >= 0) & (feature < width)).all()
        or not ((children >= -leaves) & (children < leaves - 1)).all()
        or not ((children < 0) | (children > nodes)).all()
    ):
        raise ValueError("a tree's nodes don't fit together")
