"""Policies: hand-worked choices, tie rules, budgets against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import rules
from promptroute.core.errors import UserError
from promptroute.routing import choices

from .instances import problems, simulated

QUALITY = np.array([[0.9, 0.5, 0.8], [0.2, 0.6, 0.6], [0.3, 0.3, 0.3]])
COST = np.array([3.0, 1.0, 2.0])


def brute_force(quality, cost, score):
    """Each prompt's best column by `score(i, j)`; ties by cost, then quality, then index."""
    n, m = quality.shape
    return [min(range(m), key=lambda j: (-score(i, j), cost[j], -quality[i, j], j)) for i in range(n)]


def test_hand_worked_choices():
    assert choices.best_predicted(QUALITY, COST).tolist() == [0, 1, 1]
    # 0.9 - 0.15 * 3 = 0.45, 0.5 - 0.15 = 0.35, 0.8 - 0.3 = 0.5
    assert choices.cost_aware(QUALITY, COST, tradeoff=0.15).tolist() == [2, 1, 1]
    assert choices.cost_aware(QUALITY, COST, tradeoff=np.inf).tolist() == [1, 1, 1]
    assert choices.cheapest_within(QUALITY, COST, slack=0.11).tolist() == [2, 1, 1]
    assert choices.cheapest_within(QUALITY, COST, slack=0.5).tolist() == [1, 1, 1]
    assert choices.single(QUALITY, COST, model=2).tolist() == [2, 2, 2]


def test_choices_are_int64():
    results = [
        choices.single(QUALITY, COST, model=0),
        choices.random_choice(QUALITY, COST, seed=0),
        choices.best_predicted(QUALITY, COST),
        choices.cheapest_within(QUALITY, COST, slack=0.1),
        choices.under_budget(QUALITY, COST, budget=5.0),
        choices.cheapest_guaranteed(QUALITY, COST, single=0, threshold=0.0),
        rules.pareto_cheapest({"q": QUALITY}, COST),
    ]
    assert {choice.dtype for choice in results} == {np.dtype(np.int64)}


def test_random_choice():
    quality = np.zeros((30_000, 3))
    first = choices.random_choice(quality, COST, seed=4)
    np.testing.assert_array_equal(first, choices.random_choice(quality, COST, seed=4))
    assert (first != choices.random_choice(quality, COST, seed=5)).any()
    np.testing.assert_allclose(np.bincount(first, minlength=3) / 30_000, 1 / 3, atol=0.015)


@given(problems(), st.sampled_from([0.0, 0.125, 0.5, 1.0, 4.0]))
def test_cost_aware_ties_to_cheaper(problem, tradeoff):
    quality, cost = problem
    expected = brute_force(quality, cost, lambda i, j: quality[i, j] - tradeoff * cost[j])
    assert choices.cost_aware(quality, cost, tradeoff=tradeoff).tolist() == expected


@given(problems())
def test_infinite_takes_cheapest(problem):
    quality, cost = problem
    expected = brute_force(quality, cost, lambda i, j: -cost[j])
    assert choices.cost_aware(quality, cost, tradeoff=np.inf).tolist() == expected
    assert choices.cheapest_within(quality, cost, slack=np.inf).tolist() == expected


@given(problems(), st.sampled_from([0.0, 0.125, 0.5, 2.0]))
def test_cheapest_within(problem, slack):
    quality, cost = problem
    allowed = quality >= quality.max(axis=1, keepdims=True) - slack
    expected = brute_force(quality, cost, lambda i, j: -cost[j] if allowed[i, j] else -np.inf)
    assert choices.cheapest_within(quality, cost, slack=slack).tolist() == expected


@given(problems())
def test_zero_is_best_predicted(problem):
    quality, cost = problem
    best = choices.best_predicted(quality, cost)
    np.testing.assert_array_equal(choices.cheapest_within(quality, cost, slack=0.0), best)
    np.testing.assert_array_equal(choices.cost_aware(quality, cost, tradeoff=0.0), best)


