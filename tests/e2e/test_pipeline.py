"""The real commands, on the real table, in a fresh clone: what a newcomer and a researcher type."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.e2e.conftest import Run, git_clone, published_study, runner
from tests.stages.small import params
from tests.stages.small import run as stage_in

pytestmark = pytest.mark.slow

STEMS = {"sdxl-turbo": "SDXL-Turbo", "sd-turbo": "SD-Turbo", "amused": "amused", "taesd-sd21": "TAESD"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, cems_root: Path) -> Path:
    """A clone with the whole published table."""
    folder = tmp_path_factory.mktemp("clone")
    git_clone(folder)
    published_study(folder, cems_root)
    return folder


@pytest.fixture(scope="module")
def run(clone: Path, cems_root: Path) -> Run:
    """Run a command in the clone."""
    return runner(clone, cems_root)


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
    assert len(rows) == 15
    for name, *values, _ in rows:
        shown = re.findall(rf"^{name} +(\S+) +(\S+) +(\S+) +\S+%(?: +\S+)?$", page, re.MULTILINE)
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


def test_table_1(cems_root: Path, tmp_path: Path) -> None:
    params(tmp_path, "prompts=paper", cems=cems_root)
    sources = yaml.safe_load((tmp_path / "params.yaml").read_text())["prompts"]["sources"]
    for stage in (*(("read", name) for name in sources), ("describe",)):
        assert stage_in(tmp_path, *stage, PROMPTROUTE_CEMS=str(cems_root)).status == 0
    found = json.loads((tmp_path / "metrics" / "prompts.json").read_text())["sets"]
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
