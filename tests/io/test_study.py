"""Tables are joined by key: no order of rows matters, and a missing value is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.rows import Performance, Prompt, SplitRow
from promptroute.core.study import StudyData
from promptroute.io.embeddings import read_embeddings, write_embeddings
from promptroute.io.scores import scores_folder, write_scores
from promptroute.io.study import check_made_of, join, load_study, made_of, with_images
from promptroute.io.tables import of_prompts, write_table

IDS = ["A1", "A2", "A3"]
PROMPTS = pd.DataFrame({"prompt_id": IDS, "prompt": ["a", "b", "c"], "set": ["A", "A", "B"], "count": 1})
CELLS = [
    (prompt_id, model, score, 10 * i + j + (100 if score == "clip.score" else 0))
    for i, prompt_id in enumerate(IDS)
    for j, model in enumerate(["x", "y"])
    for score in ("nima.mean", "clip.score")
]
PERFORMANCE = pd.DataFrame(CELLS, columns=["prompt_id", "model", "score", "mean"]).assign(
    std=np.nan, n=3, seconds=lambda rows: np.where(rows["model"] == "x", 0.5, np.nan)
)
EMBEDDINGS = pd.DataFrame({"prompt_id": IDS, "embedding": [np.full(2, i, np.float32) for i in range(3)]})


def shuffled(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    return frame.sample(frac=1, random_state=seed)


@pytest.mark.parametrize("seed", range(3))
def test_order_of_rows(seed: int) -> None:
    study = join(
        PROMPTS,
        shuffled(PERFORMANCE, seed),
        {"e": shuffled(EMBEDDINGS, seed)},
        ["y", "x"],
        ["nima.mean", "clip.score"],
    )
    np.testing.assert_array_equal(study.raw["nima.mean"], [[1, 0], [11, 10], [21, 20]])
    np.testing.assert_array_equal(study.raw["clip.score"], [[101, 100], [111, 110], [121, 120]])
    np.testing.assert_array_equal(study.batch.embeddings["e"], [[0, 0], [1, 1], [2, 2]])
    assert study.batch.texts == ["a", "b", "c"]
    assert study.measured_seconds() == {"x": 0.5}


def test_take_keeps_rows_together() -> None:
    study = join(PROMPTS, PERFORMANCE, {"e": EMBEDDINGS}, ["x", "y"], ["nima.mean"]).take(np.array([2, 0]))
    assert list(study.prompt_ids) == ["A3", "A1"]
    assert list(study.sets) == ["B", "A"]
    np.testing.assert_array_equal(study.raw["nima.mean"], [[20, 21], [0, 1]])
    np.testing.assert_array_equal(study.batch.embeddings["e"], [[2, 2], [0, 0]])


def test_a_missing_score_is_named() -> None:
    rows = PERFORMANCE[
        ~(
            (PERFORMANCE["prompt_id"] == "A2")
            & (PERFORMANCE["model"] == "y")
            & (PERFORMANCE["score"] == "clip.score")
        )
    ]
    with pytest.raises(UserError, match=r"no clip.score score of model y for prompt A2 \(1 missing in all\)"):
        join(PROMPTS, rows, {}, ["x", "y"], ["nima.mean", "clip.score"])


def test_a_missing_embedding_is_named() -> None:
    with pytest.raises(UserError, match=r"data/text/e.parquet: no embedding of prompt A3"):
        join(PROMPTS, PERFORMANCE, {"e": EMBEDDINGS.iloc[:2]}, ["x"], ["nima.mean"])


def test_embeddings_come_back_bit_equal(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    write_embeddings(tmp_path / "e.parquet", IDS, rows)
    back = read_embeddings(tmp_path / "e.parquet")
    assert list(back["prompt_id"]) == IDS
    np.testing.assert_array_equal(np.stack(back["embedding"]), rows)


def test_corrupt_embeddings(tmp_path: Path) -> None:
    (tmp_path / "e.parquet").write_bytes(b"PAR1 corrupt")
    with pytest.raises(
        UserError, match=r"e.parquet: not a table of embeddings that can be read .*make it again"
    ):
        read_embeddings(tmp_path / "e.parquet")
    with pytest.raises(UserError, match="no such file"):
        read_embeddings(tmp_path / "absent.parquet")


def write_study(folder: Path, split: pd.DataFrame) -> None:
    write_table(folder / "prompts.parquet", PROMPTS, Prompt)
    write_table(folder / "performance.parquet", PERFORMANCE, Performance, ("prompt_id", "model", "score"))
    write_table(folder / "split.parquet", split, SplitRow)
    write_embeddings(folder / "text" / "e.parquet", IDS, np.eye(3, dtype=np.float32))


def test_load_with_split(tmp_path: Path) -> None:
    write_study(tmp_path, pd.DataFrame({"prompt_id": IDS[::-1], "split": ["test", "validation", "train"]}))
    study, side = load_study(tmp_path, ["x", "y"], ["nima.mean"], ["e"])
    assert list(side) == ["train", "validation", "test"]
    assert len(study) == 3


def test_files_of_another_study(tmp_path: Path) -> None:
    """Its ids may be the same, with other texts."""
    split = pd.DataFrame({"prompt_id": IDS, "split": ["test", "validation", "train"]})
    write_study(tmp_path, split)
    other = of_prompts(PROMPTS.assign(prompt=["a", "b", "d"]))
    for name, rows, kind, key in (
        ("performance", PERFORMANCE, Performance, ("prompt_id", "model", "score")),
        ("split", split, SplitRow, ("prompt_id",)),
    ):
        write_table(tmp_path / f"{name}.parquet", rows, kind, key, of_prompts(PROMPTS))
        load_study(tmp_path, ["x"], ["nima.mean"], ["e"])
        write_table(tmp_path / f"{name}.parquet", rows, kind, key, other)
        with pytest.raises(UserError, match=rf"{name}.parquet: is of other prompts than this study's"):
            load_study(tmp_path, ["x"], ["nima.mean"], ["e"])
        write_table(tmp_path / f"{name}.parquet", rows, kind, key)
    write_embeddings(tmp_path / "text" / "e.parquet", IDS, np.eye(3, dtype=np.float32), {"inputs": "another"})
    with pytest.raises(UserError, match=r"data/text/e.parquet: of other prompts than this study's"):
        load_study(tmp_path, ["x"], ["nima.mean"], ["e"])


def test_made_of_other_files(tmp_path: Path) -> None:
    table = tmp_path / "performance.parquet"
    table.write_text("one")
    files = made_of(table)
    check_made_of(tmp_path / "router", files)
    check_made_of(tmp_path / "router", None)
    table.write_text("two")
    with pytest.raises(
        UserError, match=r"router: was made of another .*performance.parquet than the one here"
    ):
        check_made_of(tmp_path / "router", files)


def test_prompt_on_no_side(tmp_path: Path) -> None:
    write_study(tmp_path, pd.DataFrame({"prompt_id": IDS[:2], "split": ["test", "train"]}))
    with pytest.raises(UserError, match="prompt A3 is on no side"):
        load_study(tmp_path, ["x"], ["nima.mean"], ["e"])


def test_embeddings_of_other_prompts() -> None:
    with pytest.raises(UserError, match=r"embeddings 'e' are \(3, 2\); expected \[2, d\]"):
        PromptBatch(["a", "b"], {"e": np.zeros((3, 2), np.float32)})


class TestSingleImages:
    """Scores of single images come from data/scores, by key."""

    def write(self, data: Path, model: str, rows: list[tuple[str, int | None, float]]) -> None:
        frame = pd.DataFrame(rows, columns=["prompt_id", "seed", "value"]).assign(
            output="mean", images=1, seconds=np.nan
        )
        frame["seed"] = frame["seed"].astype("Int64")
        frame = frame[["prompt_id", "seed", "output", "value", "images", "seconds"]]
        folder = scores_folder("nima", model, data=data)
        write_scores(folder / "scores.parquet", frame, {"scorer": "nima", "model": model, "class": "x"})

    def study(self) -> StudyData:
        return join(PROMPTS, PERFORMANCE, {}, ["x", "y"], ["nima.mean", "clip.score"])

    def test_by_key(self, tmp_path: Path) -> None:
        for place, model in enumerate(["x", "y"]):
            rows = [
                (i, seed, 10.0 * IDS.index(i) + seed + 100 * place) for i in reversed(IDS) for seed in (1, 0)
            ]
            self.write(tmp_path, model, rows)
        found = with_images(self.study(), tmp_path)
        assert set(found.images) == {"nima.mean"}  # clip has no file
        np.testing.assert_array_equal(found.images["nima.mean"][1], [[10, 11], [110, 111]])
        np.testing.assert_array_equal(found.take(np.array([2])).images["nima.mean"][0, 0], [20, 21])

    def test_failed_image(self, tmp_path: Path) -> None:
        for model in ("x", "y"):
            rows = [(i, seed, 1.0) for i in IDS for seed in (0, 1) if (model, i, seed) != ("y", "A2", 1)]
            self.write(tmp_path, model, rows)
        images = with_images(self.study(), tmp_path).images["nima.mean"]
        assert np.isnan(images[1, 1, 1]) and np.isnan(images).sum() == 1

    def test_means_are_no_images(self, tmp_path: Path) -> None:
        for model in ("x", "y"):
            self.write(tmp_path, model, [(i, None, 1.0) for i in IDS])
        assert with_images(self.study(), tmp_path).images == {}