def test_empty_batch():
    empty = np.empty((0, 3))
    assert choices.best_predicted(empty, COST).shape == (0,)
    assert choices.under_budget(empty, COST, budget=0.0).shape == (0,)


# Budget


def best_within(quality, cost, budget):
    n, m = quality.shape
    rows = np.arange(n)
    within = [c for c in itertools.product(range(m), repeat=n) if cost[list(c)].sum() <= budget * (1 + 1e-12)]
    return max(quality[rows, list(c)].sum() for c in within)


def test_budget_by_hand():
    quality = np.array([[0.0, 1.0, 1.5], [0.0, 0.8, 0.9]])
    cost = np.array([1.0, 2.0, 4.0])
    # Increments per dollar: 1.0 and 0.8, then 0.25 and 0.05. Two dollars to spare pay for the first two.
    plan = choices.plan_budget(quality, cost, budget=4.0)
    assert plan.choice.tolist() == [1, 1]
    assert (plan.quality, plan.cost, plan.upper_bound, plan.gap) == (1.8, 4.0, 1.8, 0.0)
    # One dollar more buys half of the next increment in the relaxation (0.25), and nothing whole.
    plan = choices.plan_budget(quality, cost, budget=5.0)
    assert plan.choice.tolist() == [1, 1]
    assert plan.upper_bound == pytest.approx(2.05)
    assert plan.gap == pytest.approx(0.25)


def test_budget_left_over_is_spent():
    quality = np.array([[0.0, 0.0, 9.0], [0.0, 0.5, 0.5]])
    cost = np.array([1.0, 2.0, 5.0])
    # The first prompt's upgrade (4 dollars) doesn't fit into 4; the second's (1 dollar) does.
    assert choices.under_budget(quality, cost, budget=4.0).tolist() == [0, 1]


@given(problems(prompts=5, models=4), st.floats(0, 1))
def test_budget_against_brute_force(problem, share):
    quality, cost = problem
    n = len(quality)
    budget = n * (cost.min() + share * (cost.max() - cost.min()))
    plan = choices.plan_budget(quality, cost, budget=budget)
    assert cost[plan.choice].sum() <= budget * (1 + 1e-12)
    assert plan.cost == pytest.approx(cost[plan.choice].sum())
    assert plan.quality == pytest.approx(quality[np.arange(n), plan.choice].sum())
    optimum = best_within(quality, cost, budget)
    assert plan.quality <= optimum + 1e-9 <= plan.upper_bound + 2e-9
    # Exact up to one prompt: no more is lost than the largest single gain.
    largest = (quality.max(axis=1) - quality.min(axis=1)).max()
    assert -1e-9 <= plan.gap <= largest + 1e-9


@given(problems(prompts=5), st.floats(0, 1))
def test_upper_bound_is_linear_relaxation(problem, share):
    from scipy.optimize import linprog

    quality, cost = problem
    n, m = quality.shape
    budget = n * (cost.min() + share * (cost.max() - cost.min()))
    each = np.kron(np.eye(n), np.ones(m))
    solved = linprog(-quality.ravel(), np.tile(cost, n)[None], [budget + 1e-12], each, np.ones(n), (0, 1))
    assert solved.status == 0
    got = choices.plan_budget(quality, cost, budget=budget)
    assert got.upper_bound == pytest.approx(-solved.fun, abs=1e-7)


@pytest.mark.parametrize("price", [0.1, 1.0266687e-4, 1 / 3])
def test_exact_budget_suffices(price):
    quality = np.tile([0.0, 1.0], (777, 1))
    choice = choices.under_budget(quality, [price / 7, price], budget=sum([price] * 777))
    assert choice.all()


@given(problems())
def test_budget_extremes(problem):
    quality, cost = problem
    rows = np.arange(len(quality))
    rich = choices.plan_budget(quality, cost, budget=len(quality) * cost.max())
    assert rich.quality == quality.max(axis=1).sum()
    bare = choices.under_budget(quality, cost, budget=len(quality) * cost.min())
    np.testing.assert_array_equal(bare, choices.cost_aware(quality, cost, tradeoff=np.inf))
    assert (quality[rows, rich.choice] >= quality[rows, bare]).all()


