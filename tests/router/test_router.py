"""The router folder: what it holds, how it chooses, and what it refuses."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.folder import save_predictor
from promptroute.predictors.mean import Mean
from promptroute.predictors.ridge import Ridge
from promptroute.router.router import Decision, ModelInfo, Router
from promptroute.router.settings import KNOBS, POLICIES, TARGETS, Settings, check_policy
from promptroute.routing import policies
from promptroute.routing.calibrate import Calibration, choose
from promptroute.routing.fallback import Fallback
from promptroute.routing.guarantees import Guarantee
from promptroute.routing.quality import Quality

DEAR, MIDDLE, CHEAP = 1.0e-3, 4.0e-4, 1.0e-4
MODELS = (
    ModelInfo("dear", "Dear", DEAR, 5.0),
    ModelInfo("middle", "Middle", MIDDLE, 4.8),
    ModelInfo("cheap", "Cheap", CHEAP, 4.5),
)
QUALITY = Quality({"nima": 1.0}, {"nima": True}, {"nima": 0.0}, {"nima": 1.0})
KNOWN = {"hard": [5.0, 4.8, 4.0], "easy": [5.0, 4.95, 4.9], "odd": [4.0, 4.0, 4.5]}


class Known:
    """Predicts what stands in `KNOWN`, and remembers what it was asked."""

    kind, models = "known", 3

    def __init__(self) -> None:
        self.asked: list[PromptBatch] = []

    def predict(self, prompts: PromptBatch) -> np.ndarray:
        self.asked.append(prompts)
        return np.array([KNOWN[text] for text in prompts.texts])


def knob(policy: str, target: str, value: float | None) -> Calibration:
    name: Any = policy if value is not None else "single"
    return Calibration(name, value, target, value is not None, "by hand", 5.0, DEAR, 0, 5.0, DEAR, 0.0, 9)  # type: ignore[arg-type]


def calibrations(value: float | None = 0.0) -> Any:
    return {policy: {target: knob(policy, target, value) for target in TARGETS} for policy in KNOBS}


def promise(threshold: float | None = -0.15, single: int = 0) -> Guarantee:
    given = threshold is not None
    words = "within 0.2 of the best single model's quality with probability 0.9: "
    words += (
        "given, by hand" if given else "not given by any cheaper model (by hand), so every prompt goes there"
    )
    return Guarantee(0.2, 0.1, single, threshold, given, 0.0, 0.1, 0.5, 9, words)


def router(policy: Any = "cost_aware", value: float | None = 0.0, **changes: Any) -> Router:
    given = {
        "models": MODELS,
        "quality": QUALITY,
        "predictor": Known(),
        "encoders": {},
        "policy": policy,
        "target": "quality",
        "calibrations": calibrations(value),
        "guarantee": promise() if policy == "guaranteed" else None,
    }
    return Router(**{**given, **changes})


# The choice


@pytest.mark.parametrize(
    ("policy", "value", "expected"),
    [
        # dear beats cheap on "easy" while 5.0 - λ·1e-3 > 4.9 - λ·1e-4, that is λ < 111.1; over middle while
        # λ < 0.05 / 6e-4 = 83.3; middle beats cheap while λ < 0.05 / 3e-4 = 166.7.
        ("cost_aware", 0.0, ["dear", "dear", "cheap"]),
        ("cost_aware", 83.0, ["dear", "dear", "cheap"]),
        ("cost_aware", 84.0, ["dear", "middle", "cheap"]),
        ("cost_aware", 166.0, ["dear", "middle", "cheap"]),
        ("cost_aware", 167.0, ["dear", "cheap", "cheap"]),
        # "hard": middle over dear from 0.2 / 6e-4 = 333.3 on.
        ("cost_aware", 334.0, ["middle", "cheap", "cheap"]),
        ("cost_aware", 1e9, ["cheap", "cheap", "cheap"]),
        ("cheapest_within", 0.0, ["dear", "dear", "cheap"]),
        ("cheapest_within", 0.06, ["dear", "middle", "cheap"]),
        ("cheapest_within", 0.11, ["dear", "cheap", "cheap"]),
        ("cheapest_within", 0.21, ["middle", "cheap", "cheap"]),
        # Without a knob the target could not be met: everything goes to the best single model.
        ("cost_aware", None, ["dear", "dear", "dear"]),
        ("best_predicted", 500.0, ["dear", "dear", "cheap"]),
    ],
)
def test_the_choice_by_hand(policy: str, value: float | None, expected: list[str]) -> None:
    decisions = router(policy, value).route(["hard", "easy", "odd"])
    assert [one.model for one in decisions] == expected
    assert [one.cost for one in decisions] == [{m.name: m.cost for m in MODELS}[name] for name in expected]
    assert [dict(one.quality) for one in decisions] == [
        dict(zip(("dear", "middle", "cheap"), row, strict=True)) for row in KNOWN.values()
    ]


def test_the_target_says_which_knob_decides() -> None:
    both = calibrations()
    both["cost_aware"] = {
        "quality": knob("cost_aware", "quality", 0.0),
        "cost": knob("cost_aware", "cost", 1e9),
    }
    assert router(target="quality", calibrations=both).route(["easy"])[0].model == "dear"
    assert router(target="cost", calibrations=both).route(["easy"])[0].model == "cheap"


def test_the_reason_says_what_is_given_up_and_what_is_saved() -> None:
    reasons = [one.reason for one in router("cheapest_within", 0.06).route(["hard", "easy", "odd"])]
    assert reasons == [
        "predicted best; Middle and Cheap would cost less but lose more than that saves",
        "predicted 0.05 below the best (Dear), for 60% less",
        "predicted best",
    ]


def test_no_prompts_are_no_decisions() -> None:
    asked = router()
    assert asked.route([]) == [] and asked.predictor.asked == []  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(KNOWN)), min_size=1, max_size=12),
    st.sampled_from(POLICIES),
    st.sampled_from([0.0, 0.05, 90.0, 1e4]),
    st.randoms(use_true_random=False),
)
def test_a_decision_depends_on_its_own_prompt_alone(
    prompts: list[str], policy: str, value: float, random: Any
) -> None:
    one = router(policy, value)
    whole = one.route(prompts)
    assert whole == [one.route([prompt])[0] for prompt in prompts]
    order = list(range(len(prompts)))
    random.shuffle(order)
    assert one.route([prompts[i] for i in order]) == [whole[i] for i in order]


# The folder


def training(n: int = 60) -> tuple[PromptBatch, np.ndarray]:
    random = np.random.default_rng(0)
    texts = [f"{random.choice(['a robot', 'a sheep', 'an oil painting'])} number {i}" for i in range(n)]
    quality = 5 + random.normal(size=(n, 3))
    quality[:, 2] += ["robot" in text for text in texts]
    return PromptBatch(texts), quality


@pytest.fixture(scope="module")
def trained() -> tuple[Ridge, np.ndarray, np.ndarray]:
    """A predictor that has learnt something, with what it predicts for its own prompts, and the truth."""
    prompts, quality = training()
    predictor = Ridge(alphas=[10.0]).fit(prompts, quality)
    return predictor, predictor.predict(prompts), quality


@pytest.fixture
def saved(trained: Any, tmp_path: Path) -> tuple[Router, Path]:
    predictor, predicted, quality = trained
    cost = np.array([model.cost for model in MODELS])
    one = router(
        predictor=predictor,
        quality=Quality({"nima": 1 / 3, "clip": 2.0}, {"nima": True, "clip": False}, {"nima": 0.1, "clip": -7.3}, {"nima": 3e-7, "clip": 1.7}),
        calibrations={
            policy: {target: choose(policy, predicted, quality, cost, target) for target in TARGETS}
            for policy in KNOBS
        },
        about={"cost": {"rule": "by hand"}},
    )  # fmt: skip
    save_predictor(predictor, tmp_path / "predictor")
    one.save(tmp_path / "router", predictor=tmp_path / "predictor")
    return one, tmp_path / "router"


def test_what_was_saved_decides_bit_equal(saved: tuple[Router, Path]) -> None:
    one, folder = saved
    loaded = Router.load(folder)
    prompts = list(training()[0].texts)
    np.testing.assert_array_equal(loaded.predict(prompts), one.predict(prompts))
    for name in ("models", "quality", "encoders", "policy", "target", "calibrations", "about"):
        assert getattr(loaded, name) == getattr(one, name), name
    for policy in POLICIES:
        for target in TARGETS:
            guarantee = promise() if policy == "guaranteed" else None
            before, after = (
                dataclasses.replace(which, policy=policy, target=target, guarantee=guarantee)
                for which in (one, loaded)
            )
            assert after.route(prompts) == before.route(prompts)
    raw = {"nima": np.random.default_rng(1).normal(size=(4, 3)), "clip": np.ones((4, 3))}
    np.testing.assert_array_equal(loaded.quality.of(raw), one.quality.of(raw))


def test_a_folder_holds_json_and_safetensors_alone_and_can_be_moved(
    saved: tuple[Router, Path], tmp_path: Path
) -> None:
    one, folder = saved
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {
        ".json",
        ".safetensors",
        ".md",
    }
    assert str(tmp_path) not in (folder / "router.json").read_text()
    (tmp_path / "predictor").rename(tmp_path / "gone")
    moved = folder.rename(tmp_path / "elsewhere")
    assert Router.load(moved).route(["a robot"]) == one.route(["a robot"])


def test_batch_order_changes_no_decision_of_a_trained_router(saved: tuple[Router, Path]) -> None:
    loaded, prompts = Router.load(saved[1]), list(training()[0].texts)
    order = np.random.default_rng(3).permutation(len(prompts))
    before, after = loaded.route(prompts), loaded.route([prompts[i] for i in order])
    for place, i in enumerate(order):
        assert (after[place].prompt, after[place].model) == (before[i].prompt, before[i].model)
        assert list(after[place].quality.values()) == pytest.approx(
            list(before[i].quality.values()), abs=1e-9
        )


def test_saving_replaces_the_folder_whole_or_leaves_it(saved: tuple[Router, Path], tmp_path: Path) -> None:
    one, folder = saved
    (folder / "left-over.json").write_text("{}")
    with pytest.raises(FileNotFoundError):
        one.save(folder, predictor=tmp_path / "absent")
    assert (folder / "left-over.json").exists() and Router.load(folder).route(["a robot"])
    one.save(folder, predictor=tmp_path / "predictor")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "predictor",
        "router.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictor", "router"]


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    facts = json.loads((folder / "router.json").read_text())
    edit(facts)
    (folder / "router.json").write_text(json.dumps(facts))


def test_missing_and_foreign_folders_are_refused(saved: tuple[Router, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: no such router folder; `dvc repro` trains one"):
        Router.load(tmp_path / "absent")
    with pytest.raises(UserError, match=r"router\.json: no such file; `dvc repro` makes it"):
        Router.load(tmp_path / "predictor")
    folder = saved[1]
    change(folder, lambda facts: facts.update(format=99))
    with pytest.raises(UserError, match="not a router of format 1; train it again"):
        Router.load(folder)
    (folder / "router.json").write_text("[1]")
    with pytest.raises(UserError, match="not a router of format 1"):
        Router.load(folder)


@pytest.mark.parametrize("name", ["router.json", "predictor/predictor.json", "predictor/arrays.safetensors"])
@pytest.mark.parametrize("tear", ["missing", "half", "empty"])
def test_torn_folders_are_refused(saved: tuple[Router, Path], name: str, tear: str) -> None:
    file = saved[1] / name
    content = file.read_bytes()
    if tear == "missing":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if tear == "half" else b"")
    with pytest.raises(UserError, match=r"router.*(train it again|`dvc repro`)"):
        Router.load(saved[1])


def drop(*path: str) -> Callable[[dict[str, Any]], Any]:
    def edit(facts: dict[str, Any]) -> None:
        for key in path[:-1]:
            facts = facts[key]
        del facts[path[-1]]

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        *(drop(key) for key in ("models", "quality", "encoders", "policy", "target", "calibrations", "about")),
        drop("quality", "spread", "clip"),
        drop("calibrations", "cheapest_within"),
        drop("calibrations", "cost_aware", "cost"),
        drop("calibrations", "cost_aware", "cost", "knob"),
        lambda facts: facts["models"].pop(),
        lambda facts: facts["models"].append(facts["models"][0]),
        lambda facts: facts["models"][1].update(name="dear"),
        lambda facts: facts["models"][1].update(cost="dear"),
        lambda facts: facts["models"][1].update(cost=-1.0),
        lambda facts: facts["models"][1].update(colour="red"),
        lambda facts: facts["quality"]["spread"].update(clip=None),
        lambda facts: facts["calibrations"]["cost_aware"]["quality"].update(policy="cost_aware", knob="much"),
        lambda facts: facts["calibrations"]["cost_aware"]["quality"].update(policy="single", knob=None, single=3),
        lambda facts: facts.update(models=None),
        lambda facts: facts.update(encoders=[]),
    ],
)  # fmt: skip
def test_a_router_whose_parts_do_not_fit_together_is_refused(
    saved: tuple[Router, Path], edit: Callable[[dict[str, Any]], Any]
) -> None:
    change(saved[1], edit)
    with pytest.raises(UserError, match=r"router\.json: not a whole router \(.*train it again"):
        Router.load(saved[1])


@pytest.mark.parametrize("policy", ["greedy", "single", None, ["cost_aware"]])
def test_unknown_policies_are_refused(saved: tuple[Router, Path], policy: Any) -> None:
    change(saved[1], lambda facts: facts.update(policy=policy))
    with pytest.raises(
        UserError, match="is unknown; expected one of cost_aware, cheapest_within, best_predicted, guaranteed"
    ):
        Router.load(saved[1])


def test_unknown_targets_are_refused() -> None:
    check_policy("cost_aware", "cost", "here")
    with pytest.raises(UserError, match=r"here: target 'speed' is unknown; expected one of quality, cost"):
        check_policy("cost_aware", "speed", "here")


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "promptroute.io.Source", None])
def test_a_folder_can_have_nothing_but_encoders_built(saved: tuple[Router, Path], target: Any) -> None:
    change(saved[1], lambda facts: facts.update(encoders={"one": {"_target_": target, "command": "true"}}))
    with pytest.raises(
        UserError, match=r"router\.json: encoder one is .*; nothing but .*SentenceEncoder, .* may be built"
    ):
        Router.load(saved[1])


# Encoders and prompts


def test_encoders_are_loaded_when_a_prompt_comes_not_before(
    saved: tuple[Router, Path], tmp_path: Path
) -> None:
    absent = {
        "_target_": "promptroute.encoders.clip_text.ClipTextEncoder",
        "model": str(tmp_path / "no-model"),
    }
    change(saved[1], lambda facts: facts.update(encoders={"clip": absent}))
    loaded = Router.load(saved[1])
    with pytest.raises(UserError, match=r"the CLIP text encoder .*no-model can't be loaded on cpu"):
        loaded.route(["a robot"])


def test_embeddings_reach_the_predictor_row_for_row(tmp_path: Path) -> None:
    from tests.encoders.conftest import make_tiny_clip

    clip = make_tiny_clip(tmp_path / "clip")
    one = router(
        encoders={"clip": {"_target_": "promptroute.encoders.clip_text.ClipTextEncoder", "model": str(clip)}}
    )
    one.route(["hard", "odd", "hard"])
    batch = one.predictor.asked[-1]  # type: ignore[attr-defined]
    assert batch.texts == ["hard", "odd", "hard"] and batch.embeddings["clip"].shape == (3, 32)
    np.testing.assert_array_equal(batch.embeddings["clip"][0], batch.embeddings["clip"][2])
    assert np.abs(batch.embeddings["clip"][0] - batch.embeddings["clip"][1]).max() > 0.01


def test_a_router_without_its_encoder_says_so(tmp_path: Path) -> None:
    prompts, quality = training()
    rows = np.random.default_rng(0).normal(size=(len(prompts), 4)).astype(np.float32)
    fitted = Ridge(alphas=[10.0]).fit(PromptBatch(prompts.texts, {"minilm": rows}), quality)
    save_predictor(fitted, tmp_path / "predictor")
    router(predictor=fitted).save(tmp_path / "router", predictor=tmp_path / "predictor")
    with pytest.raises(UserError, match="there are no embeddings 'minilm'"):
        Router.load(tmp_path / "router").route(["a robot"])


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (["a robot", ""], r"prompt 2 of 2 \(''\) is empty; give a text to draw"),
        (["\u3000 \n\t"], r"prompt 1 of 1 .* is empty"),
        ([None], r"prompt 1 of 1 \(None\) is not text"),
        (["a robot", 3, "b"], r"prompt 2 of 3 \(3\) is not text"),
        ([b"a robot"], "is not text"),
        ([float("nan")], r"\(nan\) is not text"),
        (["a\x00robot"], r"\('a\\x00robot'\) is not valid Unicode text; take out what is none"),
        (["a \ud83d robot"], r"\('a \\ud83d robot'\) is not valid Unicode"),
        (["\x00" * 5000], r"prompt 1 of 1 \('(\\x00)+.*\.\.\.\) is not valid"),
        ("a robot", r"the prompts are one text \('a robot'\); give a list"),
    ],
)
def test_prompts_that_cannot_be_drawn_are_refused(prompts: Any, message: str) -> None:
    asked = router()
    with pytest.raises(UserError, match=message) as caught:
        asked.route(prompts)
    assert "\x00" not in str(caught.value) and len(str(caught.value)) < 200
    assert asked.predictor.asked == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "prompt",
    ["word " * 20_000, "x" * 100_000, "🦊" * 300, "<script>alert(1)</script>", "../../etc/passwd", "$(reboot)",
     "a\u2028b", "\u202eback", "?", "%s %d {0}", "a\nb"],
)  # fmt: skip
def test_strange_prompts_get_a_finite_decision_and_stay_as_they_are(
    saved: tuple[Router, Path], prompt: str
) -> None:
    (decision,) = Router.load(saved[1]).route([prompt])
    assert isinstance(decision, Decision) and decision.prompt == prompt
    assert all(math.isfinite(value) for value in decision.quality.values())


def test_a_prompts_neighbours_change_nothing_even_long_ones(saved: tuple[Router, Path]) -> None:
    loaded = Router.load(saved[1])
    alone, beside = loaded.route(["a robot"]), loaded.route(["word " * 5000, "a robot"])
    assert beside[1].model == alone[0].model
    assert list(beside[1].quality.values()) == pytest.approx(list(alone[0].quality.values()), abs=1e-9)


def test_a_mean_predictor_makes_one_choice_for_all(tmp_path: Path) -> None:
    """A whole folder worked by hand: means 5, 4.8, 4.5; λ = 200 gives 4.8, 4.72, 4.48: Dear."""
    prompts = PromptBatch(["one", "two"])
    mean = Mean().fit(prompts, np.array([[5.2, 4.8, 4.5], [4.8, 4.8, 4.5]]))
    save_predictor(mean, tmp_path / "predictor")
    for value, expected in ((200.0, "dear"), (400.0, "middle"), (1200.0, "cheap")):
        # 5 - 1e-3 λ, 4.8 - 4e-4 λ, 4.5 - 1e-4 λ: 4.6/4.64/4.46 at 400, 3.8/4.32/4.38 at 1200.
        router(value=value, predictor=mean).save(tmp_path / "router", predictor=tmp_path / "predictor")
        assert {one.model for one in Router.load(tmp_path / "router").route(["x", "y"])} == {expected}


def test_choose_is_the_policy_itself() -> None:
    predicted = np.random.default_rng(4).normal(size=(50, 3))
    cost = np.array([DEAR, MIDDLE, CHEAP])

    def same(found: np.ndarray, expected: Sequence[int] | np.ndarray) -> None:
        np.testing.assert_array_equal(found, expected)

    same(router("best_predicted").choose(predicted), predicted.argmax(1))
    same(router("cost_aware", 700.0).choose(predicted), (predicted - 700 * cost).argmax(1))
    same(
        router("cheapest_within", 0.3).choose(predicted),
        policies.cheapest_within(predicted, cost, slack=0.3),
    )


# Knobs and models of one request


PREDICTED = np.array(list(KNOWN.values()))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [0, 0, 2]),
        ({"tradeoff": 0.0}, [0, 0, 2]),
        ({"tradeoff": 334.0}, [1, 2, 2]),
        ({"slack": 0.06}, [0, 1, 2]),
        ({"models": ["cheap"]}, [2, 2, 2]),
        ({"models": ["cheap", "middle"]}, [1, 1, 2]),  # columns keep their order, however they are named
        ({"models": ["middle", "cheap"], "slack": 0.06}, [1, 2, 2]),
    ],
)
def test_a_request_may_bring_a_knob_and_a_choice_of_models(
    asked: dict[str, Any], expected: list[int]
) -> None:
    assert router().choose(PREDICTED, **asked).tolist() == expected
    names = [one.model for one in router().route(list(KNOWN), **asked)]
    assert names == [MODELS[column].name for column in expected]


def test_without_the_best_single_model_the_next_best_takes_its_place() -> None:
    stuck = router(value=None)  # no knob reached the target: all to model 0
    assert stuck.choose(PREDICTED, models=["cheap", "middle"]).tolist() == [1, 1, 1]
    assert stuck.route(["odd"])[0].reason.startswith("no knob met the target (quality)")
    assert stuck.choose(PREDICTED, tradeoff=1e9).tolist() == [2, 2, 2]  # a knob of its own still decides


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tradeoff": 1.0, "slack": 1.0}, "knobs of different policies; give one of them"),
        ({"tradeoff": -1.0}, "tradeoff is -1.0, expected a number of 0 or more"),
        ({"slack": float("nan")}, "slack is nan, expected"),
        ({"slack": "much"}, "slack is 'much', expected"),
        ({"models": ["dear", "dall-e"]}, r"model 'dall-e' is unknown; expected some of dear, middle, cheap"),
        ({"models": []}, "models is empty, so nothing can be chosen; expected some of"),
    ],
)
def test_bad_knobs_and_models_are_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        router().route(["odd"], **asked)


def test_another_encoder_than_the_one_trained_with_is_refused(trained: Any, tmp_path: Path) -> None:
    """Its vectors would be noise to the predictor, without a word."""
    from safetensors.numpy import load_file, save_file
    from tests.encoders.conftest import make_tiny_clip

    clip = make_tiny_clip(tmp_path / "clip")
    save_predictor(trained[0], tmp_path / "predictor")
    config = {"_target_": "promptroute.encoders.clip_text.ClipTextEncoder", "model": str(clip)}
    router(predictor=trained[0], encoders={"clip": config}).save(tmp_path / "router", tmp_path / "predictor")
    Router.load(tmp_path / "router").warm()
    weights = load_file(clip / "model.safetensors")
    name = next(name for name in weights if name.endswith("final_layer_norm.weight"))
    save_file({**weights, name: weights[name] * 1.01}, clip / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"encoder clip: the weights or settings of .*clip on this machine"):
        Router.load(tmp_path / "router").warm()


def test_an_encoder_with_unknown_arguments_is_refused(saved: tuple[Router, Path]) -> None:
    strange = {"_target_": "promptroute.encoders.clip_text.ClipTextEncoder", "colour": "red"}
    change(saved[1], lambda facts: facts.update(encoders={"clip": strange}))
    with pytest.raises(UserError, match=r"encoder clip can't be built .*colour"):
        Router.load(saved[1]).route(["a robot"])
    with pytest.raises(UserError, match=r"encoder one is 'os.system'"):
        router(encoders={"one": {"_target_": "os.system"}}).route(["odd"])


# A guarantee


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        # Margins over dear: hard -0.2, -1; easy -0.05, -0.1; odd 0, 0.5. The cheapest above the threshold.
        (-0.15, ["dear", "cheap", "cheap"]),
        (-0.08, ["dear", "middle", "cheap"]),
        (-2.0, ["cheap", "cheap", "cheap"]),
        (0.5, ["dear", "dear", "dear"]),
        (None, ["dear", "dear", "dear"]),
    ],
)
def test_a_guarantee_chooses_the_cheapest_above_its_threshold(
    threshold: float | None, expected: list[str]
) -> None:
    one = router("guaranteed", guarantee=promise(threshold))
    assert [decision.model for decision in one.route(["hard", "easy", "odd"])] == expected


def test_a_guarantee_says_why_and_when_it_can_not_be_given() -> None:
    given = router("guaranteed")
    assert [one.reason for one in given.route(["hard", "easy"])] == [
        "no cheaper model is predicted well enough to stay within 0.2 of Dear",
        "the cheapest that is calibrated to stay within 0.2 of Dear on 0.9 of all prompts, for 90% less",
    ]
    refused = router("guaranteed", guarantee=promise(None))
    assert {one.reason for one in refused.route(["hard", "odd"])} == {promise(None).statement}
    # Against a model that may not be chosen nothing is promised: the best of the others on average.
    (one,) = given.route(["easy"], models=["cheap", "middle"])
    assert one.model == "middle" and one.reason.startswith("the guarantee is against Dear, which may not be")
    (one,) = given.route(["odd"], models=["cheap", "dear"])
    assert one.model == "cheap" and "though for all models together" in one.reason
    assert refused.choose(PREDICTED, models=["cheap"]).tolist() == [2, 2, 2]
    assert given.choose(PREDICTED, tradeoff=1e9).tolist() == [2, 2, 2]  # a knob of one's own still decides


def packed(saved: tuple[Router, Path], **changes: Any) -> Path:
    """The saved router's folder with changes."""
    one, folder = saved
    dataclasses.replace(one, **changes).save(folder, predictor=folder.parent / "predictor")
    return folder


