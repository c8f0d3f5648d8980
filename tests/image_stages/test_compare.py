"""Statistics of every score, joined by prompt."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from promptroute.core.rows import Performance
from promptroute.evaluation.comparison import compare_models
from promptroute.io.tables import write_table
from stages.compare import compare
from tests.stages.small import run


def performance() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = []
    for model, shift in (("b", 1.0), ("a", 0.0)):
        for prompt in range(30):
            rows.append((f"P{prompt:02d}", model, "clip.score", 30 + shift + random.normal(0, 0.3)))
    rows.append(("P99", "a", "clip.score", 0.0))  # a prompt that b has no score of
    frame = pd.DataFrame(rows, columns=["prompt_id", "model", "score", "mean"])
    return frame.assign(std=0.1, n=3, seconds=np.nan).sample(frac=1, random_state=0)


def test_pairing_by_prompt() -> None:
    rows = performance()
    found = compare(rows)["clip.score"]
    table = rows.set_index(["model", "prompt_id"])["mean"]
    ids = [f"P{prompt:02d}" for prompt in range(30)]
    order = list(dict.fromkeys(rows["model"]))
    assert found == compare_models({model: table[model][ids].to_numpy() for model in order})
    assert found["prompts"] == 30


def test_stage_output(tmp_path: Path) -> None:
    write_table(
        tmp_path / "data/performance.parquet", performance(), Performance, ("prompt_id", "model", "score")
    )
    ran = run(tmp_path, "compare")
    assert ran.status == 0, ran.err
    assert ran.out == "compare: 1 of 1 pairs of models differ (Wilcoxon, Holm, 5 %)\n"
    found = json.loads((tmp_path / "metrics/comparison.json").read_text())
    (pair,) = found["clip.score"]["pairs"].values()
    assert abs(pair["mean_difference"]) == pytest.approx(1, abs=0.2) and pair["wilcoxon_p"] < 1e-6