def test_budget_too_small():
    with pytest.raises(ValueError, match=r"budget of 2 dollars doesn't pay for 3 prompts.*costs 3;"):
        choices.under_budget(QUALITY, COST, budget=2.0)


# Running budget


@given(problems(prompts=8), problems(prompts=8), st.floats(0, 1))
def test_stream_keeps_budget(reference, arriving, share):
    seen, cost = reference
    quality = np.resize(arriving[0], (len(arriving[0]), len(cost)))
    n = len(quality)
    budget = n * (cost.min() + share * (cost.max() - cost.min()))
    stream = rules.BudgetedStream.fit(seen, cost)
    state, choice = stream.run(stream.start(budget, n), quality)
    assert cost[choice].sum() <= budget * (1 + 1e-9)
    assert state.prompts == 0
    assert state.remaining == pytest.approx(budget - cost[choice].sum(), abs=1e-9)


def test_stream_near_optimum():
    reference, _, cost = simulated(500, seed=1)
    quality, _, _ = simulated(2000, seed=2)
    rows = np.arange(len(quality))
    for level in (2e-5, 5e-5, 8e-5):
        budget = level * len(quality)
        batch = choices.plan_budget(quality, cost, budget=budget)
        stream = rules.BudgetedStream.fit(reference, cost)
        _, choice = stream.run(stream.start(budget, len(quality)), quality)
        assert cost[choice].sum() <= budget
        cheapest = quality[:, 1].sum()
        gained = (quality[rows, choice].sum() - cheapest) / (batch.quality - cheapest)
        assert 0.99 <= gained <= 1 + 1e-9


def test_stream_step_is_pure():
    stream = rules.BudgetedStream.fit(QUALITY, COST)
    state = stream.start(7.0, 3)
    assert stream.step(state, QUALITY[0]) == stream.step(state, QUALITY[0])
    assert state == rules.BudgetState(7.0, 3)


def test_stream_holds_back():
    stream = rules.BudgetedStream.fit(QUALITY, COST)
    state = stream.start(3.5, 3)
    # All three cheapest cost 3: half a dollar to spare pays for no other model.
    for row in QUALITY:
        state, model = stream.step(state, row)
        assert model == 1
    assert state.remaining == pytest.approx(0.5)
    with pytest.raises(ValueError, match="fewer prompts"):
        stream.step(state, QUALITY[0])


@pytest.mark.parametrize(("budget", "prompts"), [(2.9, 3), (float("nan"), 1), (5.0, 0)])
def test_stream_budget_too_small(budget, prompts):
    with pytest.raises(ValueError, match="expected at least one prompt and"):
        rules.BudgetedStream.fit(QUALITY, COST).start(budget, prompts)


# Guaranteed and several scores


def test_cheapest_guaranteed_by_hand():
    # Margins to model 0: prompt 0: -0.4, -0.1; prompt 1: 0.4, 0.4; prompt 2: 0, 0.
    assert choices.cheapest_guaranteed(QUALITY, COST, single=0, threshold=None).tolist() == [0, 0, 0]
    assert choices.cheapest_guaranteed(QUALITY, COST, single=0, threshold=0.1).tolist() == [0, 1, 0]
    assert choices.cheapest_guaranteed(QUALITY, COST, single=0, threshold=-0.2).tolist() == [2, 1, 1]
    # The threshold itself is out: strictly more is needed.
    assert choices.cheapest_guaranteed(QUALITY, COST, single=0, threshold=0.0).tolist() == [0, 1, 0]
    # A costlier model is never chosen, however much better.
    assert choices.cheapest_guaranteed(QUALITY, COST, single=2, threshold=-9.0).tolist() == [1, 1, 1]
    assert choices.cheapest_guaranteed(QUALITY, COST, single=1, threshold=-9.0).tolist() == [1, 1, 1]


