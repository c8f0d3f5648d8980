"""The real commands, on the real table, in a fresh clone: what a newcomer and a researcher type."""

import io
import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.slow

STEMS = {"sdxl-turbo": "SDXL-Turbo", "sd-turbo": "SD-Turbo", "amused": "amused", "taesd-sd21": "TAESD"}


def evaluated(clone: Path) -> dict:
    return json.loads((clone / "metrics" / "evaluate.json").read_text())


def ran(output: str) -> set[str]:
    """Names of the stages that DVC ran."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def changed(run: Run) -> set[str]:
    """Files that differ from what is committed."""
    return {line[3:] for line in run("git", "status", "--porcelain").stdout.splitlines()}


def test_results_page_shows_the_study(clone: Path, run: Run) -> None:
    page = (clone / "docs" / "results.md").read_text()
    rows = [
        line.split() for line in run("python", "-m", "promptroute", "evaluate", "--show").stdout.splitlines()
    ]
    rows = [row for row in rows if len(row) == 5 and row[-1].endswith("%")]
    assert len(rows) == 14
    for name, *values, _ in rows:
        shown = re.findall(rf"^{name} +(\S+) +(\S+) +(\S+) +\S+%$", page, re.MULTILINE)
        # Another kind of processor rounds float32 sums otherwise, which may move a tie.
        assert any(
            [float(value) for value in values]
            == pytest.approx([float(one) for one in row], rel=5e-3, abs=1e-4)
            for row in shown
        ), (name, values, shown)


def test_a_second_repro_runs_nothing(clone: Path, run: Run) -> None:
    before = changed(run)
    again = run("dvc", "repro")
    assert "Data and pipelines are up to date." in again.stdout + again.stderr
    assert changed(run) == before


def test_the_report_is_there(clone: Path, run: Run) -> None:
    page = (clone / "report" / "index.html").read_text(encoding="utf-8")
    assert "SDXL-Turbo" in page and "<script" not in page
    for name in ("frontier", "choices", "gallery", "scores", "predicted", "confusion"):
        assert (clone / "metrics" / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_figures_equal_pandas(clone: Path, run: Run, cems_root: Path) -> None:
    files = cems_root / "Model_Perf" / "aug_10k"
    raw = {
        score: pd.DataFrame(
            {
                model: pd.read_csv(files / f"{score}_score_with_time_{stem}.csv").set_index("prompt_id")[
                    f"{score}_score"
                ]
                for model, stem in STEMS.items()
            }
        )
        for score in ("nima", "clip")
    }
    found = evaluated(clone)["all_prompts"]
    assert found["prompts"] == len(raw["nima"])
    price = dict(
        zip(STEMS, np.array([0.616 * 10, 0.176 * 5, 0.489 * 4, 1.588 * 4]) * 0.0000166667, strict=True)
    )
    for model in STEMS:
        row = found["strategies"][f"single_{model}"]
        assert row["nima.mean"] == pytest.approx(raw["nima"][model].mean(), rel=1e-8)
        assert row["clip.score"] == pytest.approx(raw["clip"][model].mean(), rel=1e-8)
        assert row["total_cost"] == pytest.approx(price[model] * found["prompts"], rel=1e-8)
    assert price["sdxl-turbo"] == pytest.approx(1.02667e-4, rel=1e-5)
    oracle = found["strategies"]["oracle"]
    assert oracle["nima.mean"] == pytest.approx(raw["nima"].max(axis=1).mean(), rel=1e-8)
    chosen = raw["nima"].idxmax(axis=1)
    assert oracle["total_cost"] == pytest.approx(chosen.map(price).sum(), rel=1e-8)
    assert oracle["clip.score"] == pytest.approx(
        np.mean([raw["clip"].at[i, m] for i, m in chosen.items()]), rel=1e-8
    )


def test_table_1(clone: Path, run: Run) -> None:
    run("python", "-m", "promptroute", "compose", "prompts=paper")
    run("dvc", "repro", "describe")
    found = json.loads((clone / "metrics" / "prompts.json").read_text())["sets"]
    run("git", "checkout", "--quiet", "--force", "main")
    run("dvc", "checkout")
    paper = {
        "MS": (31427, 10.46, 6, 45), "LN": (8573, 40.45, 6, 181), "DRAW": (200, 11.68, 1, 51),
        "PP": (1632, 9.12, 1, 67), "DIFF": (8168, 24.31, 1, 217),
    }  # fmt: skip
    for name, (count, mean, low, high) in paper.items():
        assert found[name]["prompts"] == count
        assert found[name]["words"]["mean"] == pytest.approx(mean, abs=0.02)
        assert (found[name]["words"]["min"], found[name]["words"]["max"]) == (low, high)


def test_sides_are_disjoint(clone: Path, run: Run) -> None:
    prompts = pd.read_parquet(clone / "data" / "prompts.parquet").set_index("prompt_id")["prompt"]
    split = pd.read_parquet(clone / "data" / "split.parquet").set_index("prompt_id")["split"]
    sides = pd.DataFrame({"text": prompts.str.strip().str.casefold(), "side": split})
    assert (sides.groupby("text")["side"].nunique() == 1).all()
    assert sides["side"].value_counts(normalize=True)["train"] == pytest.approx(0.8, abs=0.002)


def test_sources_recorded(clone: Path, run: Run, cems_root: Path) -> None:
    import hashlib

    sources = json.loads((clone / "metrics" / "sources.json").read_text())
    assert len(sources) == 8
    for files in sources.values():
        for file in files:
            content = (cems_root / file["path"]).read_bytes()
            assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert str(cems_root) not in (clone / "metrics" / "sources.json").read_text()


def test_evaluate_own_table(clone: Path, run: Run, cems_root: Path, tmp_path: Path) -> None:
    split = pd.read_parquet(clone / "data" / "split.parquet").set_index("prompt_id")["split"]
    for path in (cems_root / "Model_Perf" / "aug_10k").glob("*.csv"):
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows[rows["prompt_id"].map(split) == "test"].to_csv(tmp_path / path.name, index=False)
    before = run("git", "status", "--porcelain").stdout
    run(
        "python",
        "-m",
        "promptroute",
        "evaluate",
        "--performance",
        str(tmp_path),
        "--out",
        str(tmp_path / "out.json"),
    )
    found, expected = json.loads((tmp_path / "out.json").read_text()), evaluated(clone)
    assert found["prompts"] == expected["prompts"]
    assert found["strategies"]["oracle"] == expected["strategies"]["oracle"]
    assert found["strategies"]["router"]["quality"] == pytest.approx(
        expected["strategies"]["router"]["quality"], abs=1e-3
    )
    assert found["frontier"]["iso_quality_cost"]["estimate"] == pytest.approx(
        expected["frontier"]["iso_quality_cost"]["estimate"], abs=1e-2
    )
    assert run("git", "status", "--porcelain").stdout == before


def test_the_command_line_routes_prompts(clone: Path, run: Run, tmp_path: Path) -> None:
    prompts = ["a red car and a white sheep", "<script>alert(1)</script> 'quoted' \x1b[31m", "猫 🦊"]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts) + "\n\n", encoding="utf-8")
    lines = run(
        "python", "-m", "promptroute", "route", "--file", str(tmp_path / "prompts.txt"), "--json"
    ).stdout.splitlines()
    decisions = [json.loads(line) for line in lines]
    assert [one["prompt"] for one in decisions] == prompts
    for one in decisions:
        assert set(one["quality"]) == set(STEMS)
        assert one["model"] in STEMS
        assert one["cost"] > 0
        assert one["reason"]
    plain = run("python", "-m", "promptroute", "route", *prompts[1:]).stdout
    assert "\x1b" not in plain
    refused = run("python", "-m", "promptroute", "route", " ", ok=False)
    assert refused.returncode == 1
    assert refused.stderr.strip().splitlines()[-1].startswith("error: prompt 1 of 1")


def test_switch_score(small: Path, go: Run) -> None:
    nima = evaluated(small)["strategies"]["single_sdxl-turbo"]["quality"]
    output = go("dvc", "exp", "run", "-S", "score=clip", "-n", "clip").stdout
    assert ran(output) == {"preflight", "train", "calibrate", "evaluate", "report"}
    found = evaluated(small)
    assert found["score"] == "clip.score"
    assert (
        found["strategies"]["single_sdxl-turbo"]["quality"]
        == found["strategies"]["single_sdxl-turbo"]["clip.score"]
        != nima
    )


def test_switch_cost_rule(small: Path, go: Run) -> None:
    output = go("dvc", "exp", "run", "-S", "cost=measured", "-n", "measured").stdout
    assert "train" not in ran(output)
    assert {"calibrate", "evaluate"} <= ran(output)


def test_switch_predictor(small: Path, go: Run) -> None:
    first = ran(go("dvc", "exp", "run", "-S", "predictor=ridge", "-n", "ridge").stdout)
    assert {"encode@minilm", "train"} <= first  # the default predictor reads another encoder's vectors
    second = ran(go("dvc", "exp", "run", "-S", "predictor=knn", "-n", "knn").stdout)
    assert not [stage for stage in second if stage.startswith("encode")]
    assert "train" in second


def test_experiments_are_compared(small: Path, go: Run) -> None:
    # Runs after the experiments above and shows them; HEAD is the committed default study.
    shown = go("dvc", "exp", "show", "--csv").stdout
    assert {"clip", "measured", "ridge", "knn"} <= set(pd.read_csv(io.StringIO(shown))["Experiment"].dropna())
    go("dvc", "exp", "apply", "clip")
    changes = json.loads(go("dvc", "metrics", "diff", "HEAD", "--json").stdout)
    # Neither router gains anything on so few prompts; what the frontier says differs with the score.
    assert {"study", "frontier_oracle_gap_closed", "frontier_area"} <= set(changes["metrics/summary.json"])
    assert set(changes) <= {"metrics/summary.json", "metrics/sources.json"}
    page = go("dvc", "plots", "diff", "HEAD", "--out", "plots_page").stdout
    assert (small / "plots_page" / "index.html").exists(), page
    go("git", "checkout", "--quiet", "--force", "main")
    go("git", "clean", "--quiet", "--force", "-d")
    go("dvc", "checkout")
    assert go("git", "status", "--porcelain").stdout == ""


def test_queued_sweep(small: Path, go: Run) -> None:
    go("dvc", "exp", "run", "--queue", "-S", "predictor=ridge", "-S", "+predictor.folds=3,4")
    go("dvc", "queue", "start", "--jobs", "1")
    for _ in range(120):
        status = go("dvc", "queue", "status").stdout
        if not re.search(r"Queued|Running", status):
            break
        time.sleep(5)
    assert len(re.findall(r"Success", status)) == 2, status
    shown = pd.read_csv(io.StringIO(go("dvc", "exp", "show", "--csv").stdout))
    assert {3, 4} <= set(shown["predictor.folds"].dropna().astype(float))
