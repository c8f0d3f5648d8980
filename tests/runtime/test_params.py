"""params.yaml is the composition of conf/, and what is wrong with it is said."""

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from promptroute.core.errors import UserError
from promptroute.core.outputs import Output
from promptroute.runtime.compose import compose
from promptroute.runtime.device import pick_device
from promptroute.runtime.params import load_params, published_output, study_models, study_outputs
from promptroute.runtime.stage import run_stage

ROOT = Path(__file__).resolve().parents[2]


def test_params_yaml_is_composed(tmp_path: Path) -> None:
    compose(tmp_path / "params.yaml", project=ROOT)
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text(), "run `make params`"


def test_unknown_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)score/nope.*clip.*mixed.*nima"):
        compose(tmp_path / "params.yaml", ["score=nope"], ROOT)
    assert not (tmp_path / "params.yaml").exists()


@pytest.mark.parametrize("path", ["a=b.csv", "a(1).csv", "a,b.csv", "Bär.csv", "a&b#1.csv"])
def test_how_to_quote_is_said(tmp_path: Path, path: str) -> None:
    file = tmp_path / "params.yaml"
    with pytest.raises(UserError, match=r"quote the value, for a shell as 'prompts.*=\".*\"'"):
        compose(file, ["prompts=file", f"prompts.sources.file.path={path}"], ROOT)
    compose(file, ["prompts=file", f'prompts.sources.file.path="{path}"'], ROOT)
    assert load_params(file)["prompts"]["sources"]["file"]["path"] == path


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("", "not NAME=VALUE"),
        ("--help", "not NAME=VALUE"),
        ("a..b=1", "not NAME=VALUE"),
        ("seed='", "quotes or brackets don't match"),
        ("models=[1]", r"Hydra fails on it \(TypeError"),
        ("predictor=${oc.select:nope,1}", r"Hydra fails on it \(AssertionError"),
        ("models=" + "[" * 2000, "don't match|fails on it"),
    ],
)
def test_overrides_that_are_none(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        compose(tmp_path / "params.yaml", [override], ROOT)


@pytest.mark.parametrize(
    "override",
    ["prompts.sources.file.path=2024", "prompts.sources.file=null", "prompts.sources=3", "+models.m=3"],
)
def test_wrong_kinds_compose(tmp_path: Path, override: str) -> None:
    """What a stage then refuses must not fail while DVC composes, far from its reason."""
    try:
        compose(tmp_path / "params.yaml", ["prompts=file", override], ROOT)
    except UserError as error:
        assert "raised while resolving" not in str(error)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {sd2.1: {}}", r"model 'sd2.1' can't be used: a name must match"),
        ("models: {}\npublished: {models: {Up: {}}}", "model 'Up' can't be used"),
        ("published: {scorers: {my-score: {}}}", "scorer 'my-score' can't be used"),
        ("text_encoder: {a-b: {}}", "text encoder 'a-b' can't be used"),
        (
            "prompts: {sources: {file: {path: '???'}}}",
            r"no value for prompts.sources.file.path; give each with -S",
        ),
        ("cost: {x: [x, '???']}", r"no value for cost.x\[1\]"),
        ("predicter: {}", "predicter is no setting of a study; did you mean predictor"),
        ("score: {colour: red}", "score.colour is no setting of score; it takes weights, scale"),
        (
            "models: {m: {generater: {}}}",
            r"models.m.generater is no setting of models.m; did you mean generator",
        ),
        ("models: {m: 3}", "models.m is 3; expected a section"),
        ("evaluate: many", "evaluate is 'many'; expected a section"),
        ("about: &a [*a]", "contains itself"),
        ("about: &a {b: *a}", "contains itself"),
        ("about: " + "[" * 10_000 + "]" * 10_000, "nested too deeply"),
        *(
            (f"{name}: {value}", rf"{name} is .*; expected a section of settings")
            for name in (
                "prompts",
                "generation",
                "models",
                "scorers",
                "text_encoder",
                "published",
                "profiled",
            )
            for value in ("7", "[]", ".nan", "x")
        ),
        ("models: {a: {profile: 7}}", "model a: label must be a text, and profile a section"),
        ("published: {models: {a: {label: {b: 1}}}}", "model a: label must be a text"),
        ("score: {weights: 7}", "score.weights is 7; expected a section"),
        ("generation: null", "generation is None; expected a section"),
        ("prompts: {sources: [a]}", r"prompts.sources is \['a'\]; expected a section"),
        ("prompts: {sources: {a: null}}", "prompts.sources.a is None; expected a section"),
        ("published: {models: {a: null}}", "published.models.a is None; expected a section"),
        ("generation: {7: 1}", "generation: 7 is no name; put quotes around it"),
        ("about: 7", "about is 7; expected a text"),
        ("cost: {x: 1" + "0" * 40 + "}", "cost.x is 1000.*, which is more than any setting can be"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n"
                for a, b in zip("abcdefghi", "bcdefghij", strict=True)
            ),
            "holds more than 1,000,000 settings",
        ),
        ("about: 2024-99-99", "not readable as YAML"),
        ("a: [", "not readable as YAML"),
        ("seed: -1", "seed is -1; give a whole number from 0 to 4294967295"),
        ("split: {seed: x}", "split.seed is 'x'; give a whole number"),
        ("predictor: {features: {seed: 1.5}}", "predictor.features.seed is 1.5; give"),
        ("predictor: {seed: null}", "predictor.seed is None; give"),
        ("predictor: {seed: true}", "predictor.seed is True; give"),
        ("seed: 4294967296", "seed is 4294967296; give"),
        ("- a", "should be a mapping"),
    ],
)
def test_bad_parameters_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_params(write(tmp_path, text))


