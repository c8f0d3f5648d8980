"""Boosters from a stranger's folder."""

import re

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.predictors.gbm import Gbm, checked


@pytest.fixture(scope="module")
def fitted() -> Gbm:
    random = np.random.default_rng(0)
    prompts = PromptBatch([f"{word} {n}" for n in range(60) for word in ("cat", "a blue dog")])
    return Gbm(rounds=8, min_leaf=5).fit(prompts, random.normal(size=(120, 3)))


@pytest.fixture(scope="module")
def rows(fitted: Gbm) -> np.ndarray:
    return fitted._fitted.transform(PromptBatch(["cat 1", "a blue dog 2", "x"])).matrix()


class TestBoosterText:
    def test_same_predictions(self, fitted: Gbm, rows: np.ndarray) -> None:
        import lightgbm as lgb

        for text, booster in zip(fitted._texts, fitted._boosters, strict=True):
            np.testing.assert_array_equal(lgb.Booster(model_str=text).predict(rows), booster.predict(rows))

    @pytest.mark.parametrize(
        ("pattern", "new"),
        [
            (r"^split_feature=\d+", "split_feature=99999999"),
            (r"^split_feature=\d+", "split_feature=-1"),
            (r"^left_child=-?\d+", "left_child=0"),
            (r"^right_child=-?\d+", "right_child=-99999999"),
            (r"^decision_type=\d+", "decision_type=1"),
            (r"^leaf_value=\S+ ", "leaf_value="),
            (r"^num_leaves=\d+", "num_leaves=50000"),
            (r"^num_leaves=", "num_leaves=2\nnum_leaves="),
            (r"^num_cat=0", "num_cat=1"),
            (r"^num_tree_per_iteration=1", "num_tree_per_iteration=9"),
            (r"^max_feature_idx=\d+", "max_feature_idx=3"),
            (r"^Tree=0$", "Tree=0 "),
        ],
    )
    def test_refused(self, fitted: Gbm, rows: np.ndarray, pattern: str, new: str) -> None:
        (text, *_) = [text for text in fitted._texts if re.search(r"^left_child=", text, re.MULTILINE)]
        changed = re.sub(pattern, new, text, count=1, flags=re.MULTILINE)
        assert changed != text
        with pytest.raises(ValueError, match=r"booster|tree"):
            checked(changed, rows.shape[1])