@pytest.mark.parametrize("threshold", [-0.15, None])
def test_a_guarantee_is_in_the_folder_and_on_the_card(
    saved: tuple[Router, Path], threshold: float | None
) -> None:
    folder = packed(saved, policy="guaranteed", guarantee=promise(threshold))
    loaded = Router.load(folder)
    assert loaded.guarantee == promise(threshold) and loaded.policy == "guaranteed"
    facts = json.loads((folder / "router.json").read_text())["guarantee"]
    assert (facts["epsilon"], facts["alpha"], facts["threshold"]) == (0.2, 0.1, threshold)
    card = (folder / "README.md").read_text()
    assert f"Guarantee, against Dear: {promise(threshold).statement}." in card
    assert ("conformal risk control" in card) == (threshold is not None)
    assert "Policy `guaranteed`. Knobs" in card


@pytest.mark.parametrize(
    "edit",
    [
        drop("guarantee"),
        drop("guarantee", "alpha"),
        lambda facts: facts.update(policy="cost_aware"),
        lambda facts: facts["guarantee"].update(single=3),
        lambda facts: facts["guarantee"].update(threshold="low"),
        lambda facts: facts["guarantee"].update(threshold=None),
        lambda facts: facts["guarantee"].update(given=False),
    ],
)
def test_a_guarantee_that_does_not_fit_is_refused(
    saved: tuple[Router, Path], edit: Callable[[dict[str, Any]], Any]
) -> None:
    folder = packed(saved, policy="guaranteed", guarantee=promise())
    change(folder, edit)
    with pytest.raises(UserError, match=r"router\.json: not a whole router \(.*train it again"):
        Router.load(folder)


