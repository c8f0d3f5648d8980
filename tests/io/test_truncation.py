"""What is counted of prompts that were cut off."""

from pathlib import Path

import numpy as np

from promptroute.core.image import Image
from promptroute.io.embeddings import embeddings_table
from promptroute.io.images import write_shard
from promptroute.io.parquet import write_parquet
from promptroute.io.truncation import count_truncated


def test_counts_prompts_not_images(tmp_path: Path) -> None:
    rows = [
        Image(f"P{p}", "x", "m", s, "ok", None, 1, 1, b"x", cut)
        for p, cut in ((1, 0), (2, 7))
        for s in (0, 1)
    ]
    rows.append(Image("P2", "x", "m", 2, "failed", "it broke", None, None, None))
    write_shard(tmp_path / "images/m/part-00000.parquet", rows)
    table = embeddings_table(["P1", "P2"], np.ones((2, 3), np.float32), truncated=[4, 2])
    write_parquet(tmp_path / "text/a.parquet", table, {})
    unknown = embeddings_table(["P1", "P2"], np.ones((2, 3), np.float32), truncated=[None, None])
    write_parquet(tmp_path / "embeddings/b/prompts.parquet", unknown, {})
    assert count_truncated(["m"], ["b"], ["a"], tmp_path) == {
        "models": {"m": {"prompts": 2, "truncated": 1, "tokens": 7}},
        "image_encoder": {"b": {"prompts": 2, "truncated": None, "tokens": None}},
        "text_encoder": {"a": {"prompts": 2, "truncated": 2, "tokens": 6}},
    }
