"""Conformal risk control: the threshold against its definition, coverage in simulation, honest refusals."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from promptroute.core.errors import UserError
from promptroute.routing import choices
from promptroute.routing.guarantees import abstain, calibrate, coverage, monotone_risk, novelty_threshold

from .instances import problems, simulated


def loss(predicted, true, cost, single, threshold, epsilon):
    choice = choices.cheapest_guaranteed(predicted, cost, single=single, threshold=threshold)
    return true[np.arange(len(true)), choice] < true[:, single] - epsilon


@given(problems(prompts=6), st.integers(0, 99), st.sampled_from([0.0, 0.5]))
def test_monotone_risk_definition(problem, seed, epsilon):
    predicted, cost = problem
    true = np.random.default_rng(seed).normal(size=predicted.shape)
    single = int(true.mean(axis=0).argmax())
    # Margins are multiples of an eighth: these thresholds fall on and between them all, from above to below.
    thresholds = np.arange(40, -41, -1) / 16
    losses = np.array([loss(predicted, true, cost, single, t, epsilon) for t in thresholds])
    expected = np.maximum.accumulate(losses, axis=0).mean(axis=1)
    got = monotone_risk(predicted, true, cost, thresholds, epsilon=epsilon, single=single)
    # Below 2.5 some margins are out of the net only where the choice above it is already bad.
    widest = np.abs(predicted - predicted[:, [single]]).max(initial=0.0)
    if widest <= 2.5:
        np.testing.assert_allclose(got, expected)
    assert (got >= losses.mean(axis=1) - 1e-12).all()
    assert (np.diff(got) >= 0).all()


@given(
    problems(prompts=30, least=1),
    st.integers(0, 99),
    st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.9]),
    st.sampled_from([0.0, 0.25, 1.0]),
)
def test_threshold_is_least(problem, seed, alpha, epsilon):
    predicted, cost = problem
    true = np.random.default_rng(seed).normal(size=predicted.shape)
    got = calibrate(predicted, true, cost, epsilon=epsilon, alpha=alpha)
    n = len(true)

    def bound(threshold):
        risk = monotone_risk(predicted, true, cost, [threshold], epsilon=epsilon, single=got.single)[0]
        return (n * risk + 1) / (n + 1)

    assert json.loads(json.dumps(got.model_dump(), allow_nan=False)) == got.model_dump()
    choice = got.decide(predicted, cost)
    if not got.given:
        assert got.threshold is None
        assert (choice == got.single).all()
        # No threshold that holds lets a cheaper model through.
        margins = predicted - predicted[:, [got.single]]
        for threshold in np.unique(margins[:, cost < cost[got.single]]) - 1e-9:
            assert bound(threshold) > alpha + 1e-12
        return
    assert bound(got.threshold) <= alpha + 1e-9
    assert got.bound == pytest.approx(bound(got.threshold))
    assert (cost[choice] < cost[got.single]).mean() == pytest.approx(got.cheaper_share)
    # Anything lower breaks the condition, unless every margin seen is let through already.
    margins = (predicted - predicted[:, [got.single]])[:, cost < cost[got.single]]
    if got.threshold >= margins.min():
        assert bound(got.threshold - 1e-9) > alpha


def test_threshold_by_hand():
    # The second model is cheaper. Margins are 0.9 .. 0.0; it falls short at 0.6, 0.3 and 0.1.
    margin = np.arange(9, -1, -1) / 10
    predicted = np.column_stack([np.zeros(10), margin])
    true = np.column_stack([np.ones(10), np.where(np.isin(margin, [0.6, 0.3, 0.1]), 0.0, 1.0)])
    cost = [2.0, 1.0]
    # (10 R + 1) / 11 <= alpha: one loss is allowed from 2 / 11 on, none from 1 / 11.
    got = calibrate(predicted, true, cost, epsilon=0.5, alpha=0.1, single=0)
    assert (got.threshold, got.risk, got.bound, got.cheaper_share) == (0.6, 0.0, 1 / 11, 0.3)
    got = calibrate(predicted, true, cost, epsilon=0.5, alpha=0.2, single=0)
    assert (got.threshold, got.risk, got.bound, got.cheaper_share) == (0.3, 0.1, 2 / 11, 0.6)
    got = calibrate(predicted, true, cost, epsilon=0.5, alpha=0.5, single=0)
    assert got.threshold < 0
    assert (got.risk, got.cheaper_share) == (0.3, 1.0)
    assert "within 0.5 of the best single model's quality with probability 0.5: given" in got.statement


@pytest.mark.parametrize(("epsilon", "alpha"), [(0.0, 0.4), (0.5, 0.2), (0.5, 0.05), (1.5, 0.1)])
def test_coverage_on_average(epsilon, alpha):
    covered, cheaper = [], []
    for seed in range(300):
        predicted, true, cost = simulated(100 + 50, seed=seed, skill=0.6)
        # The best single model is known beforehand, as the theorem asks.
        got = calibrate(predicted[:100], true[:100], cost, epsilon=epsilon, alpha=alpha, single=0)
        choice = got.decide(predicted[100:], cost)
        covered.append(coverage(true[100:], choice, single=0, epsilon=epsilon).share)
        cheaper.append((choice != 0).mean())
    # Three standard errors of the mean over calibration sets.
    assert np.mean(covered) >= 1 - alpha - 3 * np.std(covered) / np.sqrt(300)
    assert np.mean(cheaper) > 0.02


def test_coverage_is_tight():
    # With one cheaper model the loss is monotone as it stands, and the method tight up to 1 / (n + 1).
    shares = []
    for seed in range(300):
        predicted, true, cost = simulated(400, seed=seed, skill=0.6)
        predicted, true, cost = predicted[:, :2], true[:, :2], cost[:2]
        got = calibrate(predicted[:200], true[:200], cost, epsilon=0.5, alpha=0.2, single=0)
        choice = got.decide(predicted[200:], cost)
        shares.append(coverage(true[200:], choice, single=0, epsilon=0.5).share)
    error = np.std(shares) / np.sqrt(300)
    assert 0.8 - 3 * error <= np.mean(shares) <= 0.8 + 1 / 201 + 3 * error


@pytest.mark.parametrize(
    ("predicted", "true", "cost", "alpha", "why"),
    [
        # Four prompts: 1 / 5 is the least that any calibration can promise.
        ([[0.0, 1.0]] * 4, [[1.0, 1.0]] * 4, [2.0, 1.0], 0.1, "4 calibration prompts are too few, .* 9"),
        # The best single model is the cheapest.
        ([[0.0, 1.0]] * 9, [[1.0, 0.0]] * 9, [1.0, 2.0], 0.5, "no model is cheaper"),
        # The cheaper model is predicted better and always falls short.
        ([[0.0, 1.0]] * 9, [[1.0, 0.0]] * 9, [2.0, 1.0], 0.5, "don't tell well enough"),
    ],
)
def test_not_given(predicted, true, cost, alpha, why):
    got = calibrate(predicted, true, cost, epsilon=0.1, alpha=alpha)
    assert (got.given, got.threshold, got.cheaper_share) == (False, None, 0.0)
    assert re.search(why, got.statement)
    assert "not given" in got.statement
    assert (got.decide(predicted, cost) == got.single).all()


def test_nine_prompts_enough():
    got = calibrate([[0.0, 1.0]] * 9, [[1.0, 1.0]] * 9, [2.0, 1.0], epsilon=0.1, alpha=0.1, single=0)
    assert got.given
    assert got.bound == 0.1


def test_coverage_by_hand():
    true = np.array([[1.0, 0.5], [1.0, 0.4], [1.0, 2.0], [1.0, 0.0]])
    got = coverage(true, [1, 1, 1, 0], single=0, epsilon=0.5)
    assert (got.share, got.prompts) == (0.75, 4)
    expected = binomtest(3, 4).proportion_ci(method="wilson")
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high))


def test_abstain_by_hand():
    choice = np.array([1, 1, 2])
    assert abstain(choice, np.array([True, False, True]), safest=0).tolist() == [0, 1, 0]
    assert abstain(choice, [0.1, 0.5, 0.9], safest=0, threshold=0.5).tolist() == [1, 1, 0]
    assert choice.tolist() == [1, 1, 2]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.floats(0, 1))
def test_novelty_threshold(scores, share):
    threshold = novelty_threshold(scores, share)
    scores = np.array(scores)
    assert (scores > threshold).mean() <= share + 1e-9
    lower = scores[scores < threshold]
    if len(lower):
        assert (scores > lower.max()).mean() > share - 1e-9


def test_abstaining_limits_harm():
    predicted, true, cost = simulated(2000, seed=0, skill=0.8)
    strange = np.arange(2000) >= 1000
    # On strange prompts the prediction is worthless and the cheap model fails.
    true[strange, 1] -= 3
    choice = choices.cost_aware(predicted, cost, tradeoff=6000.0)
    safe = abstain(choice, strange, safest=0)
    rows = np.arange(2000)
    assert true[rows, choice][strange].mean() < true[strange, 0].mean() - 0.5
    assert true[rows, safe][strange].mean() == true[strange, 0].mean()
    np.testing.assert_array_equal(safe[~strange], choice[~strange])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: calibrate([[1.0]], [[1.0]], [1.0], epsilon=0.1, alpha=0.0), "alpha is 0.0"),
        (lambda: calibrate([[1.0]], [[1.0]], [1.0], epsilon=0.1, alpha=1), "alpha is 1"),
        (lambda: calibrate([[1.0]], [[1.0]], [1.0], epsilon=-0.1, alpha=0.1), "epsilon is -0.1"),
    ],
)
def test_bad_settings(call, says):
    with pytest.raises(UserError, match=says):
        call()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: abstain([0, 1], [True], safest=0), "expected one per prompt"),
        (lambda: abstain([0, 1], [0.5, 0.1], safest=0), "expected booleans, or give a threshold"),
        (lambda: abstain([0, 1], [0.5, np.nan], safest=0, threshold=0.1), "without NaN"),
        (lambda: novelty_threshold([], 0.1), "non-empty"),
        (lambda: novelty_threshold([1.0], 1.1), "share is 1.1"),
    ],
)
def test_bad_arguments(call, says):
    with pytest.raises(ValueError, match=says):
        call()
