"""Knobs set on validation: against trying every knob, and what is returned where none will do."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.evaluation import metrics
from promptroute.routing import policies
from promptroute.routing.calibrate import choose, favouring
from promptroute.routing.frontier import trace

from .instances import problems, simulated

POLICIES = st.sampled_from(["cost_aware", "cheapest_within"])


def apply(policy, predicted, cost, knob):
    if policy == "cost_aware":
        return policies.cost_aware(predicted, cost, tradeoff=knob)
    return policies.cheapest_within(predicted, cost, slack=knob)


def test_targets_by_hand():
    predicted = np.array([[1.0, 0.0], [0.5, 0.4]])
    true = np.array([[5.0, 1.0], [2.0, 3.0]])
    cost = np.array([4.0, 1.0])
    # (cost, quality) by falling lambda: (1, 2), (2.5, 4), (4, 3.5); best single: 3.5 at 4 dollars.
    for target in ("quality", "cost"):
        got = choose("cost_aware", predicted, true, cost, target)
        assert (got.policy, got.reached, got.single) == ("cost_aware", True, 0)
        assert (got.quality, got.cost, got.single_quality, got.single_cost) == (4.0, 2.5, 3.5, 4.0)
        assert 0.1 / 3 < got.knob < 1 / 3
        assert got.decide(predicted, cost).tolist() == [0, 1]
    # Compared with the cheaper model (2 at 1 dollar), that one's cost allows only itself.
    got = choose("cost_aware", predicted, true, cost, "cost", single=1)
    assert (got.quality, got.cost, got.reached) == (2.0, 1.0, True)


@given(problems(prompts=8, least=1), st.integers(0, 99), POLICIES, st.sampled_from([0.0, 0.5, 2.0]))
@example((np.array([[0.0, -0.125, 0.125]]), np.array([0.5, 0.25, 0.75])), 35, "cost_aware", 0.5)
def test_quality_target_against_trying_every_knob(problem, seed, policy, margin):
    predicted, cost = problem
    true = np.random.default_rng(seed).normal(size=predicted.shape)
    got = choose(policy, predicted, true, cost, "quality", margin=margin)
    single = metrics.best_single(true)
    rows, n = np.arange(len(true)), len(true)
    fits = []
    for knob in trace(predicted, true, cost, policy=policy).knobs:
        choice = apply(policy, predicted, cost, knob)
        lead = true[rows, choice] - true[:, single]
        error = lead.std(ddof=1) / np.sqrt(n) if n > 1 else 0.0
        if lead.mean() >= margin * error - 1e-9 and cost[choice].mean() <= cost[single] + 1e-9:
            fits.append(cost[choice].mean())
    assert got.reached == bool(fits)
    choice = got.decide(predicted, cost)
    assert cost[choice].mean() == pytest.approx(min(fits, default=cost[single]))
    assert got.cost == pytest.approx(cost[choice].mean())
    assert got.quality == pytest.approx(true[rows, choice].mean())
    assert got.quality >= got.single_quality - 1e-8
    assert got.cost <= got.single_cost + 1e-8


@given(problems(prompts=8), st.integers(0, 99), POLICIES)
def test_cost_target_against_trying_every_knob(problem, seed, policy):
    predicted, cost = problem
    true = np.random.default_rng(seed).normal(size=predicted.shape)
    got = choose(policy, predicted, true, cost, "cost")
    single = metrics.best_single(true)
    rows = np.arange(len(true))
    best = true[:, single].mean()
    for knob in trace(predicted, true, cost, policy=policy).knobs:
        choice = apply(policy, predicted, cost, knob)
        if cost[choice].mean() <= cost[single] + 1e-9:
            best = max(best, true[rows, choice].mean())
    choice = got.decide(predicted, cost)
    assert true[rows, choice].mean() == pytest.approx(best)
    assert cost[choice].mean() <= cost[single] + 1e-9
    assert (got.quality, got.cost) == pytest.approx((best, cost[choice].mean()))


@given(problems(prompts=8), POLICIES, st.sampled_from(["quality", "cost"]))
def test_the_record_is_plain_finite_and_repeatable(problem, policy, target):
    quality, cost = problem
    got = choose(policy, quality, quality, cost, target)
    assert json.loads(json.dumps(asdict(got), allow_nan=False)) == asdict(got)
    assert got == choose(policy, quality, quality, cost, target)


def test_the_cheapest_model_everywhere_is_a_finite_knob():
    # The cheaper model is the better one, though predicted worse.
    predicted, true = np.array([[1.0, 0.5], [1.0, 0.2]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    for policy in ("cost_aware", "cheapest_within"):
        got = choose(policy, predicted, true, [2.0, 1.0], "quality")
        assert np.isfinite(got.knob)
        assert got.decide(predicted, [2.0, 1.0]).tolist() == [1, 1]


def test_fallback_to_the_best_single_model_says_why():
    true = np.array([[1.0, 0.0], [1.0, 0.0]])
    upside_down = -true
    got = choose("cost_aware", upside_down, true, [2.0, 1.0], "quality")
    assert (got.policy, got.knob, got.reached, got.single) == ("single", None, False, 0)
    assert (got.quality, got.cost) == (1.0, 2.0)
    assert "no knob reaches" in got.reason
    assert got.decide(upside_down, [2.0, 1.0]).tolist() == [0, 0]
    got = choose("cheapest_within", upside_down, true, [2.0, 1.0], "cost")
    assert not got.reached
    assert "no more than the best single model's cost" in got.reason
    # Reached, but only by paying for a model that is dearer and no better.
    predicted, true = [[0.0, 0.0, 9.0]] * 2, [[0.0, 1.0, 1.0]] * 2
    got = choose("cost_aware", predicted, true, [1.0, 4.0, 4.5], "quality", single=1)
    assert (got.policy, got.reached) == ("single", False)
    assert "only at more than that model's cost" in got.reason


def test_margin_makes_the_quality_target_safer_on_new_prompts():
    held = {0.0: [], 1.5: []}
    for seed in range(60):
        predicted, true, cost = simulated(800, seed=seed, skill=0.4)
        validation, test = slice(0, 400), slice(400, 800)
        for margin, kept in held.items():
            known = predicted[validation], true[validation]
            got = choose("cost_aware", *known, cost, "quality", margin=margin)
            row = metrics.strategy(true[test], cost, got.decide(predicted[test], cost))
            kept.append(row.quality >= true[test, got.single].mean())
    assert np.mean(held[1.5]) >= np.mean(held[0.0]) + 0.1
    assert np.mean(held[1.5]) >= 0.75


@pytest.mark.parametrize(
    ("kind", "target", "margin", "says"),
    [
        ("cost_aware", "speed", 0.0, "target is 'speed', expected 'quality' or 'cost'"),
        ("random", "cost", 0.0, "policy is 'random', expected 'cost_aware' or 'cheapest_within'"),
        ("cost_aware", "cost", 1.0, "margin is 1.0 for target 'cost'"),
        ("cost_aware", "quality", -1.0, "margin is -1.0"),
    ],
)
def test_bad_settings_are_named(kind, target, margin, says):
    with pytest.raises(UserError, match=says):
        choose(kind, [[1.0, 2.0]], [[1.0, 2.0]], [1.0, 2.0], target, margin=margin)


@given(problems(prompts=8), st.integers(0, 99), POLICIES, st.sampled_from([0.0, 0.125, 0.5, 99.0]))
def test_a_margin_leaves_the_knob_and_the_best_single_model_to_fewer_prompts(problem, seed, policy, favour):
    predicted, cost = problem
    true = np.random.default_rng(seed).normal(size=predicted.shape)
    plain = choose(policy, predicted, true, cost, "quality")
    got = favouring(plain, predicted, true, cost, favour)
    assert (got.knob, got.single, got.favour) == (plain.knob, plain.single, favour)
    assert json.loads(json.dumps(asdict(got), allow_nan=False)) == asdict(got)
    before, choice = plain.decide(predicted, cost), got.decide(predicted, cost)
    assert (choice[before == got.single] == got.single).all()
    assert cost[choice].mean() == pytest.approx(got.cost)
    assert true[np.arange(len(true)), choice].mean() == pytest.approx(got.quality)
    if favour == 0:
        assert (got.cost, got.quality) == pytest.approx((plain.cost, plain.quality))
    if favour == 99.0:  # beyond any prediction and price of these problems
        assert (choice == got.single).all()


def test_a_margin_by_hand():
    predicted = np.array([[1.0, 1.3], [1.0, 1.1], [1.0, 0.5]])
    true = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 0.5]])
    plain = choose("cost_aware", predicted, true, [2.0, 1.0], "cost", single=0)
    assert 0 <= plain.knob < 0.5  # the first two go to the cheaper model; then the third is 0.5 worse
    got = favouring(plain, predicted, true, [2.0, 1.0], plain.knob + 0.2)
    # The first gains 0.3 and the price's λ, which is 0.1 above the margin; the second gains 0.1 below it.
    assert got.decide(predicted, [2.0, 1.0]).tolist() == [1, 0, 0]
    assert (got.quality, got.cost) == (pytest.approx(4 / 3), pytest.approx(5 / 3))
    with pytest.raises(UserError, match="margin is -1"):
        favouring(plain, predicted, true, [2.0, 1.0], -1)
