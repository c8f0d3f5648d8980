"""Any scorer through the stage `score`: classes from a package outside, each kind of input, maps, marks, the cache."""

import importlib
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from PIL import Image as Pillow

from promptroute.core.image import Image
from promptroute.core.rows import Performance, Prompt
from promptroute.io.embeddings import write_embeddings
from promptroute.io.images import write_shard
from promptroute.io.parquet import write_parquet
from promptroute.io.scores import read_details, read_scores, scores_folder
from promptroute.io.tables import read_table, write_table
from tests.stages.small import run

TEXTS = {"P1": "a red dog", "P2": "two blue hats"}
SEEDS = (0, 1)
MODELS = ("m", "n")
OUTSIDE = '''
"""Scorers that somebody else wrote."""

import numpy as np
from pydantic import Field
from promptroute.core.outputs import Output, words
from promptroute.scorers.base import EmbeddingScorer, ImageBatch, PromptedImageBatch, PromptGroupBatch, Scorer


class Redness(Scorer):
    inputs = ImageBatch
    outputs = (Output("mean", "Redness", 0, 255),)
    gain: float = Field(1.0, gt=0)

    def score(self, batch):
        with open("calls", "a") as file:
            file.write(f"{len(batch.images)}\\n")
        return {"mean": [self.gain * np.asarray(image)[..., 0].mean() for image in batch.images]}


class Feedback(Scorer):
    """Two scores, a map over the image, and marks on the prompt's words, by one pass."""

    inputs = PromptedImageBatch
    outputs = (
        Output("letters", "Letters", 0, 100),
        Output("darkness", "Darkness", 0, 255, higher_is_better=False),
        Output("heat", "Heat", 0, 1, kind="map"),
        Output("wrong", "Wrong words", 0, 1, kind="marks"),
    )
    off: float = 0.0

    def score(self, batch):
        pixels = [np.asarray(image, np.float64) for image in batch.images]
        return {
            "letters": np.array([len(prompt) for prompt in batch.prompts], float),
            "darkness": [255 - image.mean() for image in pixels],
            "heat": [image[..., 0] / 255 + self.off for image in pixels],
            "wrong": [[word == "red" for word in words(prompt)] for prompt in batch.prompts],
        }


class Spread(EmbeddingScorer):
    inputs = PromptGroupBatch
    outputs = (Output("range", "Range", 0, 100),)

    def score(self, batch):
        rows = [batch.images[batch.groups == g, 0] for g in range(len(batch.prompts))]
        return {"range": np.array([np.ptp(row) if len(row) > 1 else np.nan for row in rows])}


class Product(EmbeddingScorer):
    outputs = (Output("dot", "Dot"),)
    batch_size: int = Field(3, ge=1)

    def score(self, batch):
        return {"dot": (batch.images * batch.prompts).sum(axis=1)}


class Careless(Scorer):
    inputs = ImageBatch
    outputs = (Output("a", "A"), Output("b", "B"))

    def score(self, batch):
        return {"a": [1.0] * len(batch.images)}
'''


def shade(model: str, prompt_id: str, seed: int) -> int:
    return 40 * MODELS.index(model) + 20 * list(TEXTS).index(prompt_id) + seed


def image(model: str, prompt_id: str, seed: int) -> Image:
    file = io.BytesIO()
    Pillow.new("RGB", (3, 2), (shade(model, prompt_id, seed), 0, 0)).save(file, format="PNG")
    return Image(prompt_id, TEXTS[prompt_id], model, seed, "ok", None, 3, 2, file.getvalue())


