"""Novelty by hand, and which prompts are out-of-distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.routing.base import Training
from promptroute.routing.guarantees import abstain
from promptroute.routing.ood import OodDetector, novelty
from promptroute.routing.policies import BestPredicted
from promptroute.routing.wrappers import WithOodFallback

AXES = np.array([[1.0, 0, 0], [0, 2.0, 0], [3.0, 0, 0]])


def test_novelty_by_hand():
    # Cosines of (1, 1, 0) with the rows: √½ each; of (0, 0, 5): 0; of (-1, 0, 0): -1, 0, -1.
    queries = [[1, 1, 0], [0, 0, 5], [-1, 0, 0], [7, 0, 0]]
    np.testing.assert_allclose(novelty(queries, AXES, neighbours=1), [1 - 0.5**0.5, 1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(novelty(queries, AXES, neighbours=2), [1 - 0.5**0.5, 1, 1.5, 0], atol=1e-6)
    np.testing.assert_allclose(novelty(queries, AXES, neighbours=99)[2:], [5 / 3, 1 / 3], atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 12))
def test_novelty_definition(seed, rows, neighbours):
    random = np.random.default_rng(seed)
    train, queries = random.normal(size=(rows, 4)), random.normal(size=(600, 4))
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    cosines = np.sort(unit(queries) @ unit(train).T, axis=1)[:, ::-1]
    expected = 1 - cosines[:, :neighbours].mean(axis=1)
    np.testing.assert_allclose(novelty(queries, train, neighbours=neighbours), expected, atol=1e-5)


def test_far_prompts_are_sent_away():
    random = np.random.default_rng(0)
    axes = 6 * np.eye(8)
    here = lambda n: random.normal(size=(n, 8)) + axes[0]  # noqa: E731
    there = random.normal(size=(50, 8)) + axes[1]
    validation, near = here(200), here(200)
    detector = OodDetector.fit(here(500), validation, share=0.05)
    on_validation = abstain(np.zeros(200, np.int64), detector.flags(validation), safest=2)
    assert (on_validation == 2).sum() == 10  # a share of 5 %
    assert detector.flags(near).mean() < 0.15
    assert (abstain(np.arange(50) % 2, detector.flags(there), safest=2) == 2).all()
    assert not OodDetector.fit(here(500), validation, share=0.0).flags(validation).any()
    assert OodDetector.fit(here(500), validation, share=1.0).flags(validation).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"embeddings are \(1, 2\) and train \(3, 3\)"):
        novelty([[1, 2]], AXES)
    with pytest.raises(ValueError, match="one row or more"):
        novelty([[1.0, 2, 3]], np.zeros((0, 3)))
    with pytest.raises(UserError, match="neighbours is 0"):
        novelty(AXES, AXES, neighbours=0)
    with pytest.raises(ValueError, match=r"train\[0, 1\] is nan"):
        novelty(AXES, [[1, np.nan, 0]])


def test_flags_are_novelty_above_threshold():
    random = np.random.default_rng(1)
    train, queries = random.normal(size=(80, 5)), random.normal(size=(70, 5))
    detector = OodDetector.fit(train, queries, share=0.2, neighbours=3)
    expected = novelty(queries, train, neighbours=3) > detector.threshold
    np.testing.assert_array_equal(detector.flags(queries), expected)
    assert expected.sum() == 14
    one_by_one = np.concatenate([detector.flags(queries[i : i + 1]) for i in range(70)])
    np.testing.assert_array_equal(one_by_one, expected)


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_a_given_threshold_stays(threshold: float | None) -> None:
    random = np.random.default_rng(0)
    quality, rows = random.normal(size=(20, 2)), random.normal(size=(20, 3))
    training = Training(models=["a", "b"], train={"e": AXES}, validation={"e": rows})
    policy = WithOodFallback(policy=BestPredicted(), neighbours=1, threshold=threshold)
    fitted = policy.calibrate(quality, quality, np.array([1.0, 2.0]), training)
    assert isinstance(fitted, WithOodFallback)
    sent = fitted.out_of_distribution({"e": rows})
    assert sent is not None
    if threshold is None:
        assert sent.mean() <= fitted.share == 0.05
    else:
        np.testing.assert_array_equal(sent, novelty(rows, AXES, neighbours=1) > threshold)
        assert fitted.threshold == threshold and fitted.share == sent.mean() > 0.05
