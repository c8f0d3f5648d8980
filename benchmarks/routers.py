"""Evaluate routers: every predictor of conf/predictor/ × score × split seed on the published study.

    python -m benchmarks.routers                          fit what is not cached yet, then the table
    python -m benchmarks.routers --predictors ridge,knn --scores nima --seeds 0,1
    python -m benchmarks.routers --table                  only print the table of benchmarks/results/routers.csv

A predictor is composed and built as the train stage does with `-S predictor=… -S score=… -S seed=…`, on one
thread. Its predictions are cached in cache/benchmarks/, keyed by settings, code and data, so a rerun fits
only what changed. Figures are computed each time, from the cached predictions.
"""

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import study
from benchmarks.reporting import (
    RESULTS,
    cells,
    markdown,
    names,
    numbers,
    options,
    resample_counts,
    spread,
    write_csv,
)
from promptroute.evaluation import bootstrap, metrics
from promptroute.routing import choices
from promptroute.routing.frontier import hull, visits
from promptroute.routing.policies import CostAware
from promptroute.routing.steps import tradeoff_steps
from promptroute.runtime.stage import run_stage

SCORES = ("nima", "clip", "mixed")
SEEDS = (0, 1, 2, 3, 4)
RESAMPLES = 1000
CSV = RESULTS / "routers.csv"
LEAD = ["score", "predictor", "less", "seeds", "area_lead", "low", "high", "seeds_ahead"]
PAIRED = RESULTS / "routers_paired.csv"


def clip_is_here() -> bool:
    """Tell whether the weights that `cems` fine-tunes are on this machine."""
    from huggingface_hub import try_to_load_from_cache

    encoder = study.settings("predictor=cems")["predictor"]["encoder"]
    return Path(encoder).is_dir() or isinstance(try_to_load_from_cache(encoder, "config.json"), str)


def per_set(score: str, seed: int) -> dict[str, float]:
    """Return mean quality and cost of the best model per prompt set, learnt on the training prompts."""
    side, sets, cost = study.sides(seed), study.read_table().study.sets, study.read_table().cost
    quality = study.quality_of(score, side["train"])[0]
    choice = metrics.best_per_set(quality[side["train"]], sets[side["train"]], sets[side["test"]])
    got = metrics.strategy(quality[side["test"]], cost, choice)
    return {"per_set_quality": got.quality, "per_set_cost": got.cost}


def figures(cell: study.Cell) -> dict[str, Any]:
    """Return a row of the table, from cached predictions."""
    predictor, score, seed = cell[:3]
    side, cost = study.sides(seed), study.read_table().cost
    quality, _ = study.quality_of(score, side["train"])
    kept = study.predictions(cell)
    true, held = quality[side["test"]], quality[kept["held_at"]]
    predicted, before = kept["test"], kept["held"]
    best = metrics.best_single(true)
    alone, alone_cost = float(true[:, best].mean()), float(cost[best])
    shown = metrics.choice_metrics(true, predicted, choices.best_predicted(predicted, cost))
    row: dict[str, Any] = {
        "predictor": predictor,
        "text": study.text_of(predictor),
        "score": score,
        "seed": seed,
        "prompts": len(true),
        "accuracy": shown.accuracy,
        "f1": shown.f1,
        "single_quality": alone,
        "single_cost": alone_cost,
        "oracle_quality": float(true.max(axis=1).mean()),
        **per_set(score, seed),
    }
    for target in ("quality", "cost"):
        policy = CostAware(target=target).calibrate(before, held, cost)
        got = metrics.strategy(true, cost, policy.choose(predicted, cost))
        row |= {
            f"{target}_target_reached": policy.calibration is not None and policy.calibration.reached,
            f"{target}_target_quality": got.quality,
            f"{target}_target_gain": got.quality - alone,
            f"{target}_target_cost": got.cost,
            f"{target}_target_cost_change": got.cost / alone_cost - 1,
            f"{target}_target_share": float(metrics.gap_closed(got.quality, alone, row["oracle_quality"])),
        }
    frontier = bootstrap.headline(predicted, true, cost, seed=0, most=None, resamples=0)
    row |= {name: interval.estimate for name, interval in frontier.items()}
    return row | {name: float(kept[name]) for name in ("seconds", "cpu_seconds")}


def areas(cell: study.Cell, counts: np.ndarray, points: int = 200) -> np.ndarray:
    """Return the area under a fit's test frontier in each resample; counts [resamples, all prompts of the study]."""
    side, cost = study.sides(cell.seed), study.read_table().cost
    true = study.quality_of(cell.score, side["train"])[0][side["test"]]
    steps = tradeoff_steps(study.predictions(cell)["test"], cost)
    taken = visits(steps)[1]
    taken = taken[np.unique(np.linspace(0, len(taken) - 1, points).round().astype(np.int64))]
    taken_at = np.stack([steps.choice(int(count)) for count in taken], axis=1)
    weights = counts[:, side["test"]]
    weights = weights / weights.sum(axis=1, keepdims=True)
    spent, gained = weights @ cost[taken_at], weights @ np.take_along_axis(true, taken_at, axis=1)
    return np.array([metrics.area_on(hull(c, q), cost) for c, q in zip(spent, gained, strict=True)])