def write_images(folder: Path, lost: tuple[str, str, int] | None = None) -> None:
    """A shard a prompt; `lost` could not be generated."""
    for model in MODELS:
        for number, prompt_id in enumerate(TEXTS):
            rows = [image(model, prompt_id, seed) for seed in SEEDS]
            rows = [
                Image(*list(vars(row).values())[:4], "failed", "broken", None, None, None)
                if lost == (row.model, row.prompt_id, row.seed)
                else row
                for row in rows
            ]
            path = folder / "data/images" / model / f"part-{number:05d}.parquet"
            path.unlink(missing_ok=True)
            write_shard(path, rows)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two prompts by two models, two seeds of each, and a package `outside` with scorers."""
    (tmp_path / "package" / "outside").mkdir(parents=True)
    (tmp_path / "package" / "outside" / "__init__.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    folder = tmp_path / "study"
    rows = pd.DataFrame({"prompt_id": list(TEXTS), "prompt": list(TEXTS.values()), "set": "T", "count": 1})
    write_table(folder / "data/prompts.parquet", rows, Prompt)
    write_images(folder)
    yield folder
    sys.modules.pop("outside", None)


def write_params(folder: Path, **scorers: dict[str, Any]) -> None:
    params = {
        "models": {model: {"label": model} for model in MODELS},
        "published": {"models": {}, "scorers": {}},
        "generation": {"seeds": list(SEEDS)},
        "scorers": {
            name: {**section, "_target_": f"outside.{section['_target_']}"}
            for name, section in scorers.items()
        },
        "compute": {"device": "cpu", "threads": 1},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def ok(folder: Path, stage: str, *arguments: str) -> str:
    ran = run(folder, stage, *arguments)
    assert ran.status == 0, ran.err
    return ran.out


def failed(folder: Path, stage: str, *arguments: str) -> str:
    ran = run(folder, stage, *arguments)
    errors = [line for line in ran.err.splitlines() if "%|" not in line]
    assert ran.status == 1 and len(errors) == 1, ran.err
    return errors[0]


def scores(folder: Path, scorer: str, model: str = "m") -> pd.DataFrame:
    return read_scores(scores_folder(scorer, model, data=folder / "data"), scorer, model)


def calls(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "calls").read_text().split()]


class TestOutside:
    """A class and a YAML are all that it takes."""

    def test_images(self, study: Path) -> None:
        write_params(study, red={"_target_": "Redness"})
        assert ok(study, "score", "red") == "score: 8 red scores of m, n; mean mean 30.5000\n"
        for model in MODELS:
            found = scores(study, "red", model)
            assert list(zip(found["prompt_id"], found["seed"], strict=True)) == [
                (p, s) for p in TEXTS for s in SEEDS
            ]
            assert found["value"].tolist() == [shade(model, p, s) for p in TEXTS for s in SEEDS]
            assert (found["images"] == 1).all() and found["seconds"].isna().all()
            assert found.attrs["class"] == "outside.Redness"

    def test_prompts_maps_and_marks(self, study: Path) -> None:
        write_params(study, rich={"_target_": "Feedback"})
        ok(study, "score", "rich")
        found = scores(study, "rich").pivot(index=["prompt_id", "seed"], columns="output", values="value")
        assert found["letters"].tolist() == [9, 9, 13, 13]
        assert found["darkness"].tolist() == pytest.approx(
            [255 - shade("m", p, s) / 3 for p in TEXTS for s in SEEDS]
        )
        folder = study / "data/scores/rich/m"
        assert sorted(path.name for path in folder.iterdir()) == [
            "maps-00000.parquet", "maps-00001.parquet", "marks-00000.parquet", "marks-00001.parquet", "scores.parquet"
        ]  # fmt: skip
        first, second = read_details(folder / "maps-00001.parquet")
        assert (first.prompt_id, first.seed, second.seed, first.output) == ("P2", 0, 1, "heat")
        np.testing.assert_array_equal(second.values, np.full((2, 3), np.float32(21 / 255)))
        marks, _ = read_details(folder / "marks-00000.parquet")
        assert list(marks.words) == ["a", "red", "dog"] and marks.values.tolist() == [0, 1, 0]

    def test_embeddings(self, study: Path) -> None:
        write_params(
            study, spread={"_target_": "Spread", "encoder": "e"}, dot={"_target_": "Product", "encoder": "e"}
        )
        folder = study / "data/embeddings/e"
        write_embeddings(folder / "prompts.parquet", list(TEXTS), np.array([[1, 0], [0, 1]], np.float32))
        for model in MODELS:
            ids, seeds = ["P2", "P2", "P1"], [0, 1, 0]  # not in the prompts' order; P1 has lost an image
            vectors = np.array([[1, 2], [5, 3], [7, 4]], np.float32)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 2)
            table = pa.table({"prompt_id": ids, "seed": seeds, "embedding": flat})
            write_parquet(folder / model / "part-00000.parquet", table, {"model": model})
        ok(study, "score", "dot")
        assert scores(study, "dot")["value"].tolist() == [2, 3, 7]
        ok(study, "score", "spread")
        (row,) = scores(study, "spread").to_dict("records")
        assert (row["prompt_id"], row["value"], row["images"]) == ("P2", 4.0, 2) and pd.isna(row["seed"])
        claim(folder / "n" / "part-00000.parquet", model="m")
        assert "n/part-00000.parquet: model is m, expected n" in failed(study, "score", "dot")
        write_embeddings(folder / "prompts.parquet", ["P1"], np.ones((1, 2), np.float32))
        assert "prompts.parquet: made of other prompts than data/prompts.parquet holds, as P2" in failed(
            study, "score", "dot"
        )

    def test_performance(self, study: Path) -> None:
        write_params(study, red={"_target_": "Redness"}, rich={"_target_": "Feedback"})
        ok(study, "score", "red")
        ok(study, "score", "rich")
        assert ok(study, "table") == "table: 12 rows of 2 models and 3 scores\n"
        rows = read_table(study / "data/performance.parquet", Performance, ("prompt_id", "model", "score"))
        assert list(dict.fromkeys(rows["score"])) == ["red.mean", "rich.letters", "rich.darkness"]
        means = rows.set_index(["score", "model", "prompt_id"])["mean"]
        assert means["red.mean", "n", "P2"] == 60.5


def claim(path: Path, **facts: str) -> None:
    """Rewrite what a file says about itself."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    path.unlink()
    pq.write_table(
        table.replace_schema_metadata(
            {**(table.schema.metadata or {}), **{k.encode(): v for k, v in facts.items()}}
        ),
        path,
    )


