"""The policy that looks: its belief, its settings, its price, and that one image is choosing before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.routing.base import Candidates, Policy, Training, restore
from promptroute.routing.policies import CostAware, Single
from promptroute.routing.search_policy import Search, rounds
from promptroute.routing.wrappers import WithMargin, WithOodFallback

from .instances import TABLE_2, simulated

LOOK = Training(look=1e-7)


def made(n: int = 3000, seed: int = 0, **settings: Any) -> tuple[Search, np.ndarray, np.ndarray]:
    """A calibrated search, and predicted and observed quality that it was not calibrated on."""
    predicted, observed, cost = simulated(2 * n, seed)
    policy = Search(**settings).calibrate(predicted[:n], observed[:n], cost, LOOK)
    assert isinstance(policy, Search)
    return policy, predicted[n:], observed[n:]


class TestCalibrate:
    def test_quality_target_holds_on_new_prompts(self) -> None:
        policy, predicted, observed = made()
        replayed = policy.replays(predicted, observed, TABLE_2)[0]
        before = CostAware().calibrate(predicted, observed, TABLE_2)
        assert replayed.quality.mean() == pytest.approx(observed[:, 0].mean(), abs=0.05)
        assert before.calibration is not None
        assert replayed.cost.mean() < before.calibration.cost < TABLE_2[0]

    def test_cost_target_holds_on_new_prompts(self) -> None:
        policy, predicted, observed = made(target="cost")
        replayed = policy.replays(predicted, observed, TABLE_2)[0]
        assert replayed.cost.mean() == pytest.approx(TABLE_2[0], rel=0.05)
        assert replayed.quality.mean() > observed[:, 0].mean() + 0.2

    def test_standard_errors_ask_for_more(self) -> None:
        plain, safe = made(1000)[0], made(1000, standard_errors=2.0)[0]
        assert plain.calibration and safe.calibration
        assert safe.calibration.cost > plain.calibration.cost
        assert safe.calibration.quality > plain.calibration.quality

    def test_given_tradeoff_stays(self) -> None:
        assert made(200, tradeoff=5000.0)[0].tradeoff == 5000.0

    def test_facts(self) -> None:
        policy, _, _ = made()
        assert policy.facts is not None and policy.facts.prompts == 3000
        assert 0.88 < policy.facts.coverage < 0.92
        assert sum(policy.facts.first) == pytest.approx(1) and sum(policy.facts.images) == pytest.approx(1)
        assert np.argmax(policy.facts.first) == 1  # the cheapest

    def test_dear_look_is_paid(self) -> None:
        cheap = made(500)[0]
        predicted, observed, cost = simulated(500, 0)
        expensive = Search().calibrate(predicted, observed, cost, Training(look=2e-5))
        assert (
            expensive.calibration
            and cheap.calibration
            and expensive.calibration.cost > cheap.calibration.cost + 1e-5
        )

    def test_unknown_price_of_a_look(self) -> None:
        predicted, observed, cost = simulated(50, 0)
        with pytest.raises(UserError, match=r"what a look costs.*give it as policy\.look"):
            Search().calibrate(predicted, observed, cost)
        assert isinstance(Search(look=0.0).calibrate(predicted, observed, cost), Policy)

    def test_no_search_meets_the_target(self) -> None:
        rng = np.random.default_rng(0)
        observed = np.array([1.0, 0.0]) + 0.01 * rng.normal(size=(100, 2))
        policy = Search().calibrate(observed * 0, observed, [1.0, 0.9], Training(look=0.5))
        assert (
            isinstance(policy, Single) and policy.model == 0 and "no search met the target" in policy.because
        )

    def test_too_few_prompts(self) -> None:
        predicted, observed, cost = simulated(4, 0)
        with pytest.raises(UserError, match="too few"):
            Search().calibrate(predicted, observed, cost, LOOK)


class TestOneImage:
    @pytest.mark.parametrize("target", ["quality", "cost"])
    def test_is_choosing_before(self, target: Any) -> None:
        predicted, observed, cost = simulated(800, 1)
        search = Search(target=target, max_images=1).calibrate(predicted, observed, cost, LOOK)
        before = CostAware(target=target).calibrate(predicted, observed, cost)
        assert isinstance(search, Search) and isinstance(before, CostAware)
        assert search.tradeoff == before.tradeoff
        np.testing.assert_array_equal(search.choose(predicted, cost), before.choose(predicted, cost))
        replayed = search.replays(predicted, observed, cost)[0]
        np.testing.assert_array_equal(replayed.kept, before.choose(predicted, cost))
        np.testing.assert_allclose(replayed.cost, cost[replayed.kept])  # nothing is looked at
        assert search.calibration and before.calibration
        assert search.calibration.cost == pytest.approx(before.calibration.cost)

    def test_without_a_price_of_a_look(self) -> None:
        predicted, observed, cost = simulated(100, 1)
        assert isinstance(Search(max_images=1).calibrate(predicted, observed, cost), Search)


class TestSeveralImages:
    def test_seeds_are_further_boxes(self) -> None:
        rng = np.random.default_rng(0)
        predicted, theta, cost = simulated(1500, 2)
        images = theta[:, :, None] + 0.8 * rng.normal(size=(1500, 4, 3))
        known = Training(look=1e-7, images=images)
        once, twice = (
            Search(images=number, target="cost").calibrate(predicted, images.mean(axis=2), cost, known)
            for number in (1, 2)
        )
        assert isinstance(once, Search) and isinstance(twice, Search)
        assert once.belief.noise is not None and once.belief.noise == pytest.approx(0.64, rel=0.1)
        assert len(twice.belief) == 8
        assert once.calibration and twice.calibration and twice.calibration.quality > once.calibration.quality
        replayed = twice.replays(predicted, images.mean(axis=2), cost, images)
        assert len(replayed) == 3 and max(one.order.max() for one in replayed) > 3

    def test_more_than_the_study_has(self) -> None:
        predicted, observed, cost = simulated(100, 1)
        with pytest.raises(UserError, match=r"noise|as many scores"):
            Search(images=2).calibrate(predicted, observed, cost, LOOK)
        with pytest.raises(UserError, match="and this study has 3; generate more seeds"):
            rounds(observed, np.zeros((100, 4, 3)), 4)

    def test_each_image_is_first_once(self) -> None:
        images = np.arange(12.0).reshape(1, 2, 6)[:, :, :3]
        found = np.stack(rounds(images.mean(axis=2), images, 2))
        np.testing.assert_array_equal(found[:, 0, 0], images[0, 0])
        np.testing.assert_array_equal(found[:, 0, 2], np.roll(images[0, 0], -1))


class TestPolicy:
    def test_survives_a_folder(self) -> None:
        policy, predicted, observed = made(500)
        again = restore(policy.to_section(), policy.arrays(), "here")
        assert again == policy and isinstance(again, Search)
        one, two = (own.replays(predicted, observed, TABLE_2)[0] for own in (policy, again))
        np.testing.assert_array_equal(one.order, two.order)

    def test_saved_router(self, tmp_path: Path) -> None:
        from promptroute.router.router import Router
        from tests.router.made import COST, saved_router

        predicted, observed, _ = simulated(50, seed=0)
        policy = Search().calibrate(predicted[:, :3], observed[:, :3], COST, LOOK)
        own, folder = saved_router(tmp_path / "made", policy)
        loaded = Router.load(folder)
        assert loaded.policy == policy
        assert loaded.route(["a robot", "a sheep"]) == own.route(["a robot", "a sheep"])
        card = (folder / "README.md").read_text()
        assert "Belief: of 50 held-out prompts" in card and "partly luck" in card

    def test_belief_of_another_size(self) -> None:
        policy, _, _ = made(200)
        with pytest.raises(ValueError, match="a belief of 3 models; this has one of 4"):
            policy.check(TABLE_2[:3], [])
        with pytest.raises(ValueError, match="no covariance"):
            restore(policy.to_section(), {}, "here")
        with pytest.raises(ValueError, match="this has none"):
            Search(tradeoff=1.0, look=0.0).check(TABLE_2, [])

    def test_only_allowed_models(self) -> None:
        policy, predicted, _ = made(200)
        look = policy.view(predicted, np.full(predicted.shape, np.nan), TABLE_2, allowed=np.array([0, 2]))
        assert set(look.model) <= {0, 2}
        assert set(policy.choose(predicted, TABLE_2, allowed=np.array([3]))) == {3}

    def test_view_and_kept(self) -> None:
        policy, predicted, observed = made(200)
        seen = np.where(np.arange(4) < 2, observed, np.nan)
        look = policy.view(predicted, seen, TABLE_2)
        np.testing.assert_array_equal(look.kept, seen[:, :2].argmax(axis=1))
        np.testing.assert_array_equal(policy.kept(predicted, seen), look.kept)

    def test_not_calibrated(self) -> None:
        with pytest.raises(UserError, match="no belief"):
            Search().choose([[1.0, 2.0]], [1.0, 2.0])

    def test_words(self) -> None:
        policy, predicted, _ = made(200)
        labels = ["A", "B", "C", "D"]
        text = policy.explain(predicted[0].tolist(), 1, Candidates(labels, TABLE_2.tolist(), range(4)))
        assert text.startswith("first,")
        assert "a look costs $0.0001 per 1000" in policy.summary(labels)
        assert policy.describe(labels)["facts"]["prompts"] == 200

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"max_images": 0}, "max_images is 0"),
            ({"images": 0}, "images is 0"),
            ({"trust": 1.5}, "trust is 1.5"),
            ({"trust": -0.1}, "trust is -0.1"),
            ({"look": -1.0}, "look is -1"),
            ({"tradeoff": -1.0}, "tradeoff is -1"),
            ({"target": "speed"}, "target is"),
            ({"target": "cost", "standard_errors": 1.0}, "standard_errors"),
        ],
    )
    def test_bad_setting(self, settings: dict[str, Any], says: str) -> None:
        with pytest.raises(UserError, match=says):
            Search(**settings)

    def test_trust_needs_single_images(self) -> None:
        predicted, observed, cost = simulated(100, 1)
        with pytest.raises(UserError, match="generate more seeds, or leave trust at 1"):
            Search(trust=0.5).calibrate(predicted, observed, cost, LOOK)

    @pytest.mark.parametrize("wrapper", [WithMargin, WithOodFallback])
    def test_takes_no_wrapper(self, wrapper: Any) -> None:
        with pytest.raises(UserError, match="policy search takes no"):
            wrapper(policy=Search())
