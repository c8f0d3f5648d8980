"""What a router says comes next, once some images of a prompt have been looked at."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.predictors.folder import save_predictor
from promptroute.router.looking import Recent
from promptroute.router.router import Router
from promptroute.router.types import Next
from promptroute.routing.policies import BestPredicted
from promptroute.routing.quality import Quality
from promptroute.routing.search import STOP

from .made import KNOWN, PREDICTED, PRICED, PRICES, SPREAD, fitted, policies, router, search

CORRELATED = SPREAD**2 * (0.5 + 0.5 * np.eye(3))


def searching(**changes: Any) -> Router:
    """A router that searches; arguments of `search`."""
    return router(search(**changes), models=PRICED)


class TestByHand:
    """Reservation values: "hard" 4.75, 4.8, 4.25 (expensive, middle, cheap), "odd" 3.75, 4.0, 4.75."""

    def test_first(self) -> None:
        step = searching().next("hard")
        assert step == Next(
            "middle", None, pytest.approx(4.8, abs=1e-5), None, pytest.approx(PRICES[1]),
            "there is no image yet; Middle's reservation value is 4.8, the highest",
        )  # fmt: skip
        assert searching().next("odd", {}).model == "cheap"

    def test_goes_on(self) -> None:
        # EI(5, 0.5, 4.5) = 0.5 (Φ(1) + φ(1)) = 0.5 (0.84134 + 0.24197)
        step = searching().next("hard", {"middle": 4.5})
        assert step == Next(
            "expensive", "middle", pytest.approx(4.75, abs=1e-5), pytest.approx(0.541658, abs=1e-5),
            pytest.approx(PRICES[0]),
            "Middle's image scores 4.5; Expensive's reservation value is 4.75, so another image, expected to gain 0.542, "
            "is worth $0.000349",
        )  # fmt: skip

    def test_stops(self) -> None:
        step = searching().next("hard", {"middle": 4.9})
        assert (step.model, step.keep) == (None, "middle")
        assert step.reservation == pytest.approx(4.75, abs=1e-5) and step.price == pytest.approx(PRICES[0])
        assert step.reason == (
            "Middle's image scores 4.9; Expensive's reservation value is 4.75, so another image isn't worth $0.000349: "
            "keep it"
        )

    def test_earlier_image_kept(self) -> None:
        step = searching().next("hard", {"expensive": 4.7, "middle": 4.6})
        assert (step.model, step.keep) == (None, "expensive")
        assert step.reason.startswith("Expensive's image scores 4.7; Cheap's reservation value is 4.25, so")

    def test_every_model_asked(self) -> None:
        step = searching().next("hard", {"expensive": 3.0, "middle": 3.5, "cheap": 3.2})
        assert step == Next(
            None, "middle", None, None, None, "Middle's image scores 3.5, and no model is left: keep it"
        )

    def test_failed(self) -> None:
        own = searching()
        step = own.next("hard", {"middle": None})
        assert (step.model, step.keep, step.expected_gain) == ("expensive", None, None)
        assert step.reason == "Middle's image failed; Expensive's reservation value is 4.75, the highest"
        step = own.next("hard", {"middle": None, "expensive": None})
        assert step.model == "cheap" and step.reason.startswith(
            "Expensive's image and Middle's image failed; "
        )
        step = own.next("hard", {"middle": None, "expensive": None, "cheap": None})
        assert step == Next(None, None, None, None, None, step.reason)
        assert step.reason.endswith(
            "Cheap's image failed, and no model is left to ask: there is nothing to keep"
        )

    def test_most_images(self) -> None:
        two = searching(max_images=2)
        assert two.next("hard", {"middle": 1.0}).model == "expensive"
        step = two.next("hard", {"middle": 1.0, "expensive": 2.0})
        assert (step.model, step.keep) == (None, "expensive")
        assert step.reason == "Expensive's image scores 2, and no more images may be made: keep it"
        # A failed image is none: another may be made.
        assert two.next("hard", {"middle": 1.0, "expensive": None}).model == "cheap"
        assert two.next("hard").reason.startswith("there is no image yet; ")

    def test_price_counts_for_nothing(self) -> None:
        step = searching(tradeoff=0.0).next("hard", {"middle": 9.0})
        assert (step.model, step.reservation) == ("cheap", None)
        assert step.reason == "Middle's image scores 9; Cheap's image comes next, as quality alone counts"

    def test_trust(self) -> None:
        """κ = 0, variance 0.25 of which 0.1 luck: a surprise of +0.5 counts as 0.5 · (0.15 / 0.25) = 0.3."""
        step = searching(noise=np.full(3, 0.1), trust=0.0).next("hard", {"middle": 5.3})
        assert step.reason.startswith(
            "Middle's image scores 5.3 and counts as 5.1; Expensive's reservation value is "
        )

    def test_some_models(self) -> None:
        own = searching()
        assert own.next("hard", models=["cheap"]).model == "cheap"
        step = own.next("hard", {"middle": 1.0}, models=["middle", "cheap"])
        assert (step.model, step.keep) == ("cheap", "middle"), (
            "an image may be kept, whose model may not be asked"
        )
        assert own.next("hard", {"cheap": 4.0}, models=["cheap"]).reason.endswith("no model is left: keep it")

    def test_several_images(self) -> None:
        own = searching(noise=np.full(3, 0.1), images=2)
        first = own.next("odd", {"cheap": 3.9})
        assert first.model == "cheap"
        assert first.reason.startswith(
            "Cheap's image scores 3.9; the reservation value of Cheap's second image is 4."
        )
        step = own.next("odd", {"cheap": [3.9, 5.5]})
        assert step.keep == "cheap" and step.reason.startswith("Cheap's second image scores 5.5; ")
        step = own.next("odd", {"cheap": [None, 3.9]})
        assert step.keep == "cheap" and step.model is not None
        with pytest.raises(UserError, match="3 images of cheap; the router asks for 2 of a model at most"):
            own.next("odd", {"cheap": [1.0, 2.0, 3.0]})


class TestLoop:
    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from(sorted(KNOWN)),
        st.lists(st.floats(0, 9) | st.none(), min_size=3, max_size=3),
        st.floats(0, 1e4),
        st.sampled_from([None, 1, 2, 3]),
        st.booleans(),
    )
    def test_gateway_ends(
        self, prompt: str, images: list[float | None], tradeoff: float, most: int | None, alike: bool
    ) -> None:
        """Each model is asked once at most; what is kept was generated; the loop is the policy's replay."""
        policy = search(CORRELATED if alike else None, tradeoff=tradeoff, max_images=most)
        own, seen, spent = router(policy, models=PRICED), dict[str, float | None](), 0.0
        while (step := own.next(prompt, seen)).model:
            assert step.model not in seen and step.price is not None
            seen[step.model] = images[own.names.index(step.model)]
            spent += step.price
        truth = np.array([[-np.inf if image is None else image for image in images]])
        (replay,) = policy.replays(np.array([KNOWN[prompt]]), truth, own.cost)
        assert list(seen) == [own.names[column] for column in replay.order[0] if column != STOP]
        assert step.keep == (None if replay.kept[0] == STOP else own.names[replay.kept[0]])
        assert spent == pytest.approx(replay.cost[0])
        assert own.next(prompt, dict(reversed(seen.items()))) == step, (
            "the order of what was seen changes nothing"
        )

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(-50, 50) | st.none(), min_size=3, max_size=3), st.sampled_from(sorted(KNOWN)))
    def test_is_the_policys_view(self, images: list[float | None], prompt: str) -> None:
        own = searching(covariance=CORRELATED)
        seen = {name: image for name, image in zip(own.names, images, strict=True) if image is not None}
        scores = np.array([[np.nan if image is None else image for image in images]])
        view, step = own.looker.view(np.array([KNOWN[prompt]]), scores, own.cost), own.next(prompt, seen)
        assert step.model == (None if view.model[0] == STOP else own.names[view.model[0]])
        assert step.keep == (None if view.kept[0] == STOP else own.names[view.kept[0]])
        if step.reservation is not None:
            assert step.reservation in view.reservation[0] and "\n" not in step.reason

    def test_predicted_once(self) -> None:
        own = searching()
        for seen in ({}, {"middle": 4.0}, {"middle": 4.0, "expensive": 4.1}):
            own.next("hard", seen)
        own.next("odd")
        assert [batch.texts for batch in own.predictor.asked] == [["hard"], ["odd"]]  # type: ignore[attr-defined]

    def test_saved(self, tmp_path: Path) -> None:
        predictor = fitted()[0]
        save_predictor(predictor, tmp_path / "predictor")
        own = router(search(max_images=2, tradeoff=10.0), predictor=predictor)
        own.save(tmp_path / "router", predictor=tmp_path / "predictor")
        loaded = Router.load(tmp_path / "router")
        for seen in ({}, {"cheap": 5.0}, {"cheap": None, "middle": 4.2}):
            assert loaded.next("a robot", seen) == own.next("a robot", seen)


