"""Ensembles: means, and weights that are fitted."""

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.cems_frozen import CemsFrozen
from promptroute.predictors.ensemble import Ensemble
from promptroute.predictors.mean import Mean
from promptroute.predictors.ridge import Ridge


def spread(quality: np.ndarray) -> np.ndarray:
    return quality - quality.mean(1, keepdims=True)


def test_equal_is_mean(problem) -> None:  # type: ignore[no-untyped-def]
    train, quality = problem()
    members = {"ridge": Ridge(), "mean": Mean()}
    predicted = Ensemble(members=members).fit(train, quality).predict(train)
    np.testing.assert_allclose(
        predicted, (members["ridge"].predict(train) + members["mean"].predict(train)) / 2
    )


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
