"""Our own scorers through the stage `score`: what is stored is what each gives by itself."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from promptroute.core.image import Image as Row
from promptroute.io.embeddings import write_embeddings
from promptroute.io.images import write_shard
from promptroute.io.parquet import write_parquet
from promptroute.io.scores import read_scores, scores_folder
from promptroute.scorers.base import ImageBatch
from promptroute.scorers.nima import Nima
from tests.image_stages.conftest import TEXTS
from tests.scorers.test_run import claim, failed, ok

Study = Callable[..., Path]
IDS = [f"P{number:07d}" for number in range(1, len(TEXTS) + 1)]
KEYS = [(prompt, seed) for prompt in range(len(TEXTS)) for seed in range(3)]
LOST = {(1, 0), (1, 1), (2, 0)}
"""(prompt, seed) of images that could not be generated."""


def pixels(prompt: int, seed: int) -> Image.Image:
    noise = np.random.default_rng([prompt, seed])
    return Image.fromarray(noise.integers(0, 256, (16, 16, 3), np.uint8))


def vectors(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=(*shape, 8)).astype(np.float32)


def write_embedding_shard(path: Path, keys: list[tuple[int, int]]) -> None:
    import pyarrow as pa

    rows = np.stack([vectors(len(TEXTS), 3)[key] for key in keys])
    table = pa.table(
        {
            "prompt_id": [IDS[prompt] for prompt, _ in keys],
            "seed": [seed for _, seed in keys],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1]),
        }
    )
    write_parquet(path, table, {"model": path.parent.name})


@pytest.fixture
def images(study: Study) -> Path:
    """The study's images and embeddings of both models, two prompts a shard; amused has lost some."""
    folder = study()
    for model in ("sd", "amused"):
        for number, start in enumerate(range(0, len(TEXTS), 2)):
            rows, kept = [], []
            for prompt, seed in [key for key in KEYS if start <= key[0] < start + 2]:
                file = io.BytesIO()
                pixels(prompt, seed).save(file, format="PNG")
                about = (IDS[prompt], TEXTS[prompt], model, seed)
                if model == "amused" and (prompt, seed) in LOST:
                    rows.append(Row(*about, "failed", "it broke", None, None, None))
                else:
                    rows.append(Row(*about, "ok", None, 16, 16, file.getvalue()))
                    kept.append((prompt, seed))
            name = f"part-{number:05d}.parquet"
            write_shard(folder / "data/images" / model / name, rows)
            write_embedding_shard(folder / "data/embeddings/tiny" / model / name, kept)
    write_embeddings(folder / "data/embeddings/tiny/prompts.parquet", IDS, vectors(len(TEXTS)))
    return folder


def scores(folder: Path, scorer: str, model: str) -> pd.DataFrame:
    ok(folder, "score", scorer)
    return read_scores(scores_folder(scorer, model, data=folder / "data"), scorer, model)


def test_nima(images: Path, weights: Path) -> None:
    found = scores(images, "nima", "sd")
    assert list(zip(found["prompt_id"], found["seed"], strict=True)) == [(IDS[p], s) for p, s in KEYS]
    nima = Nima(checkpoint=str(weights / "nima.safetensors"))
    expected = nima.score(ImageBatch([pixels(*key) for key in KEYS]))["mean"]
    np.testing.assert_allclose(found["value"], expected, atol=1e-5)
    assert set(found["output"]) == {"mean"} and found["seconds"].isna().all()


def test_clip(images: Path) -> None:
    found = scores(images, "clip", "sd")
    texts, rows = vectors(len(TEXTS)), vectors(len(TEXTS), 3)
    lengths = np.linalg.norm(rows, axis=2) * np.linalg.norm(texts, axis=1)[:, None]
    cosines = np.einsum("psd,pd->ps", rows, texts) / lengths
    np.testing.assert_allclose(found["value"], 100 * np.maximum(cosines, 0).reshape(-1), atol=1e-3)


def test_consistency(images: Path) -> None:
    found = scores(images, "consistency", "sd")
    assert list(found["prompt_id"]) == IDS and list(found["images"]) == [3] * 5 and found["seed"].isna().all()
    rows = vectors(len(TEXTS), 3)
    unit = rows / np.linalg.norm(rows, axis=2, keepdims=True)
    pairs = [[max(100 * float(u[a] @ u[b]), 0) for a, b in ((0, 1), (0, 2), (1, 2))] for u in unit]
    np.testing.assert_allclose(found["value"], np.mean(pairs, axis=1), atol=1e-3)


def test_lost_images(images: Path) -> None:
    assert len(scores(images, "nima", "amused")) == 12
    found = scores(images, "consistency", "amused")
    assert list(found["images"]) == [3, 2, 3, 3] and IDS[1] not in set(found["prompt_id"])


def test_no_weights(images: Path) -> None:
    params = yaml.safe_load((images / "params.yaml").read_text())
    params["scorers"]["nima"]["checkpoint"] = "nowhere.hdf5"
    (images / "params.yaml").write_text(yaml.safe_dump(params))
    assert "nowhere.hdf5: NIMA's weights are not there" in failed(images, "score", "nima")
    ok(images, "score", "clip")


def test_other_prompts(images: Path, study: Study) -> None:
    study((*TEXTS, "one more"))
    assert "prompts.parquet: made of other prompts" in failed(images, "score", "clip")
    study(TEXTS[:1])
    assert "part-00000.parquet: made of other prompts" in failed(images, "score", "clip")


def test_other_model(images: Path) -> None:
    claim(images / "data/embeddings/tiny/amused/part-00001.parquet", model="sd")
    assert "amused/part-00001.parquet: model is sd, expected amused" in failed(images, "score", "clip")
