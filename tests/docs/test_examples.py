"""docs/adding.md: each example composes with its own command, and its class is built and works."""

import importlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.component import TARGET, Component, build
from tests.docs.pages import ROOT, base_class, bases_of_readme, blocks, experiments

PAGE = ROOT / "docs" / "adding.md"
EXAMPLES = [block for block in blocks(PAGE) if block.path]
MODULES = [
    block.path.removesuffix(".py").replace("/", ".") for block in EXAMPLES if block.language == "python"
]


def sections(values: Any) -> Iterator[dict[str, Any]]:
    """Find the sections that name a class of the page."""
    if isinstance(values, dict):
        if str(values.get(TARGET, "")).startswith("my_package."):
            yield values
        values = list(values.values())
    for part in values if isinstance(values, list) else []:
        yield from sections(part)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration with the page's files beside its own, and the page's package importable."""
    folder = tmp_path_factory.mktemp("adding")
    shutil.copytree(ROOT / "conf", folder / "conf")
    for block in EXAMPLES:
        path = folder / block.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def build_example(folder: Path) -> Callable[[str], Component]:
    """Compose the page's command that brings a class, and build it: (module.Class) → component."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    found: dict[str, dict[str, Any]] = {}
    with initialize_config_dir(str(folder / "conf"), version_base=None):
        for overrides in experiments(PAGE):
            values = OmegaConf.to_container(compose("config", overrides=overrides), resolve=True)
            found |= {section[TARGET]: section for section in sections(values)}

    def built(path: str) -> Component:
        return build(found[path], "conf", Component)

    return built


def the(module: str, build_example: Callable[[str], Component]) -> Any:
    """Build the example that a module of the page holds."""
    (text,) = [block.text for block in EXAMPLES if block.path == f"{module.replace('.', '/')}.py"]
    for base in bases_of_readme():
        if f"({base.rpartition('.')[2]}):" in text:
            base_class(base)
    loaded = importlib.import_module(module)
    (kind,) = [value for value in vars(loaded).values() if getattr(value, "__module__", "") == module]
    return build_example(f"{module}.{kind.__name__}")


@pytest.mark.parametrize("module", MODULES)
def test_build(module: str, folder: Path, build_example: Callable[[str], Component]) -> None:
    component = the(module, build_example)
    assert type(component).__doc__
    assert json.loads(json.dumps(component.fingerprint()))["class"] == component.to_section()[TARGET]
    assert build(component.to_section(), "again", type(component)) == component


class TestExamplesWork:
    @pytest.fixture
    def example(self, folder: Path, build_example: Callable[[str], Component]) -> Callable[[str], Any]:
        return lambda name: the(f"my_package.{name}", build_example)

    def test_prompt_source(self, example: Callable[[str], Any]) -> None:
        from promptroute.prompts.sampling import sample

        assert set(sample([example("colours")])["prompt"]) == {"a red star", "a green star", "a blue star"}

    def test_encoders(self, example: Callable[[str], Any]) -> None:
        from PIL import Image

        assert example("letters").encode(["Abba", "1"]).tolist() == [[0.5, 0.5, *[0] * 24], [0] * 26]
        images = example("hues").encode_images([Image.new("RGB", (2, 2), "red")])
        texts = example("hues").encode_texts(["a red star", "a blue star"])
        assert (images @ texts.T).argmax() == 0

    def test_generator(self, example: Callable[[str], Any]) -> None:
        first, second, third = example("plain").generate(["a", "b", "c"], [1, 1, 2])
        assert np.asarray(first).shape == (32, 32, 3)
        assert np.array_equal(first, second) and not np.array_equal(first, third)

    def test_scorer(self, example: Callable[[str], Any]) -> None:
        from PIL import Image

        scorer = example("contrast")
        from promptroute.scorers.base import ImageBatch

        image = Image.fromarray(np.array([[0, 255]], np.uint8))
        assert scorer.score(ImageBatch([image, Image.new("L", (3, 3))]))["std"].tolist() == [127.5, 0]

    def test_view_and_learner(self, example: Callable[[str], Any]) -> None:
        from PIL import Image

        images = [Image.new("RGB", (4, 4), name) for name in ("red", "blue", "maroon")]
        images[0].paste((0, 0, 0), (0, 0, 2, 2))
        seen = example("quarters").encode_images(images)
        assert seen[0].tolist() == [0, 0, 0, *[1, 0, 0] * 3] and seen.shape == (3, 12)
        target = np.eye(2, 4, dtype=np.float32)
        learner = example("smooth").fit({"quarters": seen[:2]}, target)
        (found,) = learner.predict({"quarters": seen[2:]})
        assert found[0] > 0.95 > 0.1 > found[1] > 0, "maroon is much like red"

    def test_predictor(self, example: Callable[[str], Any], tmp_path: Path) -> None:
        from promptroute.core.batch import PromptBatch
        from promptroute.predictors.base import Predictor

        prompts = PromptBatch(["a", "a star", "a red star"])
        predictor = example("length").fit(prompts, np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]))
        assert predictor.predict(prompts).argmax(axis=1).tolist()[::2] == [1, 0]
        predictor.save(tmp_path / "saved")
        loaded = Predictor.load(tmp_path / "saved", allow=["my_package.length.Length"])
        assert np.array_equal(loaded.predict(prompts), predictor.predict(prompts))

    def test_cost_rule(self, example: Callable[[str], Any]) -> None:
        rule = example("electricity")
        from promptroute.routing.costs import Facts

        assert rule.cost({"one": Facts(seconds=12.0)}) == pytest.approx([0.0003])

    def test_policy(self, example: Callable[[str], Any]) -> None:
        quality, cost = np.array([[1.0, 1.6, 2.0], [1.0, 1.2, 1.4]]), np.array([0.1, 0.2, 0.3])
        assert example("floor").choose(quality, cost).tolist() == [1, 2]
        assert example("floor").choose(quality, cost, allowed=np.array([0, 1])).tolist() == [1, 1]


def test_bases_of_readme() -> None:
    for base in bases_of_readme():
        module, _, name = base.rpartition(".")
        assert re.search(rf"^from {re.escape(module)} import .*\b{name}\b", PAGE.read_text(), re.MULTILINE), (
            base
        )
        assert f"({name}):" in PAGE.read_text(), base
