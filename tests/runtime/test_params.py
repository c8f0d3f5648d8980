"""params.yaml is the composition of conf/, and what is wrong with it is said."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.records import BadInput
from stages.runtime import build, load_params, pick_device, run_stage
from stages.runtime.compose import compose

ROOT = Path(__file__).resolve().parents[2]


def test_params_yaml_is_the_composition_of_conf(tmp_path: Path) -> None:
    compose(tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text(), "run `make params`"


def test_an_unknown_option_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"(?s)score/nope.*clip.*mixed.*nima"):
        compose(tmp_path / "params.yaml", ["score=nope"])
    assert not (tmp_path / "params.yaml").exists()


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
        ("text: {encoders: {a-b: {}}}", "text encoder 'a-b' can't be used"),
        (
            "prompts: {sources: {file: {path: '???'}}}",
            r"no value for prompts.sources.file.path; give each with -S",
        ),
        ("a: [x, '???']", r"no value for a\[1\]"),
        ("a: [", "not readable as YAML"),
        ("- a", "should be a mapping"),
    ],
)
def test_bad_parameters_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_params(write(tmp_path, text))


def test_absent_parameters_say_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run this from the project's top folder"):
        load_params(tmp_path / "params.yaml")


def test_build_makes_the_object_with_plain_arguments() -> None:
    scorer = build(
        {"_target_": "stages.records.Scorer", "name": "a", "label": "A", "higher_is_better": True, "low": 0},
        "scorer",
        high=2,
    )
    assert (scorer.name, scorer.high) == ("a", 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"alpha": 1}, "predictor has no _target_"),
        ({"_target_": "stages.records.Nope"}, "predictor can't be built as stages.records.Nope"),
        ({"_target_": "stages.records.SplitRow", "color": 1}, "predictor can't be built .*color"),
        (
            {"_target_": "stages.routing.costs.Serverless", "seconds": "guess"},
            "expected 'profile' or 'measured'",
        ),
    ],
)
def test_build_says_what_is_wrong(config: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build(config, "predictor")


def test_device_auto_is_a_device_that_is_there() -> None:
    import torch

    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu", threads=2) == "cpu"
    assert torch.get_num_threads() == 2


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match=r"compute.device=cuda:77: can't be used"):
        pick_device("cuda:77")


def test_a_mistake_is_one_line_and_a_defect_is_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> str:
        raise BadInput("prompts.csv: line 3: empty")

    with pytest.raises(SystemExit) as stop:
        run_stage(mistaken)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: prompts.csv: line 3: empty\n"
    with pytest.raises(ZeroDivisionError):
        run_stage(lambda: str(1 / 0))


def test_light_stages_do_not_import_torch() -> None:
    code = "import sys, stages.sample, stages.table, stages.split, stages.published, stages.describe; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "False\n"
