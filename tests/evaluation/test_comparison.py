"""The consistency study's statistics, by hand."""

import numpy as np
import pytest
from scipy import stats

from promptroute.core.errors import UserError
from promptroute.evaluation.comparison import compare_models


def test_two_models_by_hand() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    found = compare_models({"a": a, "b": a + np.array([1, 2, 3, 4, 5])})
    assert found["prompts"] == 5
    assert found["models"]["a"]["mean"] == 4 and found["models"]["a"]["median"] == 3
    assert found["models"]["a"]["std"] == pytest.approx(np.sqrt(12.5))
    (pair,) = found["pairs"].values()
    assert list(found["pairs"]) == ["a / b"] and pair["mean_difference"] == -3
    # All five differences have one sign: W = 0, exact p = 2 / 2^5. One pair, so nothing to correct.
    assert pair["wilcoxon"] == 0 and pair["wilcoxon_p"] == pytest.approx(2 / 32)
    # Of {1, 2, 3, 4, 10} three lie at or below 3, of {2, 4, 6, 8, 15} one: the largest gap is 2/5.
    assert pair["ks"] == pytest.approx(0.4)


def test_correction_for_pairs() -> None:
    random = np.random.default_rng(0)
    base = random.normal(50, 5, 40)
    scores = {"a": base, "b": base + random.normal(1, 2, 40), "c": base + random.normal(0, 2, 40)}
    found = compare_models(scores)["pairs"]
    assert list(found) == ["a / b", "a / c", "b / c"]
    raw = [stats.wilcoxon(scores[x], scores[y]).pvalue for x, y in (("a", "b"), ("a", "c"), ("b", "c"))]
    # Holm by hand: sorted p(1) ≤ p(2) ≤ p(3) times 3, 2, 1, the largest so far, at most 1.
    factors = np.maximum.accumulate(np.array([3, 2, 1]) * np.sort(raw)).clip(max=1)
    expected = factors[np.argsort(np.argsort(raw))]
    np.testing.assert_allclose([pair["wilcoxon_p"] for pair in found.values()], expected, rtol=1e-12)


def test_normality() -> None:
    random = np.random.default_rng(0)
    found = compare_models({"normal": random.normal(size=300), "skewed": random.exponential(size=300)})[
        "models"
    ]
    assert found["normal"]["ks_normal_p"] > 0.05 > found["skewed"]["ks_normal_p"]


def test_equal_scores_say_nothing() -> None:
    found = compare_models({"a": np.ones(4), "b": np.ones(4)})
    assert found["models"]["a"]["ks_normal_p"] == 1 and np.isnan(found["models"]["a"]["ks_normal"])
    assert found["pairs"]["a / b"]["wilcoxon_p"] == 1


def test_single_model() -> None:
    assert compare_models({"a": np.arange(4.0)})["pairs"] == {}


def test_models_must_share_their_prompts() -> None:
    with pytest.raises(UserError, match=r"\{'a': 3, 'b': 2\}; give each model the same prompts"):
        compare_models({"a": np.ones(3), "b": np.ones(2)})
