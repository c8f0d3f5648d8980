"""The two programs for people: judging the trained router, and asking it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from promptroute.core.rows import Performance
from promptroute.io.tables import read_table, write_table
from promptroute.router.router import Router
from promptroute.routing.policies import Guaranteed
from tests.stages.small import STEMS, judge, run, table, write_published
from tests.stages.test_chain import content, matrix, params, sides

MODELS = list(STEMS)
EQUATION_4 = np.array([0.616 * 10, 0.176 * 5, 0.489 * 4, 1.588 * 4]) * 0.0000166667


def result(folder: Path, name: str = "metrics/evaluate.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def check_strategies(found: dict[str, Any], rows: pd.DataFrame, router: Router | None) -> None:
    """Hold the rows of the cost table against pandas and numpy on the raw table."""
    true, n = matrix(rows, "nima"), len(rows)
    chosen = {"oracle": true.argmax(1)}
    chosen |= {f"single_{model}": np.full(n, place) for place, model in enumerate(MODELS)}
    if router is not None:
        decisions = router.route(rows["prompt"].to_list())
        chosen["router"] = np.array([MODELS.index(one.model) for one in decisions])
        predicted = np.array([list(one.quality.values()) for one in decisions])
        chosen["best_predicted"] = predicted.argmax(1)
    for name, choice in chosen.items():
        row = found[name]
        assert row["quality"] == pytest.approx(true[np.arange(n), choice].mean(), rel=1e-7), name
        assert row["clip.score"] == pytest.approx(matrix(rows, "clip")[np.arange(n), choice].mean(), rel=1e-7)
        assert row["cost"] == pytest.approx(EQUATION_4[choice].mean(), rel=1e-7)
        assert row["total_cost"] == pytest.approx(EQUATION_4[choice].sum(), rel=1e-7)
        assert list(row["share"].values()) == pytest.approx(np.bincount(choice, minlength=4) / n)


def test_cost_table_equals_numpy(finished: tuple[Path, Any]) -> None:
    folder, rows = finished[0], table()
    one, found = Router.load(folder / "data/router"), result(finished[0])
    test = rows[(rows["prompt_id"].map(sides(folder)) == "test").to_numpy()]
    assert found["prompts"] == 15 and found["all_prompts"]["prompts"] == 150
    check_strategies(found["strategies"], test, one)
    check_strategies(found["all_prompts"]["strategies"], rows, None)
    assert found["best_single"] == MODELS[matrix(test, "nima").mean(0).argmax()]
    for name, part in found["sets"].items():
        check_strategies(part["strategies"], test[test["dataset_id"] == name], one)
    assert sum(part["prompts"] for part in found["sets"].values()) == 15


def test_the_plots_tell_the_same(finished: tuple[Path, Any]) -> None:
    folder, found = finished[0], result(finished[0])
    plots = folder / "data/evaluation"
    predicted = pd.read_csv(plots / "predicted.csv")
    assert len(predicted) == 15 * 4
    means = predicted.groupby("model")["true"].mean()
    for model in MODELS:
        expected = found["strategies"][f"single_{model}"]["quality"]
        assert means[found["labels"][model]] == pytest.approx(expected, rel=1e-6)
    confusion = pd.read_csv(plots / "confusion.csv")
    accuracy = (confusion["best"] == confusion["chosen"]).mean()
    assert accuracy == pytest.approx(found["choice"]["router"]["accuracy"])
    frontier, hull = pd.read_csv(plots / "frontier.csv"), pd.read_csv(plots / "hull.csv")
    assert hull["cost"].is_monotonic_increasing and hull["quality"].is_monotonic_increasing
    above = np.interp(frontier["cost"], hull["cost"], hull["quality"])
    assert (frontier["quality"] <= above + 1e-6).all()


def test_evaluate_is_reproducible(study: Path) -> None:
    before = content(study, "metrics")
    assert run(study, "evaluate").status == 0
    assert content(study, "metrics") == before


def test_no_resamples_no_intervals(study: Path) -> None:
    before = result(study)
    params(study, "evaluate.resamples=0")
    assert run(study, "evaluate").status == 0
    after = result(study)
    for group in ("frontier", "router"):
        for name, interval in after[group].items():
            assert interval["estimate"] == before[group][name]["estimate"]
            assert interval["low"] is None and interval["high"] is None
    assert "[none, none]" in judge(study, "--show").out


def new(n: int) -> pd.DataFrame:
    """n rows of a table, with prompts that no other has."""
    rows = table(n=n, seed=9)
    return rows.assign(prompt=rows["prompt"] + " of the new table")


@pytest.mark.parametrize("below", ["", "Model_Perf", "Model_Perf/aug_10k"])
def test_other_table(study: Path, tmp_path: Path, below: str) -> None:
    rows = new(40)
    write_published(tmp_path / "other", rows)
    before = content(study, ".")
    ran = judge(study, "--performance", str(tmp_path / "other" / below), "--out", "new/result.json")
    assert ran.status == 0, ran.err
    assert ran.out.startswith("evaluate: on 40 prompts the router's quality is ")
    found = result(study, "new/result.json")
    assert found["prompts"] == 40 and "all_prompts" not in found
    check_strategies(found["strategies"], rows, Router.load(study / "data/router"))
    after = content(study, ".")
    assert set(after) - set(before) == {"new/result.json"}
    assert all(after[name] == before[name] for name in before)
    shown = judge(study, "--show", "new/result.json").out
    assert "40 test prompts" in shown


def test_other_table_by_key(study: Path, tmp_path: Path) -> None:
    rows = new(40)
    for name, shuffled in (("straight", False), ("shuffled", True)):
        write_published(tmp_path / name, rows)
        if shuffled:
            for place, file in enumerate(sorted((tmp_path / name).rglob("*_score_with_time_*.csv"))):
                if "nima_score_with_time_SDXL" not in file.name:
                    mixed = pd.read_csv(file, dtype=str).sample(frac=1, random_state=place)
                    mixed.to_csv(file, index=False)
        out = judge(study, "--performance", str(tmp_path / name), "--out", f"{name}.json")
        assert out.status == 0, out.err
    assert result(study, "straight.json") == result(study, "shuffled.json")


def test_another_folder_can_be_named(study: Path, tmp_path: Path) -> None:
    (study / "data/router").rename(tmp_path / "kept")
    assert "no such router folder" in run(study, "evaluate").err
    write_published(tmp_path / "other", new(40))
    arguments = ("--performance", str(tmp_path / "other"), "--out", "new.json")
    assert "no such router folder" in judge(study, *arguments).err
    assert judge(study, *arguments, "--router", str(tmp_path / "kept")).status == 0


class TestSeenPrompts:
    def test_left_out_and_said(self, study: Path, tmp_path: Path) -> None:
        rows = table()
        known = (rows["prompt_id"].map(sides(study)) != "test").to_numpy()
        write_published(tmp_path / "other", rows)
        ran = judge(study, "--performance", str(tmp_path / "other"), "--out", "new.json")
        assert ran.status == 0, ran.err
        assert "(135 of 150 prompts left out: the router was trained on them)" in ran.out
        assert "(only 15 prompts, too few to tell much by)" in ran.out
        found = result(study, "new.json")
        assert found["prompts"] == 15 and found["seen"].startswith("135 of 150")
        check_strategies(found["strategies"], rows[~known], Router.load(study / "data/router"))
        assert "(135 of 150 prompts left out" in judge(study, "--show", "new.json").out

    def test_seen_despite_case(self, study: Path, tmp_path: Path) -> None:
        rows = table()
        write_published(tmp_path / "other", rows.assign(prompt=rows["prompt"].str.upper()))
        ran = judge(study, "--performance", str(tmp_path / "other"), "--out", "new.json")
        assert "135 of 150 prompts left out" in ran.out

    def test_all_judges_them(self, study: Path, tmp_path: Path) -> None:
        write_published(tmp_path / "other", table())
        ran = judge(study, "--performance", str(tmp_path / "other"), "--out", "new.json", "--all")
        assert ran.status == 0 and "(the router was trained on 135 of these 150 prompts)" in ran.out
        assert result(study, "new.json")["prompts"] == 150

    def test_nothing_else(self, study: Path, tmp_path: Path) -> None:
        rows = table()
        known = (rows["prompt_id"].map(sides(study)) != "test").to_numpy()
        write_published(tmp_path / "other", rows[known])
        ran = judge(study, "--performance", str(tmp_path / "other"), "--out", "new.json")
        assert ran.status == 1 and "all 135 prompts are among those that the router was trained on" in ran.err


def test_few_prompts_are_said(finished: tuple[Path, Any]) -> None:
    folder, printed = finished
    assert "(only 15 prompts, too few to tell much by)" in printed["evaluate"]
    found = result(folder)
    assert found["few"] == "only 15 prompts, too few to tell much by"
    for part in found["sets"].values():
        if part["prompts"] == 1:
            assert part["router"]["quality"]["low"] is None


class TestSummary:
    def test_a_dozen_figures(self, finished: tuple[Path, Any]) -> None:
        summary, found = result(finished[0], "metrics/summary.json"), result(finished[0])
        assert len(summary) == 14 and not any(isinstance(value, dict | list) for value in summary.values())
        rows, single = found["strategies"], f"single_{found['best_single']}"
        for name, expected in {
            "test_prompts": 15,
            "oracle_gap_closed": found["router"]["oracle_gap_closed"]["estimate"],
            "cost_change_percent": 100 * (rows["router"]["cost"] / rows[single]["cost"] - 1),
            "dollars_per_1000": 1000 * rows["router"]["cost"],
            "best_single_dollars_per_1000": 1000 * rows[single]["cost"],
            "gain_on_best_per_set": rows["router"]["quality"] - rows["best_per_set"]["quality"],
            "gain_on_best_per_set_at_its_cost": rows["cost_aware_per_set"]["quality"]
            - rows["best_per_set"]["quality"],
        }.items():
            assert summary[name] == (expected and pytest.approx(expected, rel=6e-4)), name
        assert summary["calibrated"] in (0, 1) and summary["study"] == found["study"]["settings"]

    def test_four_digits(self, finished: tuple[Path, Any]) -> None:
        for value in result(finished[0], "metrics/summary.json").values():
            assert not isinstance(value, float) or value == float(f"{value:.4g}")


def test_best_per_set(finished: tuple[Path, Any]) -> None:
    folder, rows = finished[0], table()
    side, found = rows["prompt_id"].map(sides(folder)).to_numpy(), result(finished[0])
    train, test = rows[side == "train"], rows[side == "test"]
    best = {name: matrix(part, "nima").mean(0).argmax() for name, part in train.groupby("dataset_id")}
    choice = np.array([best[name] for name in test["dataset_id"]])
    row = found["strategies"]["best_per_set"]
    assert row["quality"] == pytest.approx(
        matrix(test, "nima")[np.arange(len(test)), choice].mean(), rel=1e-7
    )
    assert row["cost"] == pytest.approx(EQUATION_4[choice].mean(), rel=1e-7)
    for name, one in found["against_best_per_set"].items():
        own = found["strategies"][name]
        assert one["quality_gain"]["estimate"] == pytest.approx(own["quality"] - row["quality"], abs=1e-7)
        assert one["cost_change"]["estimate"] == pytest.approx(own["cost"] / row["cost"] - 1, abs=1e-7)
    for name, part in found["sets"].items():
        assert part["strategies"]["best_per_set"]["share"][MODELS[best[name]]] == 1


class TestShownStudy:
    def test_same(self, study: Path) -> None:
        assert "study" not in judge(study, "--show").out

    def test_another(self, study: Path) -> None:
        before = result(study)
        values = {**before["study"], "prompts": "somebody_elses", "score": "clip.score"}
        (study / "metrics/evaluate.json").write_text(json.dumps({**before, "study": values}))
        line = judge(study, "--show").out.splitlines()[1]
        assert "metrics/evaluate.json is of another study: prompts somebody_elses; quality clip.score" in line
        assert f"the study here: prompts {before['study']['prompts']}; quality nima.mean" in line

    def test_unknown(self, study: Path) -> None:
        before = result(study)
        del before["study"]
        (study / "metrics/evaluate.json").write_text(json.dumps(before))
        assert "is of another study: prompts unknown" in judge(study, "--show").out

    def test_scores_called_as_today(self, study: Path) -> None:
        """A label that the class has given up since is not shown."""
        found = result(study)
        (study / "metrics/evaluate.json").write_text(
            json.dumps({**found, "scores": {"clip.score": "CLIP of old"}})
        )
        out = judge(study, "--show", "--scores").out
        assert "CLIP score" in out and "CLIP of old" not in out

    def test_stale_settings(self, study: Path) -> None:
        params(study, "seed=7")
        assert "stale: its settings have changed since" in judge(study, "--show").out

    def test_stale_prompts(self, study: Path) -> None:
        split = pd.read_parquet(study / "data/split.parquet")
        from promptroute.core.rows import SplitRow
        from promptroute.io.tables import write_table

        flipped = split.assign(split=split["split"].replace({"test": "train", "train": "test"}))
        write_table(study / "data/split.parquet", flipped, SplitRow)
        assert "stale: its test prompts have changed since" in judge(study, "--show").out
        (study / "data/split.parquet").unlink()
        assert "stale" not in judge(study, "--show").out


@pytest.mark.parametrize("scores", [False, True])
def test_show_prints_the_cost_table(study: Path, scores: bool) -> None:
    lines = judge(study, "--show", *(["--scores"] if scores else [])).out.splitlines()
    found = result(study)
    best = found["labels"][found["best_single"]]
    assert lines[0].startswith("quality = nima.mean; 15 test prompts; ") and lines[0].endswith(f", {best}")
    assert lines[1] == "(only 15 prompts, too few to tell much by)"
    assert lines[3].split("  ", 1)[0] == "strategy" and ("CLIP score" in lines[3]) == scores
    rows = {line.split()[0]: line.split()[1:] for line in lines[4:18]}
    single, router = found["strategies"]["single_" + found["best_single"]], found["strategies"]["router"]
    assert rows[best] == [
        f"{single['quality']:.4f}", "+0.0000", f"{1000 * single['cost']:.4f}", "+0.0%",
        *([f"{single['clip.score']:.4f}"] if scores else []),
    ]  # fmt: skip
    assert rows["router"][1] == f"{router['quality'] - single['quality']:+.4f}"
    assert rows["router"][3] == f"{router['cost'] / single['cost'] - 1:+.1%}"
    assert len({len(line) for line in lines[3:18]}) == 1  # columns stand under each other
    assert {"oracle", "random", "best_predicted", "under_budget", "router"} <= set(rows)


@pytest.mark.parametrize(
    "arguments", [["--performance", "cems"], ["--out", "x.json"], ["--colour"], ["cems"], ["--scores"]]
)
def test_usage_errors(study: Path, arguments: list[str]) -> None:
    ran = judge(study, *arguments)
    assert ran.status == 2 and "Usage: " in ran.err
    assert not (study / "x.json").exists()


# Asking the router


def test_route_output(study: Path) -> None:
    ran = run(study, "route", "a portrait at night", "a logo of glass")
    decisions = Router.load(study / "data/router").route(["a portrait at night", "a logo of glass"])
    labels = {"sdxl-turbo": "SDXL-Turbo", "sd-turbo": "SD-Turbo", "amused": "aMUSEd", "taesd-sd21": "TAESD"}
    lines = ran.out.splitlines()
    assert len(lines) == 6 and ran.err == ""
    for decision, block in zip(decisions, (lines[:3], lines[3:]), strict=True):
        assert block[0] == repr(decision.prompt)
        assert block[1] == f"  → {labels[decision.model]}, ${decision.cost:.3g} an image: {decision.reason}"
        best = max(decision.quality, key=lambda name: decision.quality[name])
        assert block[2].startswith(f"    predicted quality: {labels[best]} {decision.quality[best]:.3f}")


def test_route_prints_json_for_programs(study: Path) -> None:
    lines = run(study, "route", "--json", "a robot", "ein Schloß").out.splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["prompt"] for one in found] == ["a robot", "ein Schloß"]
    for one in found:
        assert set(one) == {"prompt", "model", "cost", "quality", "reason"}
        assert one["model"] in MODELS and set(one["quality"]) == set(MODELS)
    assert "Schloß" in lines[1]


PROMPTS = "\ufeffa robot\r\n\r\n  \na logo\u2028on two lines\na \x0bportrait, "
LISTED = ["a robot", "a logo\u2028on two lines", "a \x0bportrait, "]


def test_route_reads_lines(study: Path) -> None:
    """Byte order mark, Windows line ends and empty lines are dropped; nothing else ends a prompt."""
    (study / "prompts.txt").write_bytes(PROMPTS.encode())
    from_file = run(study, "route", "--json", "--file", "prompts.txt")
    from_stdin = run(study, "route", "--json", stdin=PROMPTS.encode())
    assert [json.loads(line)["prompt"] for line in from_file.out.split("\n")[:-1]] == LISTED
    assert from_stdin.out == from_file.out


def test_control_characters(study: Path) -> None:
    out = run(study, "route", "red\x1b[31m \x07 robot", "\u202eback").out
    assert "\x1b" not in out and "\x07" not in out and "\u202e" not in out


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        ([], b"", "standard input: no prompt; give at least one line of text"),
        ([], b" \n\n", "standard input: no prompt;"),
        ([], b"a\nb\xff\n", "standard input: line 2 is not UTF-8 text; convert the file to UTF-8"),
        (
            ["--file", "absent.txt"],
            b"",
            "absent.txt: can't be read (No such file or directory); check the path",
        ),
        (["--file", "data"], b"", "data: can't be read (Is a directory)"),
        (["a", "--file", "x"], b"", "prompts are given as arguments and with --file; give one of the two"),
        (["a", " "], b"", "prompt 2 of 2 (' ') is empty; give a text to generate"),
        (["a\udcff"], b"", "prompt 1 of 1 ('a\\udcff') is not valid Unicode text; take out what is invalid"),
        (["--router", "absent", "a"], b"", "absent: no such router folder; train a router"),
    ],
)
def test_route_refuses_in_one_line(study: Path, arguments: list[str], stdin: bytes, message: str) -> None:
    ran = run(study, "route", *arguments, stdin=stdin)
    assert ran.status == 1 and ran.out == ""
    assert ran.err.startswith(f"error: {message}") and ran.err.count("\n") == 1


# A router that promises


def test_attainable_guarantee(study: Path) -> None:
    params(study, "policy=guaranteed", "policy.epsilon=0.2", "policy.alpha=0.25")
    ran = run(study, "calibrate")
    assert ran.status == 0, ran.err
    one, rows = Router.load(study / "data/router"), table()
    split = rows["prompt_id"].map(sides(study))
    train, test = (matrix(rows[(split == side).to_numpy()], "nima") for side in ("train", "test"))
    best = train.mean(0).argmax()
    assert isinstance(one.policy, Guaranteed) and one.policy.guarantee is not None
    assert one.policy.guarantee.single == best
    assert ran.out.startswith("calibrate: guaranteed, against ")
    assert one.policy.guarantee.given == ("probability 0.75: given, calibrated on 15 prompts" in ran.out)
    assert run(study, "evaluate").status == 0
    found = result(study)
    decisions = one.route(rows["prompt"][(split == "test").to_numpy()].to_list())
    chosen = np.array([MODELS.index(decision.model) for decision in decisions])
    kept = test[np.arange(len(test)), chosen] >= test[:, best] - 0.2
    promised = found["guarantee"]
    assert promised["coverage"]["estimate"] == pytest.approx(kept.mean())
    assert promised["coverage"]["low"] <= kept.mean() <= promised["coverage"]["high"]
    assert promised["against"] == MODELS[best] and promised["promised"] == 0.75
    assert promised["to_a_cheaper_model"] == pytest.approx((EQUATION_4[chosen] < EQUATION_4[best]).mean())
    assert all("guarantee" in part for part in found["sets"].values())


def test_unattainable_guarantee(study: Path) -> None:
    params(study, "policy=guaranteed", "policy.epsilon=0.2", "policy.alpha=0.01")
    ran = run(study, "calibrate")
    why = "not given by any cheaper model (15 calibration prompts are too few, at least 99 are needed)"
    assert ran.status == 0 and why in ran.out
    assert why in (study / "data/router/README.md").read_text()
    assert run(study, "evaluate").status == 0
    found = result(study)
    assert found["guarantee"]["given"] is False and found["guarantee"]["coverage"]["estimate"] == 1.0
    against = found["guarantee"]["against"]
    assert found["strategies"]["router"]["share"][against] == 1.0
    assert why in run(study, "route", "a robot").out


def test_widest_margin(study: Path) -> None:
    params(study, "policy=with_margin", "policy.margin=100")
    assert run(study, "calibrate").status == 0 and run(study, "evaluate").status == 0
    found = result(study)
    assert max(found["strategies"]["router"]["share"].values()) == 1.0
    assert "guarantee" not in found


def test_parts_of_another_study(study: Path) -> None:
    """A predictor of another class, a router of other scores."""
    params(study, "predictor=mean")
    ran = run(study, "calibrate")
    assert ran.status == 1 and "data/predictor: is a promptroute.predictors.ridge.Ridge, but" in ran.err
    params(study)
    path = study / "data/performance.parquet"
    rows = read_table(path, Performance, ("prompt_id", "model", "score"))
    write_table(path, rows.assign(mean=rows["mean"] + 1), Performance, ("prompt_id", "model", "score"))
    ran = run(study, "evaluate")
    assert (
        ran.status == 1
        and "router: was made of another data/performance.parquet than the one here" in ran.err
    )