def test_whole_needs_no_seed(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, "prompts: {seed: null}\nsplit: {seed: 4294967295}\nseed: 0"))
    assert params["prompts"] == {"seed": None} and params["split"] == {"seed": 4294967295}


def test_missing_key(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, "published: {models: {a: {stem: A}, b: {}}}\ncost: {y: [{x: 1}]}"))
    assert params["published"]["models"]["a"]["stem"] == "A"
    assert params.get("nope") is None and "nope" not in params  # asking whether is no mistake
    for look, message in (
        (lambda: params["score"], "there is no 'score', only published, cost; .* -S \\+score=VALUE"),
        (lambda: params["published"]["models"]["c"], r"published.models has no 'c', only a, b; "),
        (
            lambda: params["published"]["models"]["b"]["stem"],
            r"published.models.b has no 'stem', only nothing",
        ),
        (lambda: params["cost"]["y"][0]["y"], r"cost.y\[0\] has no 'y', only x"),
    ):
        with pytest.raises(UserError, match=message):
            look()


def test_absent_parameters(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run this from the project's top folder"):
        load_params(tmp_path / "params.yaml")


def test_device_auto() -> None:
    import torch

    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu", threads=2) == "cpu"
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two", True])
def test_bad_threads_refused(threads: object) -> None:
    with pytest.raises(
        UserError, match=r"compute.threads: .*; expected a whole number of 1 or more, or null"
    ):
        pick_device("cpu", threads)  # type: ignore[arg-type]


def test_absent_device_refused() -> None:
    with pytest.raises(UserError, match=r"compute.device=cuda:77: can't be used"):
        pick_device("cuda:77")


def test_mistake_and_defect(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> str:
        raise UserError("prompts.csv: line 3: empty")

    with pytest.raises(SystemExit) as stop:
        run_stage(mistaken)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: prompts.csv: line 3: empty\n"
    with pytest.raises(ZeroDivisionError):
        run_stage(lambda: str(1 / 0))

    def quoting() -> str:
        raise UserError("model: can't be loaded (a report\n  of several\r\nlines); fetch it")

    with pytest.raises(SystemExit):
        run_stage(quoting)
    assert capsys.readouterr().err == "error: model: can't be loaded (a report of several lines); fetch it\n"
    run_stage(lambda: "done")
    run_stage(lambda: None)
    assert capsys.readouterr().out == "done\n"


NIMA = {"_target_": "promptroute.scorers.nima.Nima"}
CLIP = {"_target_": "promptroute.scorers.clip_score.ClipScore"}


class TestStudy:
    """Models and scores of a study: the published, and those of its own."""

    PARAMS: ClassVar[dict[str, Any]] = {
        "published": {"models": {"a": {"label": "A"}}, "scorers": {"nima": NIMA}},
        "models": {"b": {"label": "B"}},
        "scorers": {"nima": {**NIMA, "checkpoint": "nowhere"}},
    }

    def test_both_sides_count(self) -> None:
        assert list(study_models(self.PARAMS)) == ["a", "b"]
        assert study_outputs(self.PARAMS) == {"nima.mean": Output("mean", "NIMA", 1.0, 10.0)}

    def test_a_model_on_both_sides(self) -> None:
        with pytest.raises(UserError, match=r"b is both in models and in published.models"):
            study_models({**self.PARAMS, "published": {"models": {"b": {}}, "scorers": {}}})

    def test_score_lacking_for_models(self) -> None:
        with pytest.raises(UserError, match=r"scorers has no clip, so b would have no such score"):
            study_outputs({**self.PARAMS, "published": {"models": {}, "scorers": {"clip": CLIP}}})

    def test_one_name_for_two_scorers(self) -> None:
        with pytest.raises(
            UserError, match=r"nima is one scorer in published.scorers and another in scorers"
        ):
            study_outputs({**self.PARAMS, "published": {"models": {"a": {}}, "scorers": {"nima": CLIP}}})

    @pytest.mark.parametrize(
        ("section", "message"),
        [
            ({}, "scorers.x: _target_ is None"),
            (
                {"_target_": "promptroute.runtime.executors.InProcess"},
                "InProcess is no scorer, as it declares no outputs",
            ),
            ({"_target_": "promptroute.core.outputs.Output"}, "Output is no Component"),
        ],
    )
    def test_no_scorer(self, section: dict[str, str], message: str) -> None:
        with pytest.raises(UserError, match=message):
            published_output(section, "scorers.x")


def test_light_stages_without_torch() -> None:
    code = "import sys, stages.sample, stages.table, stages.split, stages.published, stages.describe; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "False\n"
