"""The router benchmarks on a small study, their figures computed a second way."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import __main__ as listing
from benchmarks import (
    auc,
    bootstrap,
    budget,
    consistency,
    features,
    guarantee,
    routers,
    scores,
    search,
    shards,
    shift,
    study,
)
from promptroute.core.errors import UserError
from promptroute.routing import choices
from promptroute.routing.base import Training
from promptroute.routing.policies import CostAware
from promptroute.routing.search_policy import Search
from tests.evaluation import plain

KNN = ["--predictors", "mean,knn", "--scores", "nima", "--seeds", "0,1", "--against", "knn"]


def test_search_rows(small: Path) -> None:
    printed = search.main(["--predictor", "knn", "--scores", "nima", "--seeds", "0"])
    rows = pd.read_csv(search.CSV).set_index("policy")
    assert list(rows.index) == ["choose before", "search", "at most 2 images"]
    side = study.sides(0)
    quality, _ = study.quality_of("nima", side["train"])
    true, cost = quality[side["test"]], study.read_table().cost
    kept = study.predictions(study.Cell("knn", "nima", 0))
    held, look = quality[kept["held_at"]], rows["look"].iloc[0]
    assert look == pytest.approx(0.005 * 0.0000166667)
    policy = Search(target="cost").calibrate(kept["held"], held, cost, Training(look=look))
    assert isinstance(policy, Search)
    spent = gained = 0.0
    for guess, scores_of in zip(kept["test"], true, strict=True):  # one prompt at a time, as a live request
        seen = np.full((1, 4), np.nan)
        while (model := policy.view(guess[None], seen, cost).model[0]) >= 0:
            seen[0, model] = scores_of[model]
            spent += cost[model] + look
        gained += np.nanmax(seen)
    single = true.mean(axis=0).argmax()
    assert rows.loc["search", "cost_cost_change"] == pytest.approx(
        spent / len(true) / cost[single] - 1, rel=1e-4
    )
    assert rows.loc["search", "cost_gain"] == pytest.approx(
        gained / len(true) - true[:, single].mean(), rel=1e-4, abs=1e-6
    )
    budgets = rows.loc["search", [f"budget_{percent}_cost_change" for percent in search.BUDGETS]]
    assert (budgets.to_numpy(float) <= np.array(search.BUDGETS) / 100 - 1 + 1e-6).all()
    again = search.main(["--table"])  # of six digits, so that a last one shown may differ
    assert len(again.splitlines()) == len(printed.splitlines()) and "nima: a draft, then" in printed


def test_router_rows(small: Path) -> None:
    printed = routers.main(KNN)
    rows = pd.read_csv(routers.CSV).set_index(["predictor", "score", "seed"])
    assert list(rows.index) == [
        ("mean", "nima", 0),
        ("mean", "nima", 1),
        ("knn", "nima", 0),
        ("knn", "nima", 1),
    ]
    null = rows.loc[("mean", "nima", 0)]
    assert null["quality_target_cost_change"] <= 0 and null["cpu_seconds"] < 1
    side = study.sides(1)
    quality, _ = study.quality_of("nima", side["train"])
    true, cost = quality[side["test"]], study.read_table().cost
    kept = study.predictions(study.Cell("knn", "nima", 1))
    row = rows.loc[("knn", "nima", 1)]
    assert row["accuracy"] == pytest.approx((kept["test"].argmax(1) == true.argmax(1)).mean(), rel=1e-5)
    assert row["iso_quality_cost"] == pytest.approx(
        plain.iso_quality_cost(kept["test"], true, cost), rel=1e-5, nan_ok=True
    )
    assert row["oracle_gap_closed"] == pytest.approx(
        plain.oracle_gap_closed(kept["test"], true, cost), rel=1e-5
    )
    policy = CostAware().calibrate(kept["validation"], quality[side["validation"]], cost)
    choice = policy.choose(kept["test"], cost)
    assert row["quality_target_quality"] == pytest.approx(true[np.arange(len(true)), choice].mean(), rel=1e-5)
    assert row["quality_target_cost"] == pytest.approx(cost[choice].mean(), rel=1e-5)
    assert "| knn |" in printed and "nima: knn less mean" in printed
    assert routers.main(["--table"]) == printed


def test_rerun_fits_only_new(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routers.main(KNN)
    fitted = []
    fit = study.fit
    monkeypatch.setattr(study, "fit", lambda cell: (fitted.append(cell), fit(cell)))
    routers.main([*KNN[:-3], "1,2", *KNN[-2:]])
    assert fitted == [study.Cell("mean", "nima", 2), study.Cell("knn", "nima", 2)]
    assert len(pd.read_csv(routers.CSV)) == 6  # the rows of seed 0 stay
    monkeypatch.setattr(study, "fit", lambda cell: pytest.fail("--kept fitted something"))
    routers.main([*KNN, "--kept"])


def test_missing_seeds_are_named(small: Path) -> None:
    routers.main(KNN)
    rows = pd.read_csv(routers.CSV).query("predictor != 'mean' or seed == 0")
    shown = routers.table(rows)
    assert "| mean (1 of 2 seeds) |" in shown and "| knn |" in shown


def test_paired_areas(small: Path) -> None:
    """A predictor is level with its own copy, and ahead of the null one by what `frontier_area` says."""
    cells = [study.Cell(name, "nima", seed) for name in ("knn", "mean", "ridge") for seed in (0, 1)]
    for cell in cells:
        study.predictions(cell)
    for seed in (0, 1):
        copy = study.kept_at(study.Cell("knn", "nima", seed)).read_bytes()
        study.kept_at(study.Cell("ridge", "nima", seed)).write_bytes(copy)
    leads = routers.paired(cells, "knn").set_index("less")
    assert leads.loc["ridge", ["area_lead", "low", "high"]].tolist() == [0, 0, 0]
    expected = []
    for seed in (0, 1):
        side, cost = study.sides(seed), study.read_table().cost
        true = study.quality_of("nima", side["train"])[0][side["test"]]
        knn, mean = (
            plain.frontier_area(study.predictions(study.Cell(name, "nima", seed))["test"], true, cost)
            for name in ("knn", "mean")
        )
        expected.append(knn - mean)
    row = leads.loc["mean"]
    assert row["area_lead"] == pytest.approx(np.mean(expected), rel=1e-6)
    assert row["seeds_ahead"] == 2 and row["low"] <= row["high"]


def test_shift_and_fallback(small: Path, vectors: None) -> None:
    printed = shift.main(["--predictor", "knn", "--scores", "nima", "--seeds", "0,1"])
    rows = pd.read_csv(shift.CSV).set_index(["left_out", "strategy"])
    assert set(rows.index.get_level_values(0)) == {"nothing", "DIFF", "DRAW", "PP"}
    familiar = rows.loc["nothing"]
    assert "without it" not in familiar.index
    assert familiar.loc["fallback 5%", "sent_away"] < familiar.loc["fallback 50%", "sent_away"] < 0.9
    half = familiar.loc["fallback 50%"]
    chance = familiar.loc["with it", "gain"] * (1 - half["sent_away"])
    assert half["gain_by_chance"] == pytest.approx(chance, rel=1e-4)
    for left_out in ("DIFF", "DRAW", "PP"):
        alone = rows.loc[(left_out, "best single")]
        assert alone["gain"] == 0 and alone["cost_change"] == pytest.approx(0)
        # Each set has a direction of its own here, so one that was left out is far from the others.
        assert rows.loc[(left_out, "fallback 5%"), "sent_away"] == 1
        assert rows.loc[(left_out, "fallback 5%"), "gain"] == 0
        assert rows.loc[(left_out, "without it"), "gain_over_router"] == 0
    assert shift.main(["--table"]) == printed


def test_halves_keep_texts_together() -> None:
    texts = ["a", "A ", "b", "c", "d", "b"]
    masks = guarantee.halves(texts, 50, 0)
    assert all(mask[0] == mask[1] and mask[2] == mask[5] for mask in masks)
    assert {int(mask[[0, 2, 3, 4]].sum()) for mask in masks} == {2}  # two of the four texts
    assert len({tuple(mask) for mask in masks}) == 6


def test_guarantee(small: Path) -> None:
    printed = guarantee.main(["--predictor", "knn", "--scores", "nima", "--seeds", "0,1", "--splits", "21"])
    rows = pd.read_csv(guarantee.CSV)
    assert set(rows["splits"]) == {21}
    few = rows[rows["calibration_prompts"] == 8].iloc[0]
    assert few["given"] == 0 and few["coverage"] == 1 and few["cost_change"] == pytest.approx(0)
    tight = rows[rows["alpha"] == 0.001]
    assert (tight["given"] == 0).all()  # 24 calibration prompts; it would take 999
    # On average over splits coverage is what was promised, up to what 24 and 24 prompts can tell.
    assert (rows["coverage"] >= 1 - rows["alpha"] - 0.1).all()
    assert guarantee.main(["--table"]) == printed


def test_budgets_are_kept(small: Path) -> None:
    printed = budget.main(["--predictor", "knn", "--scores", "nima", "--seeds", "0", "--orders", "3"])
    rows = pd.read_csv(budget.CSV)
    assert (rows["most_spent"][rows["way"] != "fixed λ"] <= 1 + 1e-6).all()
    assert (rows["short_of_bound"][rows["most_spent"] <= 1] >= -1e-9).all()
    batch = rows[rows["way"] == "batch"]
    # The gap is less than one upgrade, shared by all prompts.
    predicted = study.predictions(study.Cell("knn", "nima", 0))["test"]
    assert (batch["short_of_bound"] < np.ptp(predicted, axis=1).max() / len(predicted)).all()
    assert rows[rows["way"] == "online, random order"]["runs"].tolist() == [3] * len(budget.BUDGETS)
    assert budget.main(["--table"]) == printed


def test_single_weight_is_single_score(small: Path) -> None:
    printed = scores.main(["--predictor", "knn", "--seeds", "0"])
    rows = pd.read_csv(scores.CSV).set_index("policy")
    side = study.sides(0)
    test = study.read_table().study.take(side["test"])
    for score, name in (("nima", "weights 1 NIMA, 0 CLIP"), ("clip", "weights 0 NIMA, 1 CLIP")):
        predicted = study.predictions(study.Cell("knn", score, 0))["test"]
        choice = choices.best_predicted(predicted, study.read_table().cost)
        own = test.raw[scores.SCORES[score]][np.arange(len(choice)), choice].mean()
        assert rows.loc[name, score] == pytest.approx(own, rel=1e-5)
    pareto = [rows.loc[f"Pareto, slack {slack:g}", "cost"] for slack in scores.SLACKS]
    assert pareto == sorted(pareto, reverse=True)
    assert scores.main(["--table"]) == printed


def test_auc_of_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = auc.main(["--quick"])
    assert "96 × 96 pixels with 1,000 fixations" in printed and "the ROC curve" in printed
    monkeypatch.setattr(auc, "auc_judd", lambda *given: np.array([0.5]))
    with pytest.raises(AssertionError, match="expected"):
        auc.main(["--quick"])


def test_list_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    files = Path(listing.__file__).parent.glob("*.py")
    helpers = {
        "__init__",
        "__main__",
        "study",
        "machine",
        "architectures",
        "counting",
        "reporting",
        "rules",
        "cluster_work",
        "paper_speed",
    }
    assert set(listing.LIST) == {path.stem for path in files} - helpers
    printed = listing.main([])
    assert all(f"python -m benchmarks.{name}" in printed for name in listing.LIST)
    modules = {
        "guarantee": guarantee,
        "budget": budget,
        "scores": scores,
        "consistency": consistency,
        "bootstrap": bootstrap,
        "auc": auc,
        "features": features,
        "shards": shards,
    }
    assert set(modules) == set(listing.SHORT)
    for name, module in modules.items():
        monkeypatch.setattr(module, "main", lambda arguments, name=name: f"table of {name}")
    assert all(f"table of {name}" in listing.main(["short"]) for name in listing.SHORT)


def test_write_tables(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = scores.main(["--predictor", "mean", "--seeds", "0"])
    page = small / "README.md"
    page.write_text(
        "# Before\n\n<!-- benchmarks.scores -->\nold\n<!-- end -->\n\nAfter λ\n", encoding="utf-8"
    )
    other = small / "results" / "README.md"
    other.write_text("no table here\n")
    monkeypatch.setattr(listing, "PAGES", (page, other, small / "absent.md"))
    said = listing.main(["write"])
    assert "README.md: scores" in said and "results/README.md: no table" in said
    assert other.read_text() == "no table here\n"
    expected = f"# Before\n\n<!-- benchmarks.scores -->\n{shown}\n<!-- end -->\n\nAfter λ\n"
    assert page.read_text(encoding="utf-8") == expected
    listing.main(["write"])
    assert page.read_text(encoding="utf-8") == expected
    page.write_text("<!-- benchmarks.nonsense -->\n<!-- end -->\n")
    with pytest.raises(UserError, match=r"README\.md: 'nonsense' is an unknown table; known: routers"):
        listing.main(["write"])
