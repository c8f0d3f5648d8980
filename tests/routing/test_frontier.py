"""The frontier against an evaluation of the policy at each operating point; the hull against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from promptroute.evaluation.metrics import strategy
from promptroute.routing import choices
from promptroute.routing.frontier import Hull, area, cost_at, hull, quality_at, trace
from promptroute.routing.steps import slack_steps, tradeoff_steps

from .instances import problems, simulated

KNOBS = {
    "cost_aware": lambda quality, cost, knob: choices.cost_aware(quality, cost, tradeoff=knob),
    "cheapest_within": lambda quality, cost, knob: choices.cheapest_within(quality, cost, slack=knob),
}
STEPS = {"cost_aware": tradeoff_steps, "cheapest_within": slack_steps}
POLICIES = st.sampled_from(sorted(KNOBS))


def test_frontier_by_hand():
    predicted = np.array([[1.0, 0.0], [0.5, 0.4]])
    true = np.array([[3.0, 1.0], [2.0, 7.0]])
    curve = trace(predicted, true, [3.0, 1.0])
    # The second column is cheaper. Breakpoints are 1.0 / 2 and 0.1 / 2 quality per dollar.
    np.testing.assert_allclose(curve.points, [np.inf, 0.275, 0.0])
    np.testing.assert_allclose(curve.cost, [1.0, 2.0, 3.0])
    np.testing.assert_allclose(curve.quality, [4.0, 5.0, 2.5])
    within = trace(predicted, true, [3.0, 1.0], steps_of=slack_steps)
    # Gaps to the best are 1.0 and 0.1.
    np.testing.assert_allclose(within.points, [np.inf, 0.55, 0.0])
    np.testing.assert_allclose(within.quality, [4.0, 5.0, 2.5])


@given(problems(), st.integers(0, 99), POLICIES)
def test_points_are_choices(problem, seed, policy):
    predicted, cost = problem
    true = np.random.default_rng(seed).normal(size=predicted.shape)
    curve = trace(predicted, true, cost, steps_of=STEPS[policy])
    for knob, mean_cost, mean_quality in zip(curve.points, curve.cost, curve.quality, strict=True):
        row = strategy(true, cost, KNOBS[policy](predicted, cost, knob))
        assert row.cost == pytest.approx(mean_cost, abs=1e-12)
        assert row.quality == pytest.approx(mean_quality, abs=1e-12)


@given(problems(), POLICIES)
def test_every_choice_visited(problem, policy):
    quality, cost = problem
    steps = STEPS[policy](quality, cost)
    curve = trace(quality, quality, cost, steps_of=STEPS[policy])
    visited = {tuple(steps.choice(int(steps.taken(np.array([knob]))[0]))) for knob in curve.points}
    for knob in np.append(np.geomspace(1e-3, 40, 150), [0.0, np.inf]):
        assert tuple(KNOBS[policy](quality, cost, knob)) in visited


@given(problems(), POLICIES)
def test_points_fall_cost_rises(problem, policy):
    quality, cost = problem
    curve = trace(quality, quality, cost, steps_of=STEPS[policy])
    assert (np.diff(curve.points) < 0).all()
    assert (np.diff(curve.cost) > 0).all()
    assert (np.diff(curve.quality) > 0).all()


@given(problems(), POLICIES, st.lists(st.integers(0, 40).map(lambda k: k / 8), min_size=1, max_size=5))
def test_given_points(problem, policy, knobs):
    quality, cost = problem
    # Slopes of powers of two are exact, so that a knob can sit on a breakpoint.
    cost = 2.0 ** np.floor(cost)
    curve = trace(quality, quality, cost, knobs, steps_of=STEPS[policy])
    assert curve.points.tolist() == sorted(knobs, reverse=True)
    for knob, mean_cost in zip(curve.points, curve.cost, strict=True):
        exact = cost[KNOBS[policy](quality, cost, knob)].mean()
        if policy == "cheapest_within":
            assert mean_cost == pytest.approx(exact)
        else:
            # At a breakpoint the policy's own difference may round either way: bracket it.
            low, high = (cost[KNOBS[policy](quality, cost, knob * f)].mean() for f in (1 + 1e-9, 1 - 1e-9))
            assert low - 1e-12 <= mean_cost <= high + 1e-12


def test_thinned_keeps_ends():
    predicted, true, cost = simulated(400, seed=0)
    full, thin = trace(predicted, true, cost), trace(predicted, true, cost, most=20)
    assert len(full.points) > 300
    assert len(thin.points) == 20
    assert thin.points[[0, -1]].tolist() == [np.inf, 0.0]
    place = np.searchsorted(-full.points, -thin.points)
    np.testing.assert_array_equal(full.cost[place], thin.cost)
    np.testing.assert_array_equal(full.quality[place], thin.quality)


def test_single_model():
    curve = trace([[1.0], [2.0]], [[3.0], [5.0]], [0.5])
    assert (curve.points.tolist(), curve.cost.tolist(), curve.quality.tolist()) == ([0.0], [0.5], [4.0])


def test_ties_by_rounding():
    # 0.3 - 0.1 and 0.2 differ in their last digit only.
    curve = trace([[0.3, 0.1], [0.2, 0.0]], [[1.0, 0.0], [1.0, 0.0]], [2.0, 1.0])
    assert curve.cost.tolist() == [1.0, 2.0]


# Hull


def test_hull_by_hand():
    curve = hull([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 1.2, 3.0, 2.0, 3.5])
    assert curve.cost.tolist() == [1.0, 3.0, 5.0]
    assert curve.quality.tolist() == [1.0, 3.0, 3.5]
    assert quality_at(curve, 2.0) == 2.0
    assert quality_at(curve, 99.0) == 3.5
    assert np.isnan(quality_at(curve, 0.99))
    assert cost_at(curve, 2.0) == 2.0
    assert cost_at(curve, 3.25) == 4.0
    assert cost_at(curve, 0.5) == 1.0
    assert np.isnan(cost_at(curve, 3.51))
    # Trapezia: (1 + 3) / 2 * 2 + (3 + 3.5) / 2 * 2, and 3.5 from 5 on.
    assert area(curve, 1.0, 5.0) == pytest.approx(10.5 / 4)
    assert area(curve, 1.0, 7.0) == pytest.approx(17.5 / 6)
    assert area(curve, 2.0, 3.0) == pytest.approx(2.5)
    assert area(curve, 6.0, 8.0) == pytest.approx(3.5)
    assert np.isnan(area(curve, 0.5, 5.0))


def test_hull_of_falling_points():
    curve = hull([1.0, 2.0, 1.0], [3.0, 2.0, 2.5])
    assert (curve.cost.tolist(), curve.quality.tolist()) == ([1.0], [3.0])
    assert area(curve, 1.0, 2.0) == 3.0


CLOUD = st.lists(st.tuples(st.integers(1, 20), st.integers(-20, 20)), min_size=1, max_size=30)


@given(CLOUD)
def test_hull_definition(cloud):
    x, y = (np.array(axis, dtype=float) for axis in zip(*cloud, strict=True))
    curve = hull(x, y)
    assert (np.diff(curve.cost) > 0).all()
    assert (np.diff(curve.quality) > 0).all()
    slopes = np.diff(curve.quality) / np.diff(curve.cost)
    assert (np.diff(slopes) < 0).all()
    assert set(zip(curve.cost, curve.quality, strict=True)) <= set(zip(x, y, strict=True))
    for point_cost, point_quality in zip(x, y, strict=True):
        assert quality_at(curve, point_cost) >= point_quality - 1e-9
    assert (curve.cost[0], curve.quality[-1]) == (x.min(), y.max())


@given(st.integers(0, 10_000))
def test_hull_agrees_with_qhull(seed):
    x, y = np.random.default_rng(seed).normal(size=(2, 40))
    x = np.exp(x)
    ours = hull(x, y)
    corners = ConvexHull(np.column_stack([x, y])).vertices
    top = [v for v in corners if x[v] <= x[y.argmax()] and quality_at(ours, x[v]) <= y[v] + 1e-12]
    assert sorted(ours.cost.tolist()) == sorted(x[top].tolist())


@given(CLOUD, st.integers(-30, 30))
def test_cost_at_definition(cloud, quality):
    x, y = (np.array(axis, dtype=float) for axis in zip(*cloud, strict=True))
    curve = hull(x, y)
    cost = cost_at(curve, quality)
    if quality > y.max():
        assert np.isnan(cost)
    else:
        assert quality_at(curve, cost) >= quality - 1e-9
        if cost > curve.cost[0]:
            assert quality_at(curve, cost - 1e-6) < quality


@given(CLOUD, st.floats(0, 30), st.floats(0.1, 30))
def test_area_definition(cloud, offset, width):
    x, y = (np.array(axis, dtype=float) for axis in zip(*cloud, strict=True))
    curve = hull(x, y)
    low = curve.cost[0] + offset
    middle = low + (np.arange(4000) + 0.5) / 4000 * width
    expected = np.mean([quality_at(curve, c) for c in middle[::10]])
    assert area(curve, low, low + width) == pytest.approx(expected, abs=0.05)


def test_rounding_at_ends():
    curve = Hull(np.array([0.1 + 0.2, 1.0]), np.array([0.0, 0.1 + 0.2]))
    assert quality_at(curve, 0.3) == 0.0
    assert cost_at(curve, 0.3) == pytest.approx(1.0)
    assert cost_at(Hull(np.array([1.0]), np.array([0.3])), 0.1 + 0.2) == 1.0
    assert area(curve, 0.3, 1.0) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: hull([], []), "two lists of one length"),
        (lambda: hull([1.0], [1.0, 2.0]), "two lists of one length"),
        (lambda: hull([1.0], [np.nan]), "finite"),
        (lambda: area(hull([1.0], [1.0]), 2.0, 2.0), "low below high"),
        (lambda: trace([[1.0]], [[1.0]], [1.0], []), "non-empty"),
        (lambda: trace([[1.0]], [[1.0]], [1.0], [-1.0]), "0 or more"),
        (lambda: trace([[1.0]], [[1.0]], [1.0], most=1), "most is 1"),
        (lambda: trace([[1.0]], [[1.0, 2.0]], [1.0, 1.0]), "same prompts and models"),
        (lambda: trace(np.empty((0, 2)), np.empty((0, 2)), [1.0, 1.0]), "at least one"),
    ],
)
def test_bad_arguments(call, says):
    with pytest.raises(ValueError, match=says):
        call()
