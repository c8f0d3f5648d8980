"""A search judged: by the score that it looked at, and by images that it did not."""

from typing import Any

import numpy as np
import pytest

from promptroute.evaluation.evaluation import Judged, evaluate, to_calibrate
from promptroute.evaluation.search import Known, coverage, curve, figures, outcome, row
from promptroute.routing.base import Training
from promptroute.routing.belief import Belief
from promptroute.routing.policies import CostAware
from promptroute.routing.search_policy import Search

COST = np.array([1.0, 0.2, 0.4])
LOOK = 0.01
NOISE = 0.5


def world(n: int = 600, k: int = 3, seed: int = 0) -> Known:
    """Prompts whose models differ by what the text tells, by what it doesn't, and by each image's luck."""
    rng = np.random.default_rng(seed)
    predicted = np.array([0.6, 0.0, 0.2]) + 0.4 * rng.normal(size=(n, 3))
    theta = predicted + rng.normal(size=(n, 1)) * 0.3 + 0.5 * rng.normal(size=(n, 3))
    images = theta[:, :, None] + NOISE * rng.normal(size=(n, 3, k))
    other = 10 * images + 1
    return Known(
        predicted,
        images.mean(axis=2),
        COST,
        {"s.q": images.mean(axis=2), "s.other": other.mean(axis=2)},
        images,
        {"s.q": images, "s.other": other},
        np.array([3.0, 1.0, 2.0]),
    )


def policy(known: Known, **settings: Any) -> Search:
    training = Training(look=LOOK, images=known.images)
    found = Search(**{"target": "cost", **settings}).calibrate(
        known.predicted, known.observed, COST, training
    )
    assert isinstance(found, Search)
    return found


def means_only(known: Known) -> Known:
    return Known(known.predicted, known.observed, known.cost, known.raw, None, {}, None)


class TestOutcome:
    def test_by_hand(self) -> None:
        images = np.array([[[1.0, 5.0, 3.0], [2.0, 4.0, 6.0]]])
        known = Known(
            np.zeros((1, 2)),
            images.mean(axis=2),
            np.ones(2),
            {"s.q": images.mean(axis=2)},
            images,
            {"s.q": images},
            None,
        )
        both = Search(tradeoff=0.0, look=0.0)
        both._belief = Belief(np.eye(2), None, 9, 0.9)
        found = outcome(both, known)
        # Both models are asked: seed 0 keeps 2 of the second, seed 1 keeps 5 of the first, seed 2 keeps 6 of the second.
        assert found.quality[0] == pytest.approx((2 + 5 + 6) / 3)
        assert found.fresh is not None
        assert found.fresh[0] == pytest.approx(((4 + 6) / 2 + (1 + 3) / 2 + (2 + 4) / 2) / 3)
        np.testing.assert_allclose(found.share, [[1 / 3, 2 / 3]])
        assert found.scores["s.q"][0] == found.quality[0] and found.cost[0] == 2.0

    def test_winners_curse(self) -> None:
        known = world(seed=1)
        found = outcome(policy(world()), known)
        assert found.fresh is not None
        assert found.quality.mean() > found.fresh.mean() + 0.1  # luck
        assert found.fresh.mean() > known.observed[:, 0].mean()  # and what is real

    def test_other_scores_are_those_of_the_kept_image(self) -> None:
        found = outcome(policy(world()), world(seed=1))
        np.testing.assert_allclose(found.scores["s.other"], 10 * found.quality + 1)

    def test_without_single_images(self) -> None:
        known = means_only(world())
        own = Search().calibrate(known.predicted, known.observed, COST, Training(look=LOOK))
        assert isinstance(own, Search)
        found = outcome(own, known)
        assert found.fresh is None and len(found.replays) == 1
        assert row(known, found, ["a", "b", "c"])["fresh_quality"] is None

    def test_no_image_is_left_to_judge(self) -> None:
        known = world(k=2)
        assert outcome(policy(known, images=2, tradeoff=0.0), known).fresh is None

    def test_row(self) -> None:
        known = world(seed=1)
        found = outcome(policy(world()), known)
        line = row(known, found, ["a", "b", "c"])
        assert sum(line["share"].values()) == pytest.approx(1) and sum(
            line["images"].values()
        ) == pytest.approx(1)
        assert line["cost"] == pytest.approx(line["total_cost"] / 600)


