"""Every option of every Hydra group composes, and what it describes can be built, offline."""

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from promptroute.core.component import Component, build
from promptroute.routing.quality import flat_weights
from promptroute.runtime.params import load_params, scorer_outputs, study_outputs
from tests.stages.test_votes import vote

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
OPTIONS = [path for path in FILES if path != Path("config.yaml")]
STUDY = {
    name.split("@")[0].removeprefix("override ").strip()
    for line in yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    if isinstance(line, dict)
    for name in line
}
"""Groups that a study chooses from; the others are parts of these."""
PARTS = {"model", "prompt_set", "scorer"}
TABLE = [f"published.table.{name}=tests/conf/table/{name}.csv" for name in ("prompts", "scores")]
FOLDER = tempfile.TemporaryDirectory()
vote(Path(FOLDER.name) / "votes.sqlite", 4)
VOTES = [f"published.table.votes={FOLDER.name}/votes.sqlite"]
BLANKS = {
    **dict.fromkeys(["published/votes", "experiment/votes"], VOTES),
    **dict.fromkeys(["published/tidy", "prompts/tidy", "score/tidy", "experiment/tidy"], TABLE),
    "prompts/file": ["prompts.sources.file.path=my.csv"],
    "scorer/pyiqa": ["scorer.metric=musiq"],
    "model/diffusers": ["model.generator.model=my_model"],
    "recovery/paper": [
        "image_encoder.convnext.revision=" + "a" * 40,
        "image_encoder.interrogator.caption.revision=" + "b" * 40,
    ],
    "experiment/consistency": ["prompts.sources.file.path=my.csv"],
}
BEFORE = {
    **{key: ["+published=tidy"] for key in ["prompts/tidy", "score/tidy"]},
    "predictor/kernel": ["+text_encoder=minilm"],
    "predictor/kernel-shared": ["+text_encoder=minilm"],
    "predictor/kernel-statistics": ["+text_encoder=minilm"],
    "cost/measured": ["+models=none"],
}
"""Groups that an option reaches into, which conf/config.yaml names before it."""
BESIDE = {
    "prompts": {"published"},
    "score": {"published"},
    "predictor": {"text_encoder"},
    "recovery": {"image_encoder"},
    "models": {"about"},
    "cost": {"profiled"},
}
"""Sections that an option of a group may change besides its own: the default predictor brings its own encoder,
a recovery its views of images; models say what a reader must know of them, fresh costs name the models that are
timed for them. Prompts and score of a tidy table come with `published=tidy`, as `BEFORE` says."""
Compose = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whoever asks the network for something."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"the network was asked: {arguments}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def described(value: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the outermost sections with a `_target_`: (name, section)."""
    if isinstance(value, dict) and "_target_" in value:
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from described(part, f"{name}.{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from described(part, f"{name}[{index}]")


def composed(compose: Compose, option: Path, whole: bool) -> dict[str, Any]:
    group, name = option.parent.as_posix(), option.stem
    blanks = BLANKS.get(f"{group}/{name}", [])
    if whole:
        beside = ["published=tidy"] if f"{group}/{name}" in ("prompts/tidy", "score/tidy") else []
        return compose(f"{group}={name}", *beside, *blanks, config="config")
    return compose(*BEFORE.get(f"{group}/{name}", []), f"+{group}={name}", "+seed=0", *blanks)


def test_files_belong_to_groups() -> None:
    assert len(OPTIONS) == len(FILES) - 1 == len(set(OPTIONS)) >= 70
    assert not list(CONF.rglob("*.yml")), "Hydra reads .yaml alone"
    assert {path.parent.as_posix() for path in OPTIONS} == STUDY | PARTS
    for option in OPTIONS:
        first = (CONF / option).read_text().splitlines()[:2]
        assert any(line.startswith("# ") for line in first), f"{option} doesn't say what it is"


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    """The default study, as committed."""
    return load_params(CONF.parent / "params.yaml")


@pytest.mark.parametrize("option", [path for path in OPTIONS if path.parent != Path("experiment")], ids=str)
def test_option_builds(compose: Compose, option: Path) -> None:
    values = composed(compose, option, whole=False)
    built = [
        scorer_outputs(section, name)
        if name.startswith("conf.published.scorers.")
        else build(section, name, Component)
        for name, section in described(values, "conf")
    ]
    assert built or "_target_" not in (CONF / option).read_text(), "what it describes was not built"


@pytest.mark.parametrize("option", [path for path in OPTIONS if path.parent.as_posix() in STUDY], ids=str)
def test_study_composes(compose: Compose, option: Path, default: dict[str, Any], tmp_path: Path) -> None:
    values = composed(compose, option, whole=True)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    params = load_params(tmp_path / "params.yaml")
    assert set(params) == set(default)
    # A score is made of scorers that the default study has, or of a table's own.
    scores = {*study_outputs(default), "people.score", "preference.score"}
    assert set(flat_weights(params["score"]["weights"])) <= scores
    if option.parent != Path("experiment"):
        changed = {key for key in params if params[key] != default[key]}
        changed -= {"uses", *BESIDE.get(option.parent.as_posix(), set())}
        assert len(changed) <= 1, f"one group changes one section, but {option} changes {changed}"


def test_default_is_short() -> None:
    assert len((CONF.parent / "params.yaml").read_text().splitlines()) < 165
