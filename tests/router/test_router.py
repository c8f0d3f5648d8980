"""How a router chooses, explains, and what it refuses of a request."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.folder import save_predictor
from promptroute.predictors.mean import Mean
from promptroute.predictors.ridge import Ridge
from promptroute.router import parts as module
from promptroute.router.router import Router
from promptroute.router.types import Assessment, Decision
from promptroute.routing import choices
from promptroute.routing.policies import BestPredicted, CheapestWithin, CostAware
from promptroute.routing.wrappers import WithMargin

from .made import (
    AXES,
    COST,
    FACTS,
    KNOWN,
    MODELS,
    Axes,
    cost_aware,
    fitted,
    guaranteed,
    policies,
    router,
    saved_router,
    training,
    with_fallback,
)


def chosen(own: Router, **asked: Any) -> list[str]:
    """The models that a router chooses for the prompts it knows."""
    return [decision.model for decision in own.route(list(KNOWN), **asked)]


class TestChoice:
    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            # expensive beats cheap on "easy" while 5.0 - λ·1e-3 > 4.9 - λ·1e-4, that is λ < 111.1; over middle while
            # λ < 0.05 / 6e-4 = 83.3; middle beats cheap while λ < 0.05 / 3e-4 = 166.7.
            (cost_aware(0.0), ["expensive", "expensive", "cheap"]),
            (cost_aware(83.0), ["expensive", "expensive", "cheap"]),
            (cost_aware(84.0), ["expensive", "middle", "cheap"]),
            (cost_aware(166.0), ["expensive", "middle", "cheap"]),
            (cost_aware(167.0), ["expensive", "cheap", "cheap"]),
            # "hard": middle over expensive from 0.2 / 6e-4 = 333.3 on.
            (cost_aware(334.0), ["middle", "cheap", "cheap"]),
            (cost_aware(1e9), ["cheap", "cheap", "cheap"]),
            (CheapestWithin(slack=0.0), ["expensive", "expensive", "cheap"]),
            (CheapestWithin(slack=0.06), ["expensive", "middle", "cheap"]),
            (CheapestWithin(slack=0.11), ["expensive", "cheap", "cheap"]),
            (CheapestWithin(slack=0.21), ["middle", "cheap", "cheap"]),
            # The target could not be met: everything goes to the best single model.
            (cost_aware(None), ["expensive", "expensive", "expensive"]),
            (BestPredicted(), ["expensive", "expensive", "cheap"]),
        ],
    )
    def test_by_hand(self, policy: Any, expected: list[str]) -> None:
        decisions = router(policy).route(["hard", "easy", "odd"])
        assert [decision.model for decision in decisions] == expected
        costs = {model.name: model.cost for model in MODELS}
        assert [decision.cost for decision in decisions] == [costs[name] for name in expected]
        assert [dict(decision.quality) for decision in decisions] == [
            dict(zip(("expensive", "middle", "cheap"), row, strict=True)) for row in KNOWN.values()
        ]

    def test_reasons(self) -> None:
        reasons = [d.reason for d in router(CheapestWithin(slack=0.06)).route(["hard", "easy", "odd"])]
        assert reasons == [
            "predicted best; Middle and Cheap would cost less but lose more than that saves",
            "predicted 0.05 below the best (Expensive), for 60% less",
            "predicted best",
        ]

    def test_no_prompts(self) -> None:
        asked = router()
        assert asked.route([]) == [] and asked.predictor.asked == []  # type: ignore[attr-defined]

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.sampled_from(sorted(KNOWN)), min_size=1, max_size=12),
        st.sampled_from(sorted(policies())),
        st.randoms(use_true_random=False),
    )
    def test_own_prompt_alone_decides(self, prompts: list[str], policy: str, random: Any) -> None:
        own = router(policies()[policy])
        whole = own.route(prompts)
        assert whole == [own.route([prompt])[0] for prompt in prompts]
        order = list(range(len(prompts)))
        random.shuffle(order)
        assert own.route([prompts[i] for i in order]) == [whole[i] for i in order]

    def test_decides_by_the_policy(self) -> None:
        predicted = np.random.default_rng(4).normal(size=(50, 3))
        seen = Assessment(predicted, np.zeros(50, bool))
        for policy, expected in (
            (BestPredicted(), predicted.argmax(1)),
            (cost_aware(700.0), (predicted - 700 * COST).argmax(1)),
            (CheapestWithin(slack=0.3), choices.cheapest_within(predicted, COST, slack=0.3)),
        ):
            chosen = [decision.model for decision in router(policy).decide(["x"] * 50, seen)]
            assert chosen == [MODELS[column].name for column in expected]

    def test_mean_predictor_by_hand(self, tmp_path: Path) -> None:
        """A whole folder worked by hand: means 5, 4.8, 4.5; λ = 200 gives 4.8, 4.72, 4.48: Expensive."""
        mean = Mean().fit(PromptBatch(["one", "two"]), np.array([[5.2, 4.8, 4.5], [4.8, 4.8, 4.5]]))
        save_predictor(mean, tmp_path / "predictor")
        for value, expected in ((200.0, "expensive"), (400.0, "middle"), (1200.0, "cheap")):
            # 5 - 1e-3 λ, 4.8 - 4e-4 λ, 4.5 - 1e-4 λ: 4.6/4.64/4.46 at 400, 3.8/4.32/4.38 at 1200.
            own = router(cost_aware(value), predictor=mean)
            own.save(tmp_path / "router", predictor=tmp_path / "predictor")
            assert {d.model for d in Router.load(tmp_path / "router").route(["x", "y"])} == {expected}


class TestRequest:
    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({}, [0, 0, 2]),
            ({"tradeoff": 0.0}, [0, 0, 2]),
            ({"tradeoff": 334.0}, [1, 2, 2]),
            ({"slack": 0.06}, [0, 1, 2]),
            ({"policy": CheapestWithin(slack=0.06)}, [0, 1, 2]),
            ({"models": ["cheap"]}, [2, 2, 2]),
            ({"models": ["cheap", "middle"]}, [1, 1, 2]),  # columns keep their order, however they are named
            ({"models": ["middle", "cheap"], "slack": 0.06}, [1, 2, 2]),
        ],
    )
    def test_own_point_and_models(self, asked: dict[str, Any], expected: list[int]) -> None:
        assert chosen(router(), **asked) == [MODELS[column].name for column in expected]

    def test_others_are_no_yardstick(self) -> None:
        (decision,) = router().route(["hard"], models=["cheap", "middle"])
        assert "Expensive" not in decision.reason and list(decision.quality) == [
            "expensive",
            "middle",
            "cheap",
        ]

    def test_next_best_single(self) -> None:
        stuck = router(cost_aware(None))
        assert chosen(stuck, models=["cheap", "middle"]) == ["middle"] * 3
        assert stuck.route(["odd"])[0].reason.startswith("no operating point met the target (quality)")
        # A point of its own still decides.
        assert {decision.model for decision in stuck.route(list(KNOWN), tradeoff=1e9)} == {"cheap"}

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"tradeoff": 1.0, "slack": 1.0}, "ways to decide; give one of them, not both"),
            ({"policy": BestPredicted(), "slack": 1.0}, "ways to decide"),
            ({"tradeoff": -1.0}, "tradeoff is -1.0; expected greater than or equal to 0"),
            ({"slack": float("nan")}, "slack is nan; expected"),
            ({"slack": "much"}, "slack is 'much'; expected"),
            (
                {"models": ["expensive", "dall-e"]},
                r"model 'dall-e' is unknown; expected some of expensive, middle, cheap",
            ),
            ({"models": []}, "models is empty, so nothing can be chosen; expected some of"),
        ],
    )
    def test_refused(self, asked: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            router().route(["odd"], **asked)

    @pytest.mark.parametrize(
        ("prompts", "message"),
        [
            (["a robot", ""], r"prompt 2 of 2 \(''\) is empty; give a text to generate"),
            (["\u3000 \n\t"], r"prompt 1 of 1 .* is empty"),
            (["a", "\u200b"], "prompt 2 of 2 .* shows nothing"),
            ([None], r"prompt 1 of 1 \(None\) is not text"),
            (["a robot", 3, "b"], r"prompt 2 of 3 \(3\) is not text"),
            ([b"a robot"], "is not text"),
            ([float("nan")], r"\(nan\) is not text"),
            (["a\x00robot"], r"\('a\\x00robot'\) is not valid Unicode text; take out what is invalid"),
            (["a \ud83d robot"], r"\('a \\ud83d robot'\) is not valid Unicode"),
            (["\x00" * 5000], r"prompt 1 of 1 \('(\\x00)+.*\.\.\.\) is not valid"),
            ("a robot", r"the prompts are one text \('a robot'\); give a list"),
        ],
    )
    def test_bad_prompts(self, prompts: Any, message: str) -> None:
        asked = router()
        with pytest.raises(UserError, match=message) as caught:
            asked.route(prompts)
        assert "\x00" not in str(caught.value) and len(str(caught.value)) < 200
        assert asked.predictor.asked == []  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Router:
    """A trained router."""
    return Router.load(saved_router(tmp_path_factory.mktemp("router"))[1])


class TestTrained:
    @pytest.mark.parametrize(
        "prompt",
        ["word " * 20_000, "x" * 100_000, "🦊" * 300, "<script>alert(1)</script>", "../../etc/passwd", "$(reboot)",
         "a\u2028b", "\u202eback", "?", "%s %d {0}", "a\nb"],
    )  # fmt: skip
    def test_unusual_prompts(self, loaded: Router, prompt: str) -> None:
        (decision,) = loaded.route([prompt])
        assert isinstance(decision, Decision) and decision.prompt == prompt
        assert all(math.isfinite(value) for value in decision.quality.values())

    def test_neighbours_change_nothing(self, loaded: Router) -> None:
        alone, beside = loaded.route(["a robot"]), loaded.route(["word " * 5000, "a robot"])
        assert beside[1].model == alone[0].model
        assert list(beside[1].quality.values()) == pytest.approx(list(alone[0].quality.values()), abs=1e-9)

    def test_order_changes_nothing(self, loaded: Router) -> None:
        prompts = list(training()[0].texts)
        order = np.random.default_rng(3).permutation(len(prompts))
        before, after = loaded.route(prompts), loaded.route([prompts[i] for i in order])
        for place, i in enumerate(order):
            assert (after[place].prompt, after[place].model) == (before[i].prompt, before[i].model)
            assert list(after[place].quality.values()) == pytest.approx(
                list(before[i].quality.values()), abs=1e-9
            )


class TestEncoders:
    def test_rows_reach_the_predictor(self, tmp_path: Path) -> None:
        from tests.encoders.conftest import make_tiny_clip

        clip = make_tiny_clip(tmp_path / "clip")
        section = {"_target_": "promptroute.encoders.clip_text.ClipTextEncoder", "model": str(clip)}
        own = router(encoders={"clip": section})
        own.route(["hard", "odd", "hard"])
        batch = own.predictor.asked[-1]  # type: ignore[attr-defined]
        assert batch.texts == ["hard", "odd", "hard"] and batch.embeddings["clip"].shape == (3, 32)
        np.testing.assert_array_equal(batch.embeddings["clip"][0], batch.embeddings["clip"][2])
        assert np.abs(batch.embeddings["clip"][0] - batch.embeddings["clip"][1]).max() > 0.01

    def test_missing_encoder(self, tmp_path: Path) -> None:
        prompts, quality = training()
        rows = np.random.default_rng(0).normal(size=(len(prompts), 4)).astype(np.float32)
        learnt = Ridge(alphas=[10.0]).fit(PromptBatch(prompts.texts, {"minilm": rows}), quality)
        save_predictor(learnt, tmp_path / "predictor")
        router(predictor=learnt).save(tmp_path / "router", predictor=tmp_path / "predictor")
        with pytest.raises(UserError, match="there are no embeddings 'minilm'"):
            Router.load(tmp_path / "router").route(["a robot"])

    def test_other_weights_are_refused(self, tmp_path: Path) -> None:
        """Their vectors would be noise to the predictor, without a word."""
        from safetensors.numpy import load_file, save_file

        from tests.encoders.conftest import make_tiny_clip

        clip = make_tiny_clip(tmp_path / "clip")
        predictor = fitted()[0]
        save_predictor(predictor, tmp_path / "predictor")
        section = {"_target_": "promptroute.encoders.clip_text.ClipTextEncoder", "model": str(clip)}
        own = router(predictor=predictor, encoders={"clip": section})
        own.save(tmp_path / "router", tmp_path / "predictor")
        Router.load(tmp_path / "router").warm()
        weights = load_file(clip / "model.safetensors")
        name = next(name for name in weights if name.endswith("final_layer_norm.weight"))
        save_file({**weights, name: weights[name] * 1.01}, clip / "model.safetensors", {"format": "pt"})
        with pytest.raises(
            UserError, match=r"encoder clip: the weights or settings of .*clip on this machine"
        ):
            Router.load(tmp_path / "router").warm()

    def test_own_encoder_comes_along(self, tmp_path: Path) -> None:
        from tests.encoders.test_static import table

        table().save(tmp_path / "static")
        predictor = fitted()[0]
        save_predictor(predictor, tmp_path / "predictor")
        section = {
            "_target_": "promptroute.encoders.static.StaticEncoder",
            "model": "teacher",
            "folder": str(tmp_path / "static"),
        }
        own = router(predictor=predictor, encoders={"static": section})
        own.save(tmp_path / "router", predictor=tmp_path / "predictor")
        (tmp_path / "static").rename(tmp_path / "gone")
        moved = (tmp_path / "router").rename(tmp_path / "elsewhere")
        loaded = Router.load(moved)
        loaded.warm()
        np.testing.assert_array_equal(
            loaded.batch(["red car"]).embeddings["static"], own.batch(["red car"]).embeddings["static"]
        )
        assert "in `encoders/`" in (moved / "README.md").read_text()
        vectors = moved / "encoders" / "static" / "tokens.safetensors"
        vectors.write_bytes(vectors.read_bytes()[:-4])
        with pytest.raises(UserError, match=r"tokens\.safetensors: changed since the router was saved"):
            Router.load(moved)


class TestGuarantee:
    @pytest.mark.parametrize(
        ("threshold", "expected"),
        [
            # Margins over expensive: hard -0.2, -1; easy -0.05, -0.1; odd 0, 0.5. The cheapest above the threshold.
            (-0.15, ["expensive", "cheap", "cheap"]),
            (-0.08, ["expensive", "middle", "cheap"]),
            (-2.0, ["cheap", "cheap", "cheap"]),
            (0.5, ["expensive", "expensive", "expensive"]),
            (None, ["expensive", "expensive", "expensive"]),
        ],
    )
    def test_cheapest_above_threshold(self, threshold: float | None, expected: list[str]) -> None:
        own = router(guaranteed(threshold))
        assert [decision.model for decision in own.route(["hard", "easy", "odd"])] == expected

    def test_reasons(self) -> None:
        given = router(guaranteed())
        assert [decision.reason for decision in given.route(["hard", "easy"])] == [
            "no cheaper model is predicted well enough to stay within 0.2 of Expensive",
            "the cheapest that is calibrated to stay within 0.2 of Expensive on 0.9 of all prompts, for 90% less",
        ]
        refused, policy = router(guaranteed(None)), guaranteed(None)
        assert policy.guarantee is not None
        assert {d.reason for d in refused.route(["hard", "odd"])} == {policy.guarantee.statement}
        # Against a model that may not be chosen nothing is guaranteed: the best of the others on average.
        (decision,) = given.route(["easy"], models=["cheap", "middle"])
        assert decision.model == "middle"
        assert decision.reason.startswith("the guarantee is against Expensive, which may not be")
        (decision,) = given.route(["odd"], models=["cheap", "expensive"])
        assert decision.model == "cheap" and "though for all models together" in decision.reason
        assert chosen(refused, models=["cheap"]) == ["cheap"] * 3
        # A point of one's own still decides.
        assert {d.model for d in given.route(list(KNOWN), tradeoff=1e9)} == {"cheap"}


class TestMargin:
    def test_keeps_the_best_single(self) -> None:
        own = router(WithMargin(policy=cost_aware(0.0), margin=0.6))
        decisions = own.route(["hard", "odd"])  # odd: cheap is predicted 0.5 better, which is not above 0.6
        assert [decision.model for decision in decisions] == ["expensive", "expensive"]
        assert decisions[1].reason == (
            "predicted 0.5 below the best (Cheap), which is too little to leave Expensive, the best single model"
        )
        # Without expensive, or with a point for this once, there is no margin.
        assert chosen(own, models=["cheap", "middle"]) == ["middle", "middle", "cheap"]
        assert [d.model for d in own.route(list(KNOWN), tradeoff=0.0)] == ["expensive", "expensive", "cheap"]


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder of every router is `Axes`."""
    monkeypatch.setattr(module, "build_encoders", lambda *_: {"axes": Axes()})


