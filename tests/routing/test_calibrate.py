"""Operating points set on validation: against trying them all, and what is returned where none will do."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.evaluation import metrics
from promptroute.routing import choices
from promptroute.routing.calibrate import set_point
from promptroute.routing.frontier import trace
from promptroute.routing.policies import CheapestWithin, CostAware, Single
from promptroute.routing.wrappers import WithMargin

from .instances import problems, simulated

POLICIES = st.sampled_from([CostAware, CheapestWithin])


def apply(policy, predicted, cost, point):
    if policy is CostAware:
        return choices.cost_aware(predicted, cost, tradeoff=point)
    return choices.cheapest_within(predicted, cost, slack=point)


def best_from(calibrated):
    """The facts of a calibrated policy, and whether an operating point met the target."""
    facts = calibrated.calibration
    assert facts.reached == (not isinstance(calibrated, Single))
    return facts


def test_targets_by_hand():
    predicted = np.array([[1.0, 0.0], [0.5, 0.4]])
    true = np.array([[5.0, 1.0], [2.0, 3.0]])
    cost = np.array([4.0, 1.0])
    # (cost, quality) by falling lambda: (1, 2), (2.5, 4), (4, 3.5); best single: 3.5 at 4 dollars.
    for target in ("quality", "cost"):
        got = CostAware(target=target).calibrate(predicted, true, cost)
        facts = best_from(got)
        assert (type(got), facts.reached, facts.single) == (CostAware, True, 0)
        assert (facts.quality, facts.cost, facts.single_quality, facts.single_cost) == (4.0, 2.5, 3.5, 4.0)
        assert facts.mean_quality == [3.5, 2.0]
        assert 0.1 / 3 < got.tradeoff < 1 / 3
        assert got.choose(predicted, cost).tolist() == [0, 1]
    # (1, 2) alone is within 2 dollars; no more than the most is asked of 3.
    for budget, quality, paid in ((2.0, 2.0, 1.0), (3.0, 4.0, 2.5)):
        got = CostAware(target="cost", budget=budget).calibrate(predicted, true, cost)
        facts = best_from(got)
        assert (facts.quality, facts.cost, facts.reason) == (quality, paid, "most quality within the budget")
    facts = best_from(CostAware(target="cost", budget=0.5).calibrate(predicted, true, cost))
    assert not facts.reached and facts.reason.startswith("every model costs more than the budget, so every")
    # Compared with the cheaper model (2 at 1 dollar), that model's cost allows only itself.
    _, facts = set_point(CostAware.steps, predicted, true, cost, "cost", single=1)
    assert (facts.quality, facts.cost, facts.reached) == (2.0, 1.0, True)


@given(problems(prompts=8, least=1), st.integers(0, 99), POLICIES, st.sampled_from([0.0, 0.5, 2.0]))
@example((np.array([[0.0, -0.125, 0.125]]), np.array([0.5, 0.25, 0.75])), 35, CostAware, 0.5)
def test_quality_target_exhaustively(problem, seed, policy, errors):
    predicted, cost = problem
    true = np.random.default_rng(seed).normal(size=predicted.shape)
    got = policy(target="quality", standard_errors=errors).calibrate(predicted, true, cost)
    facts = best_from(got)
    single = metrics.best_single(true)
    rows, n = np.arange(len(true)), len(true)
    fits = []
    for point in trace(predicted, true, cost, steps_of=policy.steps).points:
        choice = apply(policy, predicted, cost, point)
        lead = true[rows, choice] - true[:, single]
        error = lead.std(ddof=1) / np.sqrt(n) if n > 1 else 0.0
        if lead.mean() >= errors * error - 1e-9 and cost[choice].mean() <= cost[single] + 1e-9:
            fits.append(cost[choice].mean())
    assert facts.reached == bool(fits)
    choice = got.choose(predicted, cost)
    assert cost[choice].mean() == pytest.approx(min(fits, default=cost[single]))
    assert facts.cost == pytest.approx(cost[choice].mean())
    assert facts.quality == pytest.approx(true[rows, choice].mean())
    assert facts.quality >= facts.single_quality - 1e-8
    assert facts.cost <= facts.single_cost + 1e-8


@given(problems(prompts=8), st.integers(0, 99), POLICIES)
def test_cost_target_exhaustively(problem, seed, policy):
    predicted, cost = problem
    true = np.random.default_rng(seed).normal(size=predicted.shape)
    got = policy(target="cost").calibrate(predicted, true, cost)
    facts = best_from(got)
    single = metrics.best_single(true)
    rows = np.arange(len(true))
    best = true[:, single].mean()
    for point in trace(predicted, true, cost, steps_of=policy.steps).points:
        choice = apply(policy, predicted, cost, point)
        if cost[choice].mean() <= cost[single] + 1e-9:
            best = max(best, true[rows, choice].mean())
    choice = got.choose(predicted, cost)
    assert true[rows, choice].mean() == pytest.approx(best)
    assert cost[choice].mean() <= cost[single] + 1e-9
    assert (facts.quality, facts.cost) == pytest.approx((best, cost[choice].mean()))


@given(problems(prompts=8), POLICIES, st.sampled_from(["quality", "cost"]))
def test_plain_finite_repeatable(problem, policy, target):
    quality, cost = problem
    got = policy(target=target).calibrate(quality, quality, cost)
    assert json.loads(json.dumps(got.to_section(), allow_nan=False)) == got.to_section()
    assert got == policy(target=target).calibrate(quality, quality, cost)


def test_cheapest_everywhere_is_finite():
    # The cheaper model is the better one, though predicted worse.
    predicted, true = np.array([[1.0, 0.5], [1.0, 0.2]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    for policy in (CostAware(), CheapestWithin()):
        got = policy.calibrate(predicted, true, [2.0, 1.0])
        assert np.isfinite(got.point)
        assert got.choose(predicted, [2.0, 1.0]).tolist() == [1, 1]


def test_target_not_met():
    true = np.array([[1.0, 0.0], [1.0, 0.0]])
    upside_down = -true
    got = CostAware().calibrate(upside_down, true, [2.0, 1.0])
    facts = best_from(got)
    assert (type(got), got.model, facts.reached, facts.single) == (Single, 0, False, 0)
    assert (facts.quality, facts.cost) == (1.0, 2.0)
    assert "no operating point reaches" in facts.reason
    assert got.choose(upside_down, [2.0, 1.0]).tolist() == [0, 0]
    facts = best_from(CheapestWithin(target="cost").calibrate(upside_down, true, [2.0, 1.0]))
    assert not facts.reached
    assert "no more than the best single model's cost" in facts.reason
    # Reached, but only by paying for a model that is more expensive and no better.
    predicted, true = np.array([[0.0, 0.0, 9.0]] * 2), np.array([[0.0, 1.0, 1.0]] * 2)
    cost = np.array([1.0, 4.0, 4.5])
    point, facts = set_point(CostAware.steps, predicted, true, cost, "quality", single=1)
    assert (point, facts.reached) == (None, False)
    assert "only at more than that model's cost" in facts.reason


def test_given_point_is_kept():
    predicted, true, cost = simulated(50, seed=0)
    got = CostAware(tradeoff=700.0).calibrate(predicted, true, cost)
    choice = choices.cost_aware(predicted, cost, tradeoff=700.0)
    assert got.tradeoff == 700.0
    assert got.calibration.cost == pytest.approx(cost[choice].mean())
    assert got.calibration.quality == pytest.approx(true[np.arange(50), choice].mean())


def test_standard_errors_make_quality_safer():
    held = {0.0: [], 1.5: []}
    for seed in range(60):
        predicted, true, cost = simulated(800, seed=seed, skill=0.4)
        validation, test = slice(0, 400), slice(400, 800)
        for errors, kept in held.items():
            got = CostAware(standard_errors=errors).calibrate(predicted[validation], true[validation], cost)
            row = metrics.strategy(true[test], cost, got.choose(predicted[test], cost))
            kept.append(row.quality >= true[test, got.calibration.single].mean())
    assert np.mean(held[1.5]) >= np.mean(held[0.0]) + 0.1
    assert np.mean(held[1.5]) >= 0.75


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target": "speed"}, "target is 'speed'; expected 'quality' or 'cost'"),
        ({"target": "cost", "standard_errors": 1.0}, "standard_errors is 1.0 for target 'cost'"),
        ({"budget": 0.1}, "budget is 0.1 for target 'quality', expected null"),
        ({"standard_errors": -1.0}, "standard_errors is -1.0"),
        ({"tradeoff": -1.0}, "tradeoff is -1.0"),
    ],
)
def test_bad_settings(settings, says):
    with pytest.raises(UserError, match=says):
        CostAware(**settings)


class TestMargin:
    @given(problems(prompts=8), st.integers(0, 99), POLICIES, st.sampled_from([0.0, 0.125, 0.5, 99.0]))
    def test_fewer_leave_the_best_single(self, problem, seed, policy, margin):
        predicted, cost = problem
        true = np.random.default_rng(seed).normal(size=predicted.shape)
        plain = policy().calibrate(predicted, true, cost)
        got = WithMargin(policy=policy(), margin=margin).calibrate(predicted, true, cost)
        assert got.policy == plain
        assert json.loads(json.dumps(got.to_section(), allow_nan=False)) == got.to_section()
        facts, single = got.calibration, plain.calibration.single
        before, choice = plain.choose(predicted, cost), got.choose(predicted, cost)
        assert (choice[before == single] == single).all()
        assert cost[choice].mean() == pytest.approx(facts.cost)
        assert true[np.arange(len(true)), choice].mean() == pytest.approx(facts.quality)
        if margin == 0:
            assert (facts.cost, facts.quality) == pytest.approx(
                (plain.calibration.cost, plain.calibration.quality)
            )
        if margin == 99.0:  # beyond any prediction and price of these problems
            assert (choice == single).all()

    def test_by_hand(self):
        predicted = np.array([[1.0, 1.3], [1.0, 1.1], [1.0, 0.5]])
        # The first model is the best single one, by a little.
        true = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 0.9]])
        plain = CostAware(target="cost").calibrate(predicted, true, [2.0, 1.0])
        # The first two go to the cheaper model, for a loss of nothing; the third is 0.5 worse there.
        assert 0 <= plain.tradeoff < 0.5
        got = WithMargin(policy=plain, margin=plain.tradeoff + 0.2).calibrate(predicted, true, [2.0, 1.0])
        # The first gains 0.3 and the price's λ, which is 0.1 above the margin; the second gains 0.1 below it.
        assert got.choose(predicted, [2.0, 1.0]).tolist() == [1, 0, 0]
        assert (got.calibration.quality, got.calibration.cost) == (pytest.approx(4 / 3), pytest.approx(5 / 3))
        with pytest.raises(UserError, match="margin is -1"):
            WithMargin(policy=plain, margin=-1.0)