def test_weighted_by_hand():
    other = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 4.0, 0.0]])
    got = rules.weighted({"a": QUALITY, "b": other}, {"b": 0.5, "a": 2.0})
    np.testing.assert_allclose(got, [[2.3, 1.0, 1.6], [0.4, 1.2, 2.2], [0.6, 2.6, 0.6]])


def dominates(scores, i, k, j, slack):
    return all(s[i, k] >= s[i, j] for s in scores) and any(s[i, k] - s[i, j] > slack for s in scores)


@given(problems(prompts=4), st.integers(0, 99), st.sampled_from([0.0, 0.25, 1.0]))
def test_pareto_definition(problem, seed, slack):
    first, cost = problem
    n, m = first.shape
    second = np.random.default_rng(seed).integers(-4, 5, size=(n, m)) / 4
    scores = {"first": first, "second": second}
    kept = rules.pareto_optimal(scores, slack)
    for i, j in np.ndindex(n, m):
        beaten = any(dominates((first, second), i, k, j, slack) for k in range(m))
        assert kept[i, j] == (not beaten)
    assert kept.any(axis=1).all()
    choice = rules.pareto_cheapest(scores, cost, slack=slack)
    expected = [min(np.flatnonzero(kept[i]), key=lambda j: (cost[j], j)) for i in range(n)]
    assert choice.tolist() == expected
    # The best of a sum with weights above 0 is Pareto-optimal.
    best = rules.weighted(scores, {"first": 1.0, "second": 2.0}).argmax(axis=1)
    assert rules.pareto_optimal(scores)[np.arange(n), best].all()


def test_slack_by_score():
    scores = {"a": np.array([[1.0, 0.7]]), "b": np.array([[5.0, 4.0]])}
    assert rules.pareto_cheapest(scores, [2.0, 1.0]).tolist() == [0]
    assert rules.pareto_cheapest(scores, [2.0, 1.0], slack={"a": 0.5, "b": 0.5}).tolist() == [0]
    assert rules.pareto_cheapest(scores, [2.0, 1.0], slack={"a": 0.5, "b": 1.0}).tolist() == [1]


# Errors