@pytest.mark.usefixtures("axes")
class TestFallback:
    def test_far_prompts(self) -> None:
        own = router(with_fallback(BestPredicted(calibration=FACTS)), encoders=AXES)
        assert own.assess(["hard", "odd", "easy"]).ood.tolist() == [False, True, False]
        decisions = own.route(["hard", "odd"])
        assert [decision.model for decision in decisions] == ["expensive", "expensive"]
        assert decisions[1].reason.startswith("out-of-distribution: no training prompt is near enough")
        assert decisions[0].reason == "predicted best"
        without = router(BestPredicted(), encoders=AXES)
        assert [decision.model for decision in without.route(["hard", "odd"])] == ["expensive", "cheap"]
        assert without.assess(["odd"]).ood.tolist() == [False]

    @pytest.mark.parametrize("policy", sorted(policies()))
    def test_around_every_policy(self, policy: str) -> None:
        own = router(with_fallback(policies()[policy]), encoders=AXES)
        (decision,) = own.route(["odd"])
        assert decision.model == "expensive"
        (decision,) = own.route(["odd"], models=["middle", "cheap"])
        assert decision.model == "middle", "without the best single model the next best"
        (decision,) = own.route(["odd"], tradeoff=1e9)
        assert decision.model == "cheap" and "out-of-distribution" not in decision.reason

    def test_margin_within_fallback(self) -> None:
        own = router(
            with_fallback(WithMargin(policy=CostAware(tradeoff=0.0, calibration=FACTS), margin=0.6)),
            encoders=AXES,
        )
        hard, odd = own.route(["hard", "odd"])
        assert (hard.model, odd.model) == ("expensive", "expensive") and odd.reason.startswith(
            "out-of-distribution"
        )
