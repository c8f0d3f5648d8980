"""The bootstrap against a plain loop over resamples, and its coverage."""

import numpy as np
import pytest
from scipy.stats import norm

from promptroute.evaluation import bootstrap
from promptroute.routing import choices
from promptroute.routing.frontier import area, hull, quality_at, trace
from tests.evaluation import plain
from tests.routing.instances import simulated


def resamples_of(n, count, seed):
    """Index lists of the resamples, from the generator that the module documents."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield np.repeat(np.arange(n), generator.multinomial(n, np.full(n, 1 / n)))


def naive(figure, n, count, seed):
    values = [figure(rows) for rows in resamples_of(n, count, seed)]
    return np.quantile(values, [0.025, 0.975])


def test_headline_plain_loop():
    predicted, true, cost = simulated(120, seed=1)
    # More resamples than one chunk holds.
    got = bootstrap.headline(predicted, true, cost, seed=7, most=25, resamples=230)
    at = trace(predicted, true, cost, most=25).points

    def figures(rows):
        truth = true[rows]
        chosen = [choices.cost_aware(predicted[rows], cost, tradeoff=point) for point in at]
        points = [(cost[c].mean(), truth[np.arange(len(rows)), c].mean()) for c in chosen]
        curve = hull(*np.transpose(points))
        model = truth.mean(axis=0).argmax()
        alone, oracle = truth[:, model].mean(), truth.max(axis=1).mean()
        reach = np.nan if alone > curve.quality[-1] else np.interp(alone, curve.quality, curve.cost)
        share = (quality_at(curve, cost[model]) - alone) / (oracle - alone)
        return reach / cost[model] - 1, share, area(curve, cost.min(), cost.max())

    values = np.array([figures(rows) for rows in resamples_of(120, 230, 7)])
    # Now and then the router doesn't reach the quality: that ranks above all figures.
    undefined = np.isnan(values)
    assert undefined[:, 0].mean() < 0.01
    values[undefined] = np.inf
    every = np.arange(120)
    for k, name in enumerate(["iso_quality_cost", "oracle_gap_closed", "frontier_area"]):
        expected = np.quantile(values[:, k], [0.025, 0.975])
        np.testing.assert_allclose([got[name].low, got[name].high], expected, rtol=1e-9)
        assert got[name].estimate == pytest.approx(figures(every)[k])
        assert got[name].undefined == undefined[:, k].mean()


def test_estimates_are_the_metrics():
    predicted, true, cost = simulated(200, seed=2)
    for most in (None, 30):
        got = bootstrap.headline(predicted, true, cost, seed=0, resamples=0, most=most)
        for figure in (plain.iso_quality_cost, plain.oracle_gap_closed, plain.frontier_area):
            found = got[figure.__name__].estimate
            assert found == pytest.approx(figure(predicted, true, cost, most=most))
        assert np.isnan(got["frontier_area"].low)


def test_outcome_intervals_plain_loop():
    predicted, true, cost = simulated(90, seed=3)
    choice = choices.cost_aware(predicted, cost, tradeoff=4000.0)
    own = true[np.arange(90), choice]
    got = bootstrap.outcome_intervals(true, cost, own, cost[choice], seed=5, resamples=150)

    def gain(rows):
        return own[rows].mean() - true[rows].mean(axis=0).max()

    figures = {
        "quality": lambda rows: own[rows].mean(),
        "cost": lambda rows: cost[choice[rows]].mean(),
        "quality_gain": gain,
        "cost_change": lambda rows: cost[choice[rows]].mean() / cost[true[rows].mean(axis=0).argmax()] - 1,
        "oracle_gap_closed": lambda rows: (
            gain(rows) / (true[rows].max(axis=1).mean() - true[rows].mean(axis=0).max())
        ),
    }
    assert list(got) == list(figures)
    for name, figure in figures.items():
        low, high = naive(figure, 90, 150, 5)
        assert (got[name].low, got[name].high) == pytest.approx((low, high))
        assert got[name].estimate == pytest.approx(figure(np.arange(90)))


def test_seed():
    predicted, true, cost = simulated(60, seed=4)
    first = bootstrap.headline(predicted, true, cost, seed=1, resamples=120)
    assert first == bootstrap.headline(predicted, true, cost, seed=1, resamples=120)
    assert first != bootstrap.headline(predicted, true, cost, seed=2, resamples=120)


def test_mean_near_normal():
    values = np.random.default_rng(0).exponential(size=(2000, 1))
    got = bootstrap.intervals(values, lambda means: {"mean": means[:, 0]}, seed=0, resamples=4000)["mean"]
    half = norm.ppf(0.975) * values.std(ddof=1) / np.sqrt(2000)
    assert got.estimate == values.mean()
    assert (got.low, got.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_undefined_rank_above():
    columns = np.array([[0.0]] * 6 + [[1.0]] * 2)

    def statistic(means):
        return {"some": np.where(means[:, 0] > 0.3, np.nan, means[:, 0]), "all": np.full(len(means), np.nan)}

    got = bootstrap.intervals(columns, statistic, seed=0, resamples=2000)
    assert 0.2 < got["some"].undefined < 0.5
    assert got["some"].low == 0.0
    assert np.isnan(got["some"].high)
    assert np.isnan([got["all"].estimate, got["all"].low, got["all"].high]).all()
    assert got["all"].undefined == 1


def test_what_does_not_vary_has_no_interval():
    """[0, 0] would claim to be certain of what a few prompts merely don't show."""
    got = bootstrap.intervals(
        np.array([[0.0, 1.0]] * 20 + [[0.0, 2.0]] * 20),
        lambda means: {"none": means[:, 0], "some": means[:, 1]},
        seed=0,
        resamples=200,
    )
    assert got["none"].estimate == 0 and np.isnan([got["none"].low, got["none"].high]).all()
    assert got["some"].low < 1.5 < got["some"].high