@pytest.mark.parametrize(
    ("quality", "cost", "says"),
    [
        ([[1.0, 2.0], [np.nan, 1.0]], [1.0, 1.0], r"quality\[1, 0\] is nan \(1 such"),
        ([[1.0, np.inf]], [1.0, 1.0], r"quality\[0, 1\] is inf"),
        ([1.0, 2.0], [1.0, 1.0], r"quality has shape \(2,\)"),
        (np.empty((3, 0)), [], "one model or more"),
        ([["a"]], [1.0], "quality can't be read as an array of numbers"),
        ([[1.0, 2.0]], [1.0], r"cost has shape \(1,\), expected \[2\]"),
        ([[1.0, 2.0]], [1.0, 0.0], r"cost\[1\] is 0.0"),
        ([[1.0, 2.0]], [np.nan, 1.0], r"cost\[0\] is nan"),
        ([[1.0, 2.0]], [-1.0, 1.0], r"cost\[0\] is -1.0"),
    ],
)
def test_bad_arrays(quality, cost, says):
    with pytest.raises(ValueError, match=says):
        choices.best_predicted(quality, cost)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: choices.cost_aware(QUALITY, COST, tradeoff=-1.0), "tradeoff is -1.0"),
        (lambda: choices.cost_aware(QUALITY, COST, tradeoff=float("nan")), "tradeoff is nan"),
        (lambda: choices.cheapest_within(QUALITY, COST, slack="0.1"), "slack is '0.1'"),
        (lambda: choices.single(QUALITY, COST, model=3), r"model is 3, expected a column index in 0 .. 2"),
        (lambda: choices.single(QUALITY, COST, model=True), "model is True"),
        (lambda: choices.single(QUALITY, COST, model=-1), "model is -1"),
        (lambda: choices.cheapest_guaranteed(QUALITY, COST, single=0, threshold=np.nan), "threshold is NaN"),
        (lambda: rules.weighted({"a": QUALITY}, {"b": 1.0}), r"weights name \['b'\].*\['a'\]"),
        (lambda: rules.weighted({"a": QUALITY}, {"a": 0.0}), "at least one above 0"),
        (lambda: rules.weighted({"a": QUALITY}, {"a": -1.0}), "the weight of a is -1.0"),
        (lambda: rules.weighted({"a": QUALITY}, {"a": np.inf}), "finite"),
        (lambda: rules.weighted({"a": QUALITY, "b": QUALITY[:2]}, {"a": 1, "b": 1}), "scores have shapes"),
        (lambda: rules.weighted({}, {}), "one or more scores"),
        (lambda: rules.pareto_cheapest({"a": QUALITY}, COST, slack={"b": 1.0}), "slack names"),
    ],
)
def test_bad_settings(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_bad_settings_are_user_errors():
    with pytest.raises(UserError):
        choices.cost_aware(QUALITY, COST, tradeoff=-1.0)


# A margin for one model


@given(
    problems(), st.integers(0, 99), st.sampled_from([0.0, 0.125, 0.5, 3.0]), st.sampled_from([0.0, 0.25, 2.0])
)
def test_margin_left_for_gain_above(problem, seed, margin, tradeoff):
    quality, cost = problem
    model = seed % len(cost)
    credited = choices.with_margin(quality, model=model, margin=margin)
    choice = choices.cost_aware(credited, cost, tradeoff=tradeoff)
    worth = quality - tradeoff * cost
    others = np.delete(worth, model, axis=1)
    gain = others.max(axis=1, initial=-np.inf) - worth[:, model]
    assert (choice[gain > margin] != model).all()
    assert (choice[gain < margin] == model).all()
    left = choice != model
    assert (others.max(axis=1, initial=-np.inf)[left] == worth[left, choice[left]]).all()  # then for the best


@given(problems(), st.integers(0, 99), st.sampled_from([0.0, 0.25, 2.0]))
def test_wider_margin_keeps_more(problem, seed, slack):
    quality, cost = problem
    model = seed % len(cost)

    def stays(policy, margin):
        credited = choices.with_margin(quality, model=model, margin=margin)
        if policy == "cost_aware":
            return choices.cost_aware(credited, cost, tradeoff=slack) == model
        return choices.cheapest_within(credited, cost, slack=slack) == model

    for policy in ("cost_aware", "cheapest_within"):
        before = stays(policy, 0.0)
        for margin in (0.125, 0.5, 1.0, 8.0):
            now = stays(policy, margin)
            assert (now >= before).all()
            before = now
    assert stays("cost_aware", 99.0).all()


def test_margin_by_hand():
    quality, cost = np.array([[5.0, 5.1, 5.3]]), [3.0, 2.0, 1.0]
    # Within 0.25 of the best: 5.3, and 5.1 too; with 0.2 for the first: 5.2 as well, but 5.3 is the cheapest.
    credited = choices.with_margin(quality, model=0, margin=0.2)
    assert credited.tolist() == [[5.2, 5.1, 5.3]] and quality.tolist() == [[5.0, 5.1, 5.3]]
    assert choices.cheapest_within(credited, cost, slack=0.25).tolist() == [2]
    # With 0.6 the first has 5.6: the third is 0.3 below, out of reach of 0.25.
    assert choices.cheapest_within(
        choices.with_margin(quality, model=0, margin=0.6), cost, slack=0.25
    ).tolist() == [0]
    for margin in (-0.1, float("nan"), float("inf"), "much"):
        with pytest.raises(UserError, match="margin is"):
            choices.with_margin(quality, model=0, margin=margin)
    with pytest.raises(ValueError, match="model is 3"):
        choices.with_margin(quality, model=3, margin=0.1)
