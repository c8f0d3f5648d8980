"""A study of a tidy table, from its two files to a result, and judged on another such table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from promptroute.core.errors import UserError
from tests.stages.small import STEMS, judge, params, run, table

GONE = "p7"


def write_tidy(folder: Path, rows: pd.DataFrame) -> None:
    """Write a study's rows as prompts.csv and scores.csv; one model lacks a score of one prompt."""
    ids = [f"p{i}" for i in range(len(rows))]
    pd.DataFrame({"prompt_id": ids, "set": rows["dataset_id"], "prompt": rows["prompt"]}).to_csv(
        folder / "prompts.csv", index=False
    )
    scores = [
        pd.DataFrame(
            {"prompt_id": ids, "model": STEMS[model], "Nima": rows[f"nima {model}"], "dollars": k + 1}
        )
        for k, model in enumerate(STEMS)
    ]
    whole = pd.concat(scores)
    whole.loc[(whole["prompt_id"] == GONE) & (whole["model"] == "amused"), "Nima"] = np.nan
    whole.to_csv(folder / "scores.csv", index=False)


def overrides(folder: Path, missing: str = "drop_prompt") -> list[str]:
    files = [f"published.table.{name}={folder}/{name}.csv" for name in ("prompts", "scores")]
    return ["experiment=tidy", *files, f"published.table.missing={missing}"]


@pytest.fixture
def tidy(tmp_path: Path) -> Path:
    write_tidy(tmp_path, table(90))
    params(tmp_path, *overrides(tmp_path))
    return tmp_path


def test_whole_study(tidy: Path) -> None:
    named = yaml.safe_load((tidy / "params.yaml").read_text())
    assert list(named["published"]["models"]) == ["sdxl-turbo", "sd-turbo", "amused", "taesd"]
    assert named["score"]["weights"] == {"nima": {"score": 1.0}}
    cells = named["uses"]["published"].values()
    assert len(cells) == 4 and {cell["table"] for cell in cells} == {str(tidy / "scores.csv")}
    stages = [
        "read tidy",
        "sample",
        "split",
        "preflight",
        *(f"published nima {cell['model']}" for cell in cells),
    ]
    printed = {}
    for stage in [*stages, "table", "train", "calibrate", "evaluate"]:
        ran = run(tidy, *stage.split())
        assert ran.status == 0, ran.err
        printed[stage] = ran.out
    assert "1 prompts left out" in printed["table"]
    known = pd.read_parquet(tidy / "data" / "performance.parquet")
    assert len(known) == 4 * 89 and GONE not in set(known["prompt_id"])
    result = json.loads((tidy / "metrics" / "evaluate.json").read_text())
    assert result["labels"]["sdxl-turbo"] == "SDXL-Turbo"
    assert result["strategies"]["single_amused"]["cost"] == 3.0  # as its column says

    other = tidy / "other"
    other.mkdir()
    write_tidy(other, table(40, seed=1))
    ran = judge(tidy, "--performance", str(other), "--out", str(tidy / "judged.json"))
    assert ran.status == 0, ran.err
    assert json.loads((tidy / "judged.json").read_text())["prompts"] == 39


def test_gaps_are_refused(tidy: Path) -> None:
    with pytest.raises(UserError, match=r"scores\.csv: scores are missing: of 90 prompts amused 1; add them"):
        params(tidy, *overrides(tidy, "refuse"))
