"""Every option of conf/scorer/ and every class of the room keeps the contract."""

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest

import promptroute.scorers as room
from promptroute.core.component import Component, build
from promptroute.core.names import SCORER_NAME
from promptroute.core.outputs import Output
from promptroute.scorers.base import Batch, EmbeddingScorer, Scorer

OPTIONS = sorted((Path(__file__).parents[2] / "conf" / "scorer").glob("*.yaml"))
BLANKS = {"pyiqa": ["scorer.metric=musiq"]}
SETTINGS: dict[str, dict[str, Any]] = {"Nima": {"checkpoint": "nowhere"}, "Pyiqa": {"metric": "musiq"}}
"""What a class needs to be made; an `EmbeddingScorer` needs its encoder."""


def classes() -> Iterator[type[Scorer]]:
    for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if (
                issubclass(found, Scorer)
                and found.__module__ == module.name
                and module.name != f"{room.__name__}.base"
            ):
                yield found


CLASSES = list(classes())


def make(kind: type[Scorer]) -> Scorer:
    encoder = {"encoder": "e"} if issubclass(kind, EmbeddingScorer) else {}
    return kind(**encoder, **SETTINGS.get(kind.__name__, {}))


def check(scorer: Scorer) -> None:
    assert pickle.loads(pickle.dumps(scorer)) == scorer, "picklable before it has loaded anything"
    assert build(scorer.to_section(), "x", Scorer) == scorer
    if "pyiqa" in type(scorer).__module__ and find_spec("pyiqa") is None:
        pytest.skip("what pyiqa declares needs pyiqa, which is not installed")
    assert scorer.inputs in get_args(Batch)
    names = [output.name for output in scorer.outputs]
    assert len(set(names)) == len(names) and any(output.kind == "score" for output in scorer.outputs)
    assert all(isinstance(output, Output) and output.label for output in scorer.outputs)


def test_the_room_is_not_empty() -> None:
    assert {kind.__name__ for kind in CLASSES} >= {"Nima", "ClipScore", "Consistency", "Pyiqa"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_class(kind: type[Scorer]) -> None:
    assert kind.score is not Scorer.score
    assert inspect.getdoc(kind) and all(
        f"{name}:" in str(inspect.getdoc(kind))
        for name in kind.model_fields
        if name not in ("batch_size", "profile")
    ), "every setting is explained"
    check(make(kind))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda path: path.stem)
def test_option(option: Path, compose: Callable[..., dict[str, Any]]) -> None:
    section = compose(f"+scorer={option.stem}", *BLANKS.get(option.stem, []))["scorer"]
    scorer = build(section, f"scorer={option.stem}", Scorer)
    defaults = {name: field.default for name, field in type(scorer).model_fields.items()}
    assert all(defaults[name] != value for name, value in section.items() if name != "_target_"), (
        "only what differs"
    )
    check(scorer)


def test_sets(compose: Callable[..., dict[str, Any]]) -> None:
    for name in ("mini", "paper", "pyiqa", "none"):
        encoders = compose(f"+image_encoder={'mini' if name == 'mini' else 'paper'}")["image_encoder"]
        for scorer, section in compose(f"+scorers={name}").get("scorers", {}).items():
            assert SCORER_NAME.fullmatch(scorer)
            built: Component = build(section, scorer, Scorer)
            assert (scorer == "nima") == (built.class_path() == "promptroute.scorers.nima.Nima"), (
                "pyiqa's is never called nima"
            )
            assert getattr(built, "encoder", next(iter(encoders))) in encoders


def test_own_name_for_a_metric(compose: Callable[..., dict[str, Any]]) -> None:
    params = compose("+scorer@scorers.musiq=pyiqa", "scorers.musiq.metric=musiq", config="config")
    assert params["scorers"]["musiq"] == {"_target_": "promptroute.scorers.pyiqa.Pyiqa", "metric": "musiq"}
