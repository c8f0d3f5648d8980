"""What every generator keeps: each option of conf/model, each class of the room, and a class from outside."""

import hashlib
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import promptroute.generators
from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.generators.base import Generator, LocalGenerator, RemoteGenerator, build_generator
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.runtime.batching import Failure
from tests.generators.tiny import PIPELINES
from tests.image_stages.conftest import write_prompts
from tests.shards import every_image
from tests.stages.small import run

CONF = Path(__file__).parents[2] / "conf" / "model"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))
ABSTRACT = (Generator, LocalGenerator, RemoteGenerator)
Tiny = Callable[[str], Path]


def classes() -> list[type[Generator]]:
    """Every concrete generator of the room."""
    names = [
        module.name
        for module in pkgutil.walk_packages(promptroute.generators.__path__, "promptroute.generators.")
    ]
    found = {
        kind
        for name in names
        for kind in vars(importlib.import_module(name)).values()
        if inspect.isclass(kind) and issubclass(kind, Generator) and kind not in ABSTRACT
    }
    return sorted(found, key=lambda kind: kind.class_path())


SMALL: dict[type[Generator], Callable[[Tiny], dict[str, Any]]] = {
    DiffusersModel: lambda tiny: {"model": str(tiny("sd")), **PIPELINES["sd"][1]},
}
"""Settings of each class with which a test can generate."""


@pytest.mark.parametrize("option", OPTIONS)
def test_option_builds(compose: Callable[..., dict[str, Any]], option: str) -> None:
    blanks = ["models.m.generator.model=owner/name"] if option == "diffusers" else []
    model = compose(f"+model@models.m={option}", *blanks)["models"]["m"]
    generator = build_generator(model["generator"], "models.m.generator", "cpu")
    assert model["label"] and set(model) <= {"label", "generator", "profile"}
    again = build(generator.to_section(), "again", Generator)
    assert again == generator
    assert set(model["generator"]) >= set(generator.to_section()) or option == "diffusers"


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
class TestEveryClass:
    def test_generates(self, kind: type[Generator], tiny: Tiny) -> None:
        generator = pickle.loads(pickle.dumps(kind(**SMALL[kind](tiny))))
        assert generator.concurrent >= 1 and generator.batch_size >= 1
        generator.load()
        images = generator.generate(["a cat", "a dog"], [0, 1])
        assert len(images) == 2
        for image in images:
            assert isinstance(image, bytes | Failure) or (
                image.ndim == 3 and image.shape[2] == 3 and str(image.dtype) == "float32"
            )

    def test_states_what_decides(self, kind: type[Generator], tiny: Tiny) -> None:
        here, again = (kind(**SMALL[kind](tiny)).fingerprint() for _ in range(2))
        assert here == again and here["class"] == kind.class_path()

    def test_documents_every_setting(self, kind: type[Generator], tiny: Tiny) -> None:
        documented = "".join(cls.__doc__ or "" for cls in kind.__mro__ if issubclass(cls, Generator))
        assert [name for name in kind.model_fields if name not in documented] == []


OUTSIDE = '''
"""Colours on black, without any library of ours."""

from collections.abc import Sequence

import numpy as np

from promptroute.generators.base import Generated, Generator
from promptroute.runtime.batching import Failure


class Colours(Generator):
    """A row of one colour, the rest black.

    Args:
        side: pixels.
    """

    version = 1
    side: int = 4

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        images = np.zeros((len(prompts), self.side, self.side, 3), np.float32)
        images[:, 0] = (np.array(seeds) + 1)[:, None, None] / 9
        return [Failure("no such colour") if prompt == "x" else image for prompt, image in zip(prompts, images)]
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose model is a class of a package outside the repository."""
    package = "colours_" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]
    (tmp_path / "site" / package).mkdir(parents=True)
    (tmp_path / "site" / package / "__init__.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    write_prompts(tmp_path, ("a dog", "a cat"))
    params = {
        "models": {"mine": {"label": "mine", "generator": {"_target_": f"{package}.Colours", "side": 3}}},
        "generation": {"seeds": [0, 1], "shard_prompts": 1, "max_failed": 0.0},
        "compute": {"device": "cpu", "threads": None},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path


class TestOutside:
    def test_works_by_its_section(self, outside: Path) -> None:
        ran = run(outside, "generate", "mine")
        assert ran.status == 0, ran.err
        assert ran.out.startswith("generate: 4 images of mine on cpu, 4 generated now")
        rows = every_image(outside / "data/images/mine")
        assert [(row.prompt, row.seed, row.width) for row in rows] == [
            ("a dog", 0, 3),
            ("a dog", 1, 3),
            ("a cat", 0, 3),
            ("a cat", 1, 3),
        ]
        assert "0 generated now" in run(outside, "generate", "mine").out

    def test_near_miss_is_named(self, outside: Path) -> None:
        params = (outside / "params.yaml").read_text().replace("side: 3", "sides: 3")
        (outside / "params.yaml").write_text(params)
        ran = run(outside, "generate", "mine")
        assert ran.status == 1 and "sides is no setting of Colours; did you mean side?" in ran.err

    def test_another_kind_is_refused(self) -> None:
        with pytest.raises(UserError, match="is no Generator; only components can be named here"):
            build_generator({"_target_": "promptroute.runtime.executors.InProcess"}, "m", "cpu")