def test_quality_reached_now_and_then():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(80, 2))
    true[:, 0] += 0.02 - (true[:, 0] - true[:, 1]).mean()
    predicted = rng.normal(size=(80, 2)) - [0.0, 0.5]
    got = bootstrap.headline(predicted, true, [2.0, 1.0], seed=0, resamples=300)["iso_quality_cost"]
    assert 0.025 < got.undefined < 1
    assert np.isfinite(got.low)
    assert np.isnan(got.high)


@pytest.mark.parametrize("bad", [-1, 2.5, True])
def test_bad_resamples(bad):
    with pytest.raises(ValueError, match="give a whole number, 0 for no intervals"):
        bootstrap.intervals(np.ones((3, 1)), lambda means: {"mean": means[:, 0]}, seed=0, resamples=bad)


def test_no_prompts():
    with pytest.raises(ValueError, match="0 prompts"):
        bootstrap.intervals(np.ones((0, 1)), lambda means: {"mean": means[:, 0]}, seed=0)


def test_single_prompt_has_no_interval():
    true = np.array([[1.0, 2.0]])
    got = bootstrap.outcome_intervals(true, np.array([1.0, 2.0]), true[:, 0], np.ones(1), seed=0)
    assert got["quality"].estimate == 1.0
    for interval in got.values():
        assert np.isnan([interval.low, interval.high, interval.undefined]).all()


def test_tiny_gap_is_undefined():
    # The best single model all but is the oracle: resamples would give shares of -1e14.
    true = np.column_stack([np.ones(50), np.zeros(50)])
    true[0] = [1.0, 1.0 + 1e-12]
    cost = np.array([2.0, 1.0])
    got = bootstrap.outcome_intervals(true, cost, true[:, 1], np.ones(50), seed=0, resamples=50)
    assert np.isnan(got["oracle_gap_closed"].estimate) and got["oracle_gap_closed"].undefined == 1
    headline = bootstrap.headline(-true, true, cost, seed=0, resamples=50)
    assert np.isnan(headline["oracle_gap_closed"].low)


def test_paired_plain_loop():
    random = np.random.default_rng(0)
    gained, other = random.normal(size=(2, 50))
    paid, other_paid = random.uniform(1, 2, (2, 50))
    got = bootstrap.paired_intervals(gained, paid, other, other_paid, seed=5, resamples=120)

    def figures(rows):
        return (gained - other)[rows].mean(), paid[rows].mean() / other_paid[rows].mean() - 1

    ends = np.quantile([figures(rows) for rows in resamples_of(50, 120, 5)], [0.025, 0.975], axis=0).T
    for name, estimate, (low, high) in zip(
        ("quality_gain", "cost_change"), figures(np.arange(50)), ends, strict=True
    ):
        assert (got[name].estimate, got[name].low, got[name].high) == pytest.approx((estimate, low, high))