# A margin


def test_a_margin_keeps_the_best_single_model() -> None:
    careful = calibrations(0.0)
    for targets in careful.values():
        for target in TARGETS:
            targets[target] = dataclasses.replace(targets[target], favour=0.6)
    one = router(calibrations=careful)
    decisions = one.route(["hard", "odd"])  # odd: cheap is predicted 0.5 better, which is not above 0.6
    assert [decision.model for decision in decisions] == ["dear", "dear"]
    assert decisions[1].reason == (
        "predicted 0.5 below the best (Cheap), which is too little to leave Dear, the best single model"
    )
    # Without dear, or with a knob for this once, there is nothing to favour.
    assert one.choose(PREDICTED, models=["cheap", "middle"]).tolist() == [1, 1, 2]
    assert one.choose(PREDICTED, tradeoff=0.0).tolist() == [0, 0, 2]


# A fallback


UNIT = np.eye(3, dtype=np.float32)


class Axes:
    """Stands in for an encoder: where a prompt points. The first two columns are an inner layer."""

    batch_size = 8
    description: ClassVar[dict[str, Any]] = {"dim": 5}
    where: ClassVar[dict[str, np.ndarray]] = {"hard": UNIT[0], "easy": UNIT[0], "odd": UNIT[2]}

    def fingerprint(self) -> dict[str, str]:
        return {"class": "Axes"}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([np.concatenate([[7.0, 7.0], self.where[text]]) for text in texts]).astype(np.float32)


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Changes that give a router an encoder, and a fallback that knows the first axis alone."""
    monkeypatch.setattr(Router, "_build_all", lambda self: {"axes": Axes()})
    fallback = Fallback(UNIT[:1], neighbours=1, threshold=0.5, safest=0, share=0.05, encoder="axes")
    return {
        "encoders": {"axes": {"_target_": "promptroute.encoders.sentence.SentenceEncoder", "model": "axes"}},
        "fallback": fallback,
    }


def test_prompts_unlike_train_go_to_the_best_single_model(axes: dict[str, Any]) -> None:
    one = router("best_predicted", **axes)
    assert one.unlike(["hard", "odd", "easy"]).tolist() == [False, True, False]
    decisions = one.route(["hard", "odd"])
    assert [decision.model for decision in decisions] == ["dear", "dear"]
    assert decisions[1].reason == (
        "too unlike the training prompts to be predicted, so it goes to the best single model"
    )
    assert decisions[0].reason == "predicted best"
    without = router("best_predicted", encoders=axes["encoders"])
    assert [decision.model for decision in without.route(["hard", "odd"])] == ["dear", "cheap"]
    assert without.unlike(["odd"]).tolist() == [False]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_fallback_is_for_every_policy_but_not_for_a_knob_of_ones_own(
    axes: dict[str, Any], policy: str
) -> None:
    one = router(policy, 1e9 if policy == "cost_aware" else 9.0, **axes)
    (decision,) = one.route(["odd"])
    assert decision.model == "dear"
    (decision,) = one.route(["odd"], models=["middle", "cheap"])
    assert decision.model == "middle", "without the best single model the next best"
    (decision,) = one.route(["odd"], tradeoff=1e9)
    assert decision.model == "cheap" and "unlike" not in decision.reason


def test_a_fallback_is_in_the_folder_and_on_the_card(
    saved: tuple[Router, Path], axes: dict[str, Any]
) -> None:
    folder = packed(saved, **axes)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "fallback.safetensors",
        "predictor",
        "router.json",
    ]
    loaded = Router.load(folder)
    assert loaded.fallback is not None
    np.testing.assert_array_equal(loaded.fallback.rows, UNIT[:1])
    for name in ("neighbours", "threshold", "safest", "share", "encoder"):
        assert getattr(loaded.fallback, name) == getattr(axes["fallback"], name), name
    assert [one.model for one in loaded.route(["odd"])] == ["dear"]
    assert "all but 5.0% of the validation prompts" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    "edit",
    [
        drop("fallback", "threshold"),
        lambda facts: facts["fallback"].update(encoder="other"),
        lambda facts: facts["fallback"].update(safest=3),
        lambda facts: facts["fallback"].update(neighbours=0),
        lambda facts: facts["fallback"].update(threshold="far"),
    ],
)
def test_a_fallback_that_does_not_fit_is_refused(
    saved: tuple[Router, Path], axes: dict[str, Any], edit: Callable[[dict[str, Any]], Any]
) -> None:
    folder = packed(saved, **axes)
    change(folder, edit)
    with pytest.raises(UserError, match=r"router\.json: not a whole router \(.*train it again"):
        Router.load(folder)


@pytest.mark.parametrize("tear", ["missing", "half"])
def test_a_torn_fallback_is_refused(saved: tuple[Router, Path], axes: dict[str, Any], tear: str) -> None:
    file = packed(saved, **axes) / "fallback.safetensors"
    content = file.read_bytes()
    file.unlink() if tear == "missing" else file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"not a whole router \(ValueError: fallback\.safetensors"):
        Router.load(file.parent)


# Settings


def test_settings_are_what_the_section_says() -> None:
    section = {"name": "guaranteed", "target": "quality", "epsilon": 0, "alpha": 0.1, "fallback": 0.05}
    read = Settings.read(section, "params.yaml: policy")
    assert (read.name, read.epsilon, read.alpha, read.fallback, read.margin) == (
        "guaranteed",
        0,
        0.1,
        0.05,
        0,
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, r"here: policy has no name; give policy.name one of cost_aware"),
        ({"name": "guaranteed", "epsilon": True, "alpha": 0.1}, "policy.epsilon is True; give a number"),
        ({"name": "guaranteed", "epsilon": float("inf"), "alpha": 0.1}, "policy.epsilon is inf"),
        ({"name": "guaranteed", "epsilon": 0.1, "alpha": float("nan")}, "policy.alpha is nan"),
        ({"name": "guaranteed", "epsilon": 0.1, "alpha": -0.1}, "policy.alpha is -0.1"),
        ({"name": "guaranteed", "epsilon": 0.1}, "policy has no alpha, which 'guaranteed' needs"),
        ({"name": "cost_aware", "margin": float("inf")}, "policy.margin is inf"),
        ({"name": "cost_aware", "fallback": -0.1}, "policy.fallback is -0.1"),
    ],
)
def test_bad_settings_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings.read(section, "here: policy")


# An encoder that travels with the router


def test_static_token_vectors_come_along(trained: Any, tmp_path: Path) -> None:
    from tests.encoders.test_static_encoder import table

    table().save(tmp_path / "static")
    save_predictor(trained[0], tmp_path / "predictor")
    config = {
        "_target_": "promptroute.encoders.static.StaticEncoder",
        "model": "teacher",
        "folder": str(tmp_path / "static"),
    }
    one = router(predictor=trained[0], encoders={"static": config})
    one.save(tmp_path / "router", predictor=tmp_path / "predictor")
    (tmp_path / "static").rename(tmp_path / "gone")
    moved = (tmp_path / "router").rename(tmp_path / "elsewhere")
    loaded = Router.load(moved)
    loaded.warm()
    np.testing.assert_array_equal(
        loaded.batch(["red car"]).embeddings["static"], one.batch(["red car"]).embeddings["static"]
    )
    assert "in `encoders/`" in (moved / "README.md").read_text()
    vectors = moved / "encoders" / "static" / "tokens.safetensors"
    vectors.write_bytes(vectors.read_bytes()[:-4])
    with pytest.raises(UserError, match="not a whole static encoder"):
        Router.load(moved).route(["a robot"])