class TestFigures:
    def test_all(self) -> None:
        known = world(seed=1)
        own = policy(world())
        found = figures(own, known, outcome(own, known), resamples=50, seed=0)
        for name in ("search", "search_two_draws"):
            for figure in ("iso_quality_cost", "oracle_gap_closed", "frontier_area"):
                one, left = found[name][figure], found[name]["fresh"][figure]
                assert one["low"] <= one["estimate"] <= one["high"]
                worse = one["estimate"] - left["estimate"]
                assert worse < 0 if figure == "iso_quality_cost" else worse > 0
        assert (
            found["search"]["frontier_area"]["estimate"]
            >= found["search_two_draws"]["frontier_area"]["estimate"]
        )
        assert found["searched"]["look"] == LOOK
        assert (
            found["searched"]["fresh"]["quality_gain"]["low"]
            < found["searched"]["fresh"]["quality_gain"]["high"]
        )
        seconds = found["searched"]["seconds"]
        assert 1 <= seconds["p50"] <= seconds["mean"] * 2 and seconds["p95"] <= 6

    def test_no_fresh_images(self) -> None:
        known = means_only(world())
        own = Search().calibrate(known.predicted, known.observed, COST, Training(look=LOOK))
        assert isinstance(own, Search)
        found = figures(own, known, outcome(own, known), resamples=0, seed=0)
        assert found["search"]["fresh"] is None and found["searched"]["fresh"] is None
        assert found["searched"]["seconds"] is None

    def test_coverage(self) -> None:
        known, own = world(3000, seed=2), policy(world(3000))
        found = coverage(own, known, outcome(own, known).replays)
        assert set(found) == {"0", "1", "2"} and all(0.88 < one < 0.92 for one in found.values())

    def test_curve_ends(self) -> None:
        known, own = world(seed=1), policy(world())
        tradeoffs, cost, quality, fresh = curve(own, known)
        assert (np.diff(tradeoffs) < 0).all() and fresh is not None and fresh.shape == cost.shape
        assert cost[:, -1].mean() == pytest.approx(COST.sum() + 3 * LOOK, rel=0.03)
        assert cost[:, 0].mean() == pytest.approx(0.2 + LOOK, rel=0.1)
        assert quality[:, -1].mean() > known.observed.mean(axis=0).max()


class TestEvaluate:
    def judged(self, own: Any, known: Known) -> Judged:
        kept = own.choose(known.predicted, COST)
        calibrated = {
            name: each.calibrate(
                known.predicted, known.observed, COST, Training(look=LOOK, images=known.images)
            )
            for name, each in to_calibrate(own).items()
        }
        return Judged(
            predicted=known.predicted,
            observed=known.observed,
            raw=known.raw,
            cost=COST,
            models=("a", "b", "c"),
            decided=kept,
            policy=own,
            calibrated=calibrated,
            images=known.images,
            raw_images=known.raw_images,
        )

    def test_rows_stand_beside_choosing_before(self) -> None:
        known = world(300, seed=1)
        own = policy(world())
        found = evaluate(self.judged(own, known), resamples=20, seed=0)
        rows = found["strategies"]
        assert {"search_quality", "search_cost", "cost_aware_quality", "oracle", "router"} <= set(rows)
        assert rows["search_quality"]["cost"] < rows["search_cost"]["cost"]
        assert found["router"]["quality"]["estimate"] == pytest.approx(rows["router"]["quality"])
        assert found["search"]["frontier_area"]["estimate"] > found["frontier"]["frontier_area"]["estimate"]

    def test_other_policies_have_no_search(self) -> None:
        known = world(100)
        own = CostAware().calibrate(known.predicted, known.observed, COST)
        found = evaluate(self.judged(own, known), resamples=0, seed=0)
        assert (
            "search" not in found and "searched" not in found and "search_quality" not in found["strategies"]
        )

    def test_one_image_is_choosing_before(self) -> None:
        known = world(300, seed=1)
        own = policy(world(), max_images=1)
        found = evaluate(self.judged(own, known), resamples=0, seed=0)
        before = own.choose(known.predicted, COST)
        assert found["strategies"]["router"]["cost"] == pytest.approx(COST[before].mean())
        assert found["strategies"]["router"]["quality"] == pytest.approx(
            known.observed[np.arange(300), before].mean()
        )