class TestCache:
    """What was scored is not scored again, and nothing stale comes back."""

    def test_again_and_grown(self, study: Path) -> None:
        write_params(study, red={"_target_": "Redness"})
        ok(study, "score", "red")
        assert calls(study) == [2, 2, 2, 2], "a shard is two images"
        before = scores(study, "red")
        ok(study, "score", "red")
        assert len(calls(study)) == 4
        write_images(study, lost=("m", "P2", 1))
        ok(study, "score", "red")
        assert calls(study)[4:] == [1], "one shard has changed, and lost an image"
        pd.testing.assert_frame_equal(scores(study, "red"), before.iloc[:3])

    def test_other_setting_and_other_name(self, study: Path) -> None:
        write_params(
            study,
            red={"_target_": "Redness"},
            twice={"_target_": "Redness", "gain": 2},
            same={"_target_": "Redness"},
        )
        for name in ("red", "twice", "same"):
            ok(study, "score", name)
        assert len(calls(study)) == 8, "a name decides nothing"
        assert (scores(study, "twice")["value"] == 2 * scores(study, "red")["value"]).all()
        pd.testing.assert_frame_equal(scores(study, "same"), scores(study, "red"))

    def test_corrupt_is_made_again(self, study: Path) -> None:
        write_params(study, rich={"_target_": "Feedback"})
        ok(study, "score", "rich")
        kept = {path: path.read_bytes() for path in (study / "cache/scores").iterdir()}
        assert len(kept) == 12, "scores, maps and marks of four shards"
        times = {path: path.stat().st_mtime_ns for path in kept}
        ok(study, "score", "rich")
        assert {path: path.stat().st_mtime_ns for path in kept} == times, "what is whole is not made again"
        shutil.rmtree(study / "data/scores")
        for path, content in kept.items():
            path.write_bytes(content[: len(content) // 2] + b"x" + content[len(content) // 2 + 1 :])
        ok(study, "score", "rich")
        assert {path: path.read_bytes() for path in (study / "cache/scores").iterdir()} == kept

    def test_threads_change_nothing(self, study: Path) -> None:
        write_params(study, rich={"_target_": "Feedback"})
        ok(study, "score", "rich")
        before = scores(study, "rich")
        shutil.rmtree(study / "cache")
        params = yaml.safe_load((study / "params.yaml").read_text())
        params["compute"]["executor"] = {"_target_": "promptroute.runtime.executors.Threads", "workers": 3}
        (study / "params.yaml").write_text(yaml.safe_dump(params))
        ok(study, "score", "rich")
        pd.testing.assert_frame_equal(scores(study, "rich"), before)


class TestErrors:
    """One line says what is wrong."""

    def test_out_of_range(self, study: Path) -> None:
        write_params(
            study, red={"_target_": "Redness", "gain": 20}, rich={"_target_": "Feedback", "off": 0.95}
        )
        assert "by Redness: mean of prompt P2 is 400, outside of the declared 0 to 255" in failed(
            study, "score", "red"
        )
        assert "heat of the image of prompt P2, seed 0 holds 1.02843" in failed(study, "score", "rich")
        assert not list((study / "data/scores").iterdir()), "nothing half-written is left"

    def test_out_of_range_in_table(self, study: Path) -> None:
        write_params(study, red={"_target_": "Redness"})
        ok(study, "score", "red")
        outside = study.parent / "package/outside/__init__.py"
        outside.write_text(OUTSIDE.replace('"Redness", 0, 255', '"Redness", 0, 59.5'))
        sys.modules.pop("outside")
        importlib.invalidate_caches()
        said = failed(study, "table")
        assert (
            "data/scores/red/n/scores.parquet: mean of prompt P2 is 60, outside of the declared 0 to 59.5 (2 such"
            in said
        )

    def test_swapped(self, study: Path) -> None:
        write_params(study, red={"_target_": "Redness"}, twice={"_target_": "Redness", "gain": 2})
        ok(study, "score", "red")
        ok(study, "score", "twice")
        root = study / "data/scores"
        for one, other, owner in (
            (root / "red/m", root / "red/n", "red of n"),
            (root / "red", root / "twice", "twice of m"),
        ):
            swap(one, other)
            assert f"holds scores by {owner}, expected by red of m" in failed(study, "table")
            swap(one, other)
        ok(study, "table")

    def test_undeclared_outputs(self, study: Path) -> None:
        write_params(study, careless={"_target_": "Careless"})
        said = failed(study, "score", "careless")
        assert (
            "outside.Careless gave {'a': 2} for 2 items; expected 2 of each of its outputs ['a', 'b']" in said
        )

    def test_names(self, study: Path) -> None:
        write_params(
            study,
            red={"_target_": "Redness", "gian": 2},
            bad={"_target_": "Nothing"},
            dot={"_target_": "Product", "encoder": "e"},
        )
        assert "params.yaml: scorers.red.gian is no setting of Redness; did you mean gain?" in failed(
            study, "score", "red"
        )
        assert "outside has no class Nothing" in failed(study, "score", "bad")
        assert "scorers has no 'nonsense', only" in failed(study, "score", "nonsense")
        assert "data/embeddings/e/m: no embeddings of images" in failed(study, "score", "dot")
        assert run(study, "score").status == 2

    def test_corrupt_image(self, study: Path) -> None:
        write_params(study, red={"_target_": "Redness"})
        row = image("m", "P1", 0)
        path = study / "data/images/m/part-00000.parquet"
        path.unlink()
        corrupt = Image(*list(vars(row).values())[:8], (row.image or b"")[:30])
        write_shard(path, [corrupt, image("m", "P1", 1)])
        assert "the image of prompt P1, seed 0 can't be read" in failed(study, "score", "red")


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
