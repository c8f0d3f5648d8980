"""The way back from images to prompts, on the page."""

import html
import io
from pathlib import Path

import pytest
from PIL import Image as Pillow

from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.io.files import write_json
from promptroute.io.images import write_shard
from promptroute.report.examples import Example, pick
from promptroute.report.images import load_images
from promptroute.report.page import page
from promptroute.report.recovery import Back, read_recovery
from promptroute.report.result import Result, read_result
from tests.report.conftest import write_images, write_result
from tests.report.made import SCORES, prompts_of
from tests.report.test_page import Seen

MODELS = ["m0", "m1", "m2", "m3"]
HOSTILE = "a </q><script>alert(1)</script> \u202e{{ 7 }}"


def interval(estimate: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - 0.01, "high": estimate + 0.01, "undefined": 0.0}


def learner(cosine: float) -> dict[str, object]:
    names = ("floor", "share", "recall@1", "recall@5", "recall@10", "mrr")
    return {"all": {"cosine": interval(cosine), **dict.fromkeys(names, interval(0.2))}, "models": {}}


FIGURES = {
    "learner": "ridge",
    "learners": {"mean": learner(0.5), "ridge": learner(0.6), "ensemble<b>": learner(0.625)},
    "differences": {"ridge - mean": interval(0.1), "ridge - ensemble<b>": interval(-0.025)},
    "prompts": {"train": 1190, "validation": 24, "test": 97, "near_duplicates_moved": 1},
}


def trip(prompt_id: str, model: str, prompt: str, fails: str | None = None) -> Image:
    out = io.BytesIO()
    Pillow.new("RGB", (8, 8), (1, 2, 3)).save(out, "PNG")
    data = None if fails else out.getvalue()
    side = None if fails else 8
    return Image(prompt_id, prompt, model, 9, "failed" if fails else "ok", fails, side, side, data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result with images, its recovery's figures, and m0 and m1 there and back for each example."""
    folder = tmp_path_factory.mktemp("back")
    metrics = write_result(folder, n=24)
    write_images(folder)
    write_json(metrics / "recovery.json", FIGURES)
    for model, fails in (("m0", None), ("m1", "<i>too hot</i>")):
        rows = [trip(name, model, f"{HOSTILE} {name}", fails) for name in shown(folder)]
        (folder / "data/trips" / model).mkdir(parents=True)
        write_shard(folder / "data/trips" / model / "part-00000.parquet", rows)
    return folder


def shown(folder: Path) -> list[str]:
    return [example.prompt_id for example in examples_of(folder)[1]]


def examples_of(folder: Path) -> tuple[Result, list[Example]]:
    tables = folder / "metrics/evaluate.json", folder / "data/evaluation"
    result = read_result(*tables, scores=SCORES, data="toy")
    return result, pick(result, prompts_of(folder / "metrics"))


def made(folder: Path, back: Back | None) -> str:
    """The page, without figures."""
    result, examples = examples_of(folder)
    data, ids = folder / "data", {example.prompt_id for example in examples}
    images = load_images(data / "images", data / "scores", MODELS, ["nima"], ids)
    return page(result, {}, examples, images, back=back)


@pytest.fixture(scope="module")
def source(folder: Path) -> str:
    ids = set(shown(folder))
    return made(folder, read_recovery(folder / "metrics/recovery.json", folder / "data/trips", MODELS, ids))


class TestPage:
    def test_there_and_back(self, source: str, folder: Path) -> None:
        seen, text = Seen(source), " ".join(Seen(source).text)
        alts = [image["alt"] for image in seen.images]
        many = len(shown(folder))
        assert alts.count("Model 0 of the recovered prompt, seed 9") == many
        assert not any("Model 2 of the recovered" in str(alt) for alt in alts), "nobody went that way"
        assert text.count("failed: <i>too hot</i>") == many
        for name in shown(folder):
            assert f"a </q><script>alert(1)</script> ‹U+202E›{{{{ 7 }}}} {name}" in text
        assert {"script", "b", "i"}.isdisjoint(tag for tag, _ in seen.tags)
        assert [tag for tag, _ in seen.tags].count("q") == 2 * many

    def test_figures(self, source: str, folder: Path) -> None:
        section = source[source.index('id="recovery"') : source.index('id="figures"')]
        best, own, floor = (
            section.index(name) for name in (html.escape("ensemble<b>"), ">ridge <", ">mean<")
        )
        assert best < own < floor, "the best cosine first"
        assert "1,190 prompts" in section and '−0.025 <span class="ends">[−0.035, −0.015]' in section
        assert 'class="router"><th scope="row">ridge' in section, "the one that is used is marked"

    def test_without(self, folder: Path) -> None:
        without = made(folder, None)
        assert "From images back" not in without and "read back" not in without


class TestRefuses:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"learners": {"ridge": {"all": {"cosine": interval(0.6)}}}}, "'share' is missing; recover"),
            ({"learners": 3}, r"learners.*recover the prompts again"),
            ({"prompts": {"train": 1}}, "'validation' is missing"),
        ],
    )
    def test_another_layout(
        self, folder: Path, tmp_path: Path, changed: dict[str, object], said: str
    ) -> None:
        write_json(tmp_path / "it.json", {**FIGURES, **changed})
        with pytest.raises(UserError, match=said):
            read_recovery(tmp_path / "it.json", folder / "data/trips", [], set())

    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such file"):
            read_recovery(tmp_path / "it.json", tmp_path, [], set())

    def test_another_models(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "m7").mkdir()
        write_shard(tmp_path / "m7" / "part-00000.parquet", [trip("A0", "m0", "x")])
        with pytest.raises(UserError, match="its images are by m0, expected m7"):
            read_recovery(folder / "metrics/recovery.json", tmp_path, ["m7"], {"A0"})
