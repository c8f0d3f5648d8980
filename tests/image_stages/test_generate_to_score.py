"""From prompts to scores: each stage's file, and what growing a study costs."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from promptroute.core.image import Image as Row
from promptroute.core.rows import Score
from promptroute.encoders.open_clip import OpenClip
from promptroute.io.images import read_images, write_shard
from promptroute.io.tables import read_table
from promptroute.scorers.nima import Nima
from tests.image_stages.conftest import TEXTS
from tests.stages.small import Ran, run

Study = Callable[..., Path]


def ok(folder: Path, stage: str, *arguments: str) -> str:
    ran = run(folder, stage, *arguments)
    assert ran.status == 0, ran.err
    return ran.out


def rows(folder: Path, model: str = "sd") -> list[Row]:
    return [row for shard in read_images(folder / "data" / "images" / model) for row in shard]


def picture(row: Row) -> Image.Image:
    return Image.open(io.BytesIO(row.image or b""))


def scored(folder: Path, scorer: str, model: str = "sd") -> tuple[str, pd.DataFrame]:
    printed = ok(folder, "score", scorer, model)
    return printed, read_table(
        folder / "data" / "scores" / scorer / f"{model}.parquet", Score, ("prompt_id", "seed")
    )


def test_every_scorer_scores_what_was_drawn(study: Study, weights: Path) -> None:
    folder = study()
    for model in ("sd", "amused"):
        ok(folder, "generate", model)
        assert f"15 images now of {model} with tiny" in ok(folder, "embed", model)
    assert "embed: 5 prompts with tiny" in ok(folder, "embed")
    found = rows(folder, "amused")
    pictures = [picture(row) for row in found]

    _, nima = scored(folder, "nima", "amused")
    assert list(zip(nima["prompt_id"], nima["seed"], strict=True)) == [
        (row.prompt_id, row.seed) for row in found
    ]
    np.testing.assert_allclose(
        nima["score"], Nima(str(weights / "nima.safetensors")).score(pictures), atol=1e-5
    )
    assert (nima["images"] == 1).all() and nima["seconds"].isna().all()

    clip = OpenClip(str(weights / "clip"))
    images, texts = clip.encode_images(pictures), clip.encode_texts(TEXTS).repeat(3, axis=0)
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    cosines = (unit * texts).sum(axis=1) / np.linalg.norm(texts, axis=1)
    _, alignment = scored(folder, "clip", "amused")
    np.testing.assert_allclose(alignment["score"], 100 * np.maximum(cosines, 0), atol=1e-3)

    _, consistency = scored(folder, "consistency", "amused")
    assert list(consistency["images"]) == [3] * 5 and consistency["seed"].isna().all()
    first = [max(100 * float(unit[a] @ unit[b]), 0) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert consistency["score"][0] == pytest.approx(np.mean(first), abs=1e-3)


def test_embedding_and_scoring_again_takes_what_is_at_hand(study: Study) -> None:
    folder = study(TEXTS[:4])
    ok(folder, "generate", "sd")
    ok(folder, "embed", "sd")
    _, before = scored(folder, "nima")
    study(TEXTS)
    ok(folder, "generate", "sd")
    assert "3 images now of sd" in ok(folder, "embed", "sd")
    _, after = scored(folder, "nima")
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)


def test_a_scorer_without_weights_stops_its_own_stage_alone(study: Study) -> None:
    folder = study(TEXTS[:2])
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["scorers"]["nima"]["scorer"]["weights"] = "nowhere.hdf5"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    ok(folder, "generate", "sd")
    ok(folder, "embed", "sd")
    failed = run(folder, "score", "nima", "sd")
    assert failed.status == 1 and "nowhere.hdf5" in failed.err


def test_a_failed_image_has_no_score_and_no_pair(study: Study) -> None:
    folder = study(TEXTS[:2])
    ok(folder, "generate", "sd")
    found = rows(folder)
    broken = [
        Row(row.prompt_id, row.prompt, row.model, row.seed, "failed", "it broke", None, None, None)
        if (row.prompt, row.seed) in {("a dog", 0), ("a red cat", 0), ("a red cat", 1)}
        else row
        for row in found
    ]
    (folder / "data/images/sd/part-00000.parquet").unlink()
    write_shard(folder / "data/images/sd/part-00000.parquet", broken)
    ok(folder, "embed", "sd")
    ok(folder, "embed")
    _, nima = scored(folder, "nima")
    assert len(nima) == 3
    _, consistency = scored(folder, "consistency")
    assert list(consistency["prompt_id"]) == ["P0000001"] and list(consistency["images"]) == [2]


def failed(folder: Path, *command: str) -> str:
    ran: Ran = run(folder, *command)
    assert ran.status == 1 and "Traceback" not in ran.err, ran.err
    return ran.err


def test_errors_name_the_file_or_setting_and_the_fix(study: Study) -> None:
    folder = study(TEXTS[:2], seeds=[0])
    assert "data/images/sd: no shard of images" in failed(folder, "embed", "sd")
    assert "models has no 'nonsense', only" in failed(folder, "generate", "nonsense")
    ok(folder, "generate", "sd")
    assert "data/embeddings/sd/tiny: no embeddings of images" in failed(folder, "score", "clip", "sd")
    assert "scorers has no 'nonsense', only" in failed(folder, "score", "nonsense", "sd")
    for wrong in ({"seeds": []}, {"seeds": [-1]}, {"shard_prompts": 0}, {"max_failed": 2}):
        study(TEXTS[:2], **{"seeds": [0], **wrong})
        assert f"generation.{next(iter(wrong))} is" in failed(folder, "generate", "sd")
    params = yaml.safe_load((study(TEXTS[:2], seeds=[0]) / "params.yaml").read_text())
    params["scorers"]["nima"]["high"] = 1.5
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    assert "outside of the declared 1.0 to 1.5" in failed(folder, "score", "nima", "sd")
    shard = folder / "data/images/sd/part-00000.parquet"
    content = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(content[:-10])
    assert "part-00000.parquet: not a readable shard" in failed(folder, "embed", "sd")


def test_embeddings_of_other_prompts_are_refused(study: Study) -> None:
    folder = study(TEXTS[:2], seeds=[0])
    ok(folder, "generate", "sd")
    ok(folder, "embed", "sd")
    ok(folder, "embed")
    study(TEXTS[:3], seeds=[0])
    assert "data/prompt_embeddings was made of other prompts" in failed(folder, "score", "clip", "sd")
    study(TEXTS[:1], seeds=[0])
    assert "data/embeddings/sd was made of other prompts" in failed(folder, "score", "clip", "sd")
