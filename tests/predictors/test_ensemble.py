"""Ensembles: means, and weights that are fitted."""

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.predictors.base import Predictor
from promptroute.predictors.cems_frozen import CemsFrozen
from promptroute.predictors.ensemble import Ensemble
from promptroute.predictors.kernel import Kernel
from promptroute.predictors.kernel_statistics import KernelStatistics
from promptroute.predictors.mean import Mean
from promptroute.predictors.ridge import Ridge
from promptroute.predictors.targets import text_folds
from promptroute.predictors.text_statistics import TextStatistics


def spread(quality: np.ndarray) -> np.ndarray:
    return quality - quality.mean(1, keepdims=True)


def test_equal_is_mean(problem) -> None:  # type: ignore[no-untyped-def]
    train, quality = problem()
    members = {"ridge": Ridge(), "mean": Mean()}
    predicted = Ensemble(members=members).fit(train, quality).predict(train)
    np.testing.assert_allclose(
        predicted, (members["ridge"].predict(train) + members["mean"].predict(train)) / 2
    )


class TestOutOfFold:
    def test_mean_of_members(self, problem) -> None:  # type: ignore[no-untyped-def]
        (train, quality), held = problem(40), problem(12, seed=1)
        kernel = {"encoder": "one", "width": None}
        both = Ensemble(members={"kernel": Kernel(**kernel), "ridge": Ridge()}, seed=3).fit(
            train, quality, held
        )
        whole, values = train.joined(held[0]), np.vstack([quality, held[1]])
        alone = Kernel(**kernel).fit(train, quality, held)
        left_out = np.empty(values.shape)
        fold = text_folds(whole.texts, 5, 3)
        for part in range(5):
            rest, own = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
            left_out[own] = Ridge().fit(whole.take(rest), values[rest]).predict(whole.take(own))
        assert both.out_of_fold is not None and alone.out_of_fold is not None
        np.testing.assert_allclose(both.out_of_fold, (alone.out_of_fold + left_out) / 2)
        ridge = Ridge().fit(whole, values)  # learns from validation too, as the kernel does
        np.testing.assert_allclose(
            both.predict(held[0]), (alone.predict(held[0]) + ridge.predict(held[0])) / 2
        )

    def test_none_where_none_learns_from_validation(self, problem) -> None:  # type: ignore[no-untyped-def]
        (train, quality), held = problem(40), problem(12, seed=1)
        members = {"ridge": Ridge(), "mean": Mean()}
        assert Ensemble(members=members).fit(train, quality, held).out_of_fold is None


def test_kernel_statistics(problem) -> None:  # type: ignore[no-untyped-def]
    (train, quality), held = problem(60), problem(12, seed=1)
    batch, held = PromptBatch(train.texts), (PromptBatch(held[0].texts), held[1])
    section = {
        "_target_": Ensemble.class_path(),
        "members": {
            "kernel": {"_target_": Kernel.class_path(), "seed": 3},
            "statistics": {"_target_": TextStatistics.class_path(), "seed": 3},
        },
        "seed": 3,
    }
    spelled = build(section, "predictor", Predictor).fit(batch, quality, held)
    short = KernelStatistics(seed=3)
    assert short.settings() == {"seed": 3}
    short.fit(batch, quality, held)
    np.testing.assert_array_equal(short.predict(held[0]), spelled.predict(held[0]))
    np.testing.assert_array_equal(short.out_of_fold, spelled.out_of_fold)


class Echo(Mean):
    """Predicts what its embeddings say."""

    name: str

    def _predict(self, prompts: PromptBatch) -> np.ndarray:
        return prompts.embeddings[self.name].astype(float)


def test_fitted_weights() -> None:
    random = np.random.default_rng(0)
    differences = [spread(random.normal(size=(400, 3))) for _ in range(3)]
    level = random.normal(size=(400, 1))
    quality = (
        np.array([7, 8, 9]) + 2 * differences[0] + 0.5 * differences[1] - 0.3 * differences[2] + 3 * level
    )
    names = ("good", "fair", "wrong")
    batch = PromptBatch(
        [f"p{i}" for i in range(400)], {n: d + level for n, d in zip(names, differences, strict=True)}
    )
    ensemble = Ensemble(members={n: Echo(name=n) for n in names}, weighting="fitted").fit(
        batch, quality, (batch, quality)
    )
    np.testing.assert_allclose(ensemble._factors[0], [2, 0.5, 0], atol=0.05)
    assert ensemble._factors[1].sum() == pytest.approx(3)  # all three carry the same level
    left = quality - ensemble.predict(batch)
    np.testing.assert_allclose(left.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(spread(left), spread(-0.3 * differences[2]), atol=0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ensemble(weighting="best", members={"mean": Mean()}), "expected 'equal' or 'fitted'"),
        (lambda: Ensemble(members={"../up": Mean()}), "ensemble member '../up'"),
        (lambda: Ensemble(members={}), "members is"),
        (lambda: Ensemble(), "members is missing"),
        (
            lambda: Ensemble(members={"mean": Mean()}, weighting="fitted").fit(
                PromptBatch(["a"]), np.ones((1, 2))
            ),
            "need validation prompts",
        ),
        (
            lambda: Ensemble(members={"mean": Mean(), "votes": CemsFrozen()}).fit(
                PromptBatch(["a"]), np.ones((1, 2))
            ),
            "members predict in different units .*; set weighting to fitted",
        ),
    ],
)
def test_refusals(make, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        make()