def paired(cells: Sequence[study.Cell], against: str) -> pd.DataFrame:
    """Compare the area of `against` with that of every other predictor, on the same prompts: mean difference over
    the seeds that both have, and its 95 % percentile interval.

    A resample takes prompts of the whole study with replacement; a prompt that several seeds test counts
    equally in each, so their overlap is no new evidence. Fits stay as they are.
    """
    counts = resample_counts(len(study.read_table().study), RESAMPLES)
    known = set(cells)
    rows = []
    for score in dict.fromkeys(cell.score for cell in cells):
        own = {cell.seed: areas(cell, counts) for cell in cells if cell[:2] == (against, score)}
        for predictor in dict.fromkeys(cell.predictor for cell in cells):
            seeds = [seed for seed in own if study.Cell(predictor, score, seed) in known]
            if predictor == against or not seeds:
                continue
            lead = np.stack([own[seed] - areas(study.Cell(predictor, score, seed), counts) for seed in seeds])
            mean = lead.mean(axis=0)
            low, high = np.quantile(mean[1:], [0.025, 0.975])
            rows.append(
                {
                    "score": score,
                    "predictor": against,
                    "less": predictor,
                    "seeds": len(seeds),
                    "area_lead": mean[0],
                    "low": low,
                    "high": high,
                    "seeds_ahead": int((lead[:, 0] > 0).sum()),
                }
            )
    return pd.DataFrame(rows, columns=LEAD)


COLUMNS: Mapping[str, tuple[str, str, float]] = {
    "accuracy, %": ("accuracy", ".1f", 100),
    "quality": ("quality_target_quality", ".4f", 1),
    "against best single": ("quality_target_gain", "+.4f", 1),
    "$ per 1000": ("quality_target_cost", ".4f", 1000),
    "cost, %": ("quality_target_cost_change", "+.1f", 100),
    "iso-quality cost, %": ("iso_quality_cost", "+.1f", 100),
    "oracle gap closed, %": ("oracle_gap_closed", "+.1f", 100),
    "area": ("frontier_area", ".4f", 1),
    "train, s": ("cpu_seconds", ".1f", 1),
}


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: a part for each score, the best area first; mean ± standard deviation over seeds."""
    parts = []
    for score, part in rows.groupby("score", sort=False):
        order = part.groupby("predictor")["frontier_area"].mean().sort_values(ascending=False).index
        once = part.drop_duplicates("seed")
        lines = []
        for predictor in order:
            own = part[part["predictor"] == predictor]
            name = predictor if len(own) == len(once) else f"{predictor} ({len(own)} of {len(once)} seeds)"
            lines.append([name, *(spread(own[c], f, u) for c, f, u in COLUMNS.values())])
        parts.append(
            f"**{score}** ({once['prompts'].mean():.0f} test prompts, {len(once)} seeds; best single model "
            f"{once['single_quality'].mean():.4f} at ${1000 * once['single_cost'].mean():.4f} per 1000, best model per "
            f"prompt set {once['per_set_quality'].mean():.4f} at ${1000 * once['per_set_cost'].mean():.4f}, oracle "
            f"{once['oracle_quality'].mean():.4f})\n\n" + markdown(" | ".join([str(score), *COLUMNS]), lines)
        )
    return "\n\n".join(parts)


def paired_table(rows: pd.DataFrame) -> str:
    """Format the paired differences in Markdown."""
    line = "{score}: {predictor} less {less} | {area_lead:+.4f} | [{low:+.4f}, {high:+.4f}] | {seeds_ahead} of {seeds}"
    return markdown("area under the frontier | difference | 95 % interval | seeds ahead", cells(rows, line))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = options("routers", __doc__)
    parser.add_argument("--predictors", type=names, help="comma-separated (default: all available)")
    parser.add_argument("--scores", type=names, default=list(SCORES), help="(default: nima,clip,mixed)")
    parser.add_argument("--seeds", type=numbers, default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=1, help="fits at a time (default: 1)")
    parser.add_argument(
        "--against", help="compare this predictor's area with the others' (default: the study's)"
    )
    parser.add_argument("--kept", action="store_true", help="fit nothing: figures of cached fits")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> str:
    from tqdm import tqdm

    chosen = parse(arguments)
    if chosen.table:
        return f"{table(pd.read_csv(CSV))}\n\n{paired_table(pd.read_csv(PAIRED))}"
    predictors = chosen.predictors or study.options()
    if not chosen.predictors and "cems" in predictors and not clip_is_here():
        predictors.remove("cems")
        tqdm.write(
            "cems is left out: it fine-tunes CLIP's text encoder, whose weights are not on this machine"
        )
    wanted = [
        study.Cell(p, score, seed) for p in predictors for score in chosen.scores for seed in chosen.seeds
    ]
    missing = [cell for cell in wanted if not study.kept_at(cell).exists()] if not chosen.kept else []
    for option in dict.fromkeys(study.text_of(cell.predictor) for cell in missing):
        study.with_text(option)
    with tqdm(total=len(missing), desc="fit", unit="fit") as bar:
        if chosen.jobs > 1:
            with ProcessPoolExecutor(chosen.jobs, mp_context=get_context("spawn")) as pool:
                for done in as_completed(pool.submit(study.fit, cell) for cell in missing):
                    done.result()
                    bar.update()
        else:
            for cell in missing:
                bar.set_postfix_str(" ".join(map(str, cell)))
                study.fit(cell)
                bar.update()
    # The file holds every fit of today's code and settings, not only those asked for now.
    known = [*study.options(), *study.VARIANTS]
    everything = [study.Cell(p, score, seed) for p in known for score in SCORES for seed in SEEDS]
    cells = [cell for cell in dict.fromkeys([*everything, *wanted]) if study.kept_at(cell).exists()]
    rows = pd.DataFrame([figures(cell) for cell in cells])
    against = chosen.against or study.default_predictor()
    leads = paired(cells, against)
    write_csv(CSV, rows)
    write_csv(PAIRED, leads)
    return f"{table(rows)}\n\n{paired_table(leads)}"


if __name__ == "__main__":
    run_stage(main)