class TestRecent:
    def test_oldest_goes(self) -> None:
        recent = Recent(2)
        for place, prompt in enumerate("aba"):
            recent.add(prompt, np.array([place]))
        assert recent.get("b") == [1]
        recent.add("c", np.array([9]))
        assert recent.get("a") is None and recent.get("b") == [1] and recent.get("c") == [9]


MIXED = Quality(
    {"nima.mean": 1.0, "lpips.mean": 2.0}, {"nima.mean": True, "lpips.mean": False},
    {"nima.mean": 4.0, "lpips.mean": -1.0}, {"nima.mean": 2.0, "lpips.mean": 1.0},
)  # fmt: skip


class TestScores:
    def test_raw_scores(self) -> None:
        """nima 5 counts as (5 - 4) / 2, lpips 0.25, lower is better, as 2 · (-0.25 + 1): 2.0 in all."""
        own = replace(searching(), quality=MIXED)
        raw = own.next("hard", {"middle": {"nima.mean": 5.0, "lpips.mean": 0.25}})
        assert raw == own.next("hard", {"middle": 2.0}) and "Middle's image scores 2;" in raw.reason

    @pytest.mark.parametrize("number", [4, np.float32(4), np.int64(4), 4.0])
    def test_any_number(self, number: Any) -> None:
        assert searching().next("hard", {"middle": number}).keep == "middle"


