from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from promptroute.core.rows import Prompt, SplitRow
from promptroute.evaluation.origin import DECIDING, difference, origin
from promptroute.io.tables import write_table

PARAMS: dict[str, Any] = {
    **{name: {} for name in DECIDING},
    "prompts": {"sources": {"own": {"path": "/home/me/prompts.csv"}}},
    "models": {"a": {}}, "published": {"models": {"b": {}}}, "score": {"weights": {"nima": {"mean": 1.0}}},
}  # fmt: skip


def test_equal_on_every_machine() -> None:
    here = origin(PARAMS, Path("absent"))
    there = {**PARAMS, "prompts": {"sources": {"own": {"path": "/srv/prompts.csv"}}}}
    assert here == origin(there, Path("absent"))
    assert here["models"] == "b, a" and here["test_prompts"] is None
    assert difference(here, here) == ""


def test_another_file_is_another_study() -> None:
    other = {**PARAMS, "prompts": {"sources": {"own": {"path": "/home/me/others.csv"}}}}
    assert "settings" in difference(origin(PARAMS, Path("absent")), origin(other, Path("absent")))


@pytest.mark.parametrize("section", ["generation", "text_encoder", "image_encoder"])
def test_what_decides_a_result(section: str) -> None:
    other = origin({**PARAMS, section: {"seeds": 5}}, Path("absent"))
    assert difference(origin(PARAMS, Path("absent")), other) == "stale: its settings have changed since"


def test_other_texts_under_the_same_ids(tmp_path: Path) -> None:
    split = pd.DataFrame({"prompt_id": ["P1", "P2"], "split": ["train", "test"]})
    write_table(tmp_path / "split.parquet", split, SplitRow)
    found = []
    for text in ("a dog", "a cat"):
        rows = pd.DataFrame({"prompt_id": ["P1", "P2"], "prompt": ["x", text], "set": "A", "count": 1})
        write_table(tmp_path / "prompts.parquet", rows, Prompt)
        found.append(origin(PARAMS, tmp_path))
    assert difference(*found) == "stale: its test prompts have changed since"