BAD = [
    (["middle"], r"seen is a list; expected the score of each image, as {\"expensive\": 5.1}"),
    ({"dall-e": 5.0}, "seen: model 'dall-e' is unknown; expected some of expensive, middle, cheap"),
    ({None: 5.0}, "seen: model None is unknown"),
    ({("a", "b"): 5.0}, "seen: model a tuple is unknown"),
    ({"middle": float("nan")}, "seen: the score of middle is nan; expected a finite number, or null where"),
    ({"middle": float("inf")}, "the score of middle is inf; expected a finite number"),
    ({"middle": 10**400}, "the score of middle is 1000.*; expected a finite number"),
    ({"middle": True}, "the score of middle is True; expected a finite number"),
    ({"middle": np.True_}, "the score of middle is a bool; expected a finite number"),
    ({"middle": "5.1"}, "the score of middle is '5.1'; expected a finite number"),
    ({"middle": Decimal("5.1")}, "the score of middle is a Decimal; expected a finite number"),
    ({"middle": np.array([5.1])}, "the score of middle is a ndarray; expected a finite number"),
    ({"middle": [5.1, 5.2]}, "seen: 2 images of middle; the router asks for 1 of a model at most"),
    ({"middle": [[5.1]]}, "the score of middle is a list; expected a finite number"),
    ({"middle": {}}, r"seen: middle has the scores \[\]; expected nima, or their quality as one number"),
    ({"middle": {"nima": 5.0, "clip": 3.0}}, r"middle has the scores \['clip', 'nima'\]; expected nima"),
    ({"middle": {"nima": None}}, "seen: nima of middle is None; expected a finite number"),
    ({"middle": {"nima": "x" * 999}}, r"seen: nima of middle is 'xxx.*\.\.\.; expected a finite number"),
]


class TestRefused:
    @pytest.mark.parametrize(("seen", "message"), BAD)
    def test_seen(self, seen: Any, message: str) -> None:
        own = searching()
        with pytest.raises(UserError, match=message) as caught:
            own.next("hard", seen)
        assert len(str(caught.value)) < 250 and own.predictor.asked == []  # type: ignore[attr-defined]

    @pytest.mark.parametrize("prompt", ["", " \n", None, 3, "a\x00b", "\ud83d"])
    def test_prompt(self, prompt: Any) -> None:
        with pytest.raises(UserError, match="prompt 1 of 1"):
            searching().next(prompt, {"middle": 4.0})

    def test_models(self) -> None:
        with pytest.raises(UserError, match="model 'dall-e' is unknown"):
            searching().next("hard", models=["dall-e"])
        with pytest.raises(UserError, match="models is empty"):
            searching().next("hard", models=[])

    @pytest.mark.parametrize("policy", sorted(policies()))
    def test_policy_that_cannot_look(self, policy: str) -> None:
        with pytest.raises(
            UserError, match="decides before it sees an image, so there is no next one; ask for a"
        ):
            router(policies()[policy]).next("hard")

    def test_route_still_chooses(self) -> None:
        """A router that searches can be asked for a choice too: the first image's model."""
        (decision,) = searching().route(["hard"])
        assert decision.model == "middle" and decision.reason.startswith(
            "first, as its image may be worth most"
        )
        (decision,) = searching().route(["hard"], policy=BestPredicted())
        assert decision.model == "expensive"


def test_known_prices() -> None:
    """The hand-worked prices are those that the reservation values above come from."""
    own = searching()
    np.testing.assert_allclose(own.looker.prices(own.cost), PRICES)
    view = own.looker.view(PREDICTED, np.full((3, 3), np.nan), own.cost)
    np.testing.assert_allclose(view.reservation, PREDICTED + np.array([-0.25, 0, 0.25]), atol=1e-5)
