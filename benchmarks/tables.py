"""Route on public tables of people's and judges' scores: many models, few prompts, equal prices.

    python -m benchmarks.tables --folder DIR              DIR holds NAME.prompts.csv and NAME.scores.csv
    python -m benchmarks.tables --folder DIR --tables evalmi50k --predictors ridge,kernel-shared --seeds 0,1,2
    python -m benchmarks.tables --table                   only print the table of benchmarks/results/tables.csv

Folds by text; everything is learnt on the other folds: the predictor, the best single model, the best pair of models,
the belief's covariance. Figures are shares of the way from the best single model to the oracle, with 95 % bootstrap
intervals over prompts; with several seeds, which deal the folds, a prompt counts by its mean over them.

*before*: the best predicted model. *two*: the images of the two best predicted models, the better one kept. *looked*:
a first image, then after a look at its score a second one (`policy=search` with two images). *set*: the best model of
the prompt's set, which a router isn't told. *pair*: the same two models for every prompt.
"""

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import study
from benchmarks.machine import single_threaded
from benchmarks.reporting import RESULTS, markdown, names, numbers, options, run
from promptroute.core.batch import PromptBatch
from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.encoders.base import TextEncoder, encode_all
from promptroute.evaluation import bootstrap, metrics
from promptroute.evaluation.bootstrap import Interval
from promptroute.io.cache import cache_path
from promptroute.io.files import atomic_path
from promptroute.io.tidy import TidyTable
from promptroute.predictors.base import Predictor
from promptroute.predictors.targets import text_folds
from promptroute.routing import belief, search
from promptroute.runtime.params import published_output
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "tables.csv"
WANTED = {"evalmi50k": ("perception", "correspondence"), "tiif": ("gpt4o", "qwenvl")}
PREDICTORS = ("mean", "ridge", "kernel", "kernel-shared")
FOLDS = 5
GAPS = ("before", "two", "looked", "set", "pair")
RESAMPLES = 2000
HELD = 8
"""One in so many of the prompts learnt from is a validation prompt, for predictors that want some."""


@cache
def read(folder: Path, name: str, score: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Read a table: its `Prompt` rows, and quality [n, m] of the models that lack no score."""
    files = {which: str(folder / f"{name}.{which}.csv") for which in ("prompts", "scores")}
    table = TidyTable(columns=[score], missing="drop_model", **files)
    prompts, _ = table.prompt_rows()
    (key, section), *_ = table.scorers().items()
    output = published_output(section, key)
    columns = []
    for facts in table.models().values():
        rows = table.read(key, output, facts["stem"]).rows
        columns.append(rows.set_index("prompt_id")["value"].reindex(prompts["prompt_id"]).to_numpy())
    return prompts, np.column_stack(columns)


@cache
def batch(folder: Path, name: str, score: str, text: str) -> PromptBatch:
    """Encode a table's prompts, cached."""
    texts = list(read(folder, name, score)[0]["prompt"])
    vectors = {}
    for encoder, section in study.settings(f"text_encoder={text}")["text_encoder"].items():
        kept = cache_path("benchmarks", section, texts).with_suffix(".npy")
        if not kept.exists():
            rows = encode_all(build(section, f"text_encoder.{encoder}", TextEncoder, device="cpu"), texts)
            with atomic_path(kept) as temporary, open(temporary, "wb") as file:
                np.save(file, rows)
        vectors[encoder] = np.load(kept)
    return PromptBatch(texts, vectors)


def predicted(
    section: Any, prompts: PromptBatch, quality: np.ndarray, learn: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit on the positions `learn`: predictions of `test`; and out-of-fold ones, with their positions."""
    known = [section, list(prompts.texts), learn.tolist(), study.code_of(section)]
    digest = hashlib.sha256(quality.tobytes()).hexdigest()
    kept = cache_path("benchmarks", *known, digest).with_suffix(".npz")
    if not kept.exists():
        train, held = learn[np.arange(len(learn)) % HELD > 0], learn[::HELD]
        model = build(section, "predictor", Predictor)
        with single_threaded():
            model.fit(prompts.take(train), quality[train], (prompts.take(held), quality[held]))
            own, at = model.out_of_fold, np.concatenate([train, held])
            if own is None:
                own, at = model.predict(prompts.take(held)), held
            found = model.predict(prompts.take(test))
        with atomic_path(kept) as temporary, open(temporary, "wb") as file:
            np.savez(file, found=found, own=own, at=at)
    with np.load(kept) as arrays:
        return arrays["found"], arrays["own"], arrays["at"]


def pair_of(quality: np.ndarray) -> np.ndarray:
    """Return the two models [2] whose better image is best on average."""
    first, second = np.triu_indices(quality.shape[1], 1)
    best = int(np.maximum(quality[:, first], quality[:, second]).mean(axis=0).argmax())
    return np.array([first[best], second[best]])


def kept_of(quality: np.ndarray, models: np.ndarray) -> np.ndarray:
    """Return the quality [n] of the best of each prompt's `models` [n, k]."""
    return np.asarray(np.take_along_axis(quality, models, axis=1).max(axis=1))


def fold(
    section: Any,
    prompts: PromptBatch,
    sets: np.ndarray,
    quality: np.ndarray,
    learn: np.ndarray,
    test: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return what each way of choosing gets on the test prompts, [n] each; `hit`: whether the choice is a best model."""
    found, own, at = predicted(section, prompts, quality, learn, test)
    known, true = quality[learn], quality[test]
    order = np.argsort(-found, axis=1, kind="stable")
    price = np.full(true.shape[1], 0.01)
    think = belief.fit(own, quality[at])
    asked = search.run(think, found, true, price, tradeoff=0.0, max_images=2)
    single = np.full((len(test), 1), metrics.best_single(known))
    per_set = metrics.best_per_set(known, sets[learn], sets[test])
    before = kept_of(true, order[:, :1])
    return {
        "single": kept_of(true, single),
        "oracle": true.max(axis=1),
        "hit": (before == true.max(axis=1)).astype(np.float64),
        "before": before,
        "two": kept_of(true, order[:, :2]),
        "looked": asked.quality,
        "set": kept_of(true, per_set[:, None]),
        "pair": kept_of(true, np.tile(pair_of(known), (len(test), 1))),
    }


def judge(folder: Path, name: str, score: str, predictor: str, seeds: Sequence[int]) -> dict[str, Interval]:
    """Return the figures of a predictor on a table, with intervals over its prompts."""
    rows, quality = read(folder, name, score)
    prompts = batch(folder, name, score, study.text_of(predictor))
    section, sets = study.settings(*study.overrides_of(predictor))["predictor"], rows["set"].to_numpy()
    total: dict[str, np.ndarray] = {}
    for seed in seeds:
        side = text_folds(prompts.texts, FOLDS, seed)
        for held in range(FOLDS):
            learn, test = np.flatnonzero(side != held), np.flatnonzero(side == held)
            own = study.with_seed(section, seed)
            for what, values in fold(own, prompts, sets, quality, learn, test).items():
                total.setdefault(what, np.zeros(len(rows)))[test] += values / len(seeds)
    columns = list(total)

    def statistic(means: np.ndarray) -> dict[str, np.ndarray]:
        at = dict(zip(columns, means.T, strict=True))
        gaps = {one: metrics.gap_closed(at[one], at["single"], at["oracle"]) for one in GAPS}
        return {"accuracy": at["hit"], "single": at["single"], "oracle": at["oracle"], **gaps}

    return bootstrap.intervals(np.column_stack(list(total.values())), statistic, seed=0, resamples=RESAMPLES)


def measure(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure what the command line asks for: a row a table, score, predictor and figure."""
    from tqdm import tqdm

    if chosen.folder is None:
        raise UserError("name the tables' folder with --folder, or print the last figures with --table")
    cells = [
        (name, score, one) for name in chosen.tables for score in WANTED[name] for one in chosen.predictors
    ]
    for name, score, predictor in tqdm(cells, desc="judge", unit="predictor"):
        rows, quality = read(chosen.folder, name, score)
        about = {"table": name, "score": score, "predictor": predictor, "prompts": len(rows)}
        for figure, value in judge(chosen.folder, name, score, predictor, chosen.seeds).items():
            ends = {"estimate": value.estimate, "low": value.low, "high": value.high}
            yield {**about, "models": quality.shape[1], "seeds": len(chosen.seeds), "figure": figure, **ends}


def table(rows: pd.DataFrame) -> str:
    """Format the tables in Markdown: a part for each table and score, a row a predictor, shares in %."""
    parts = []
    for (name, score), part in rows.groupby(["table", "score"], sort=False):
        cells = part.set_index(["predictor", "figure"])
        one = part.iloc[0]

        def share(predictor: str, figure: str, cells: pd.DataFrame = cells) -> str:
            at = cells.loc[(predictor, figure)]
            return f"{100 * at['estimate']:.1f} [{100 * at['low']:.1f}, {100 * at['high']:.1f}]"

        def mean(figure: str, cells: pd.DataFrame = cells, first: str = str(one["predictor"])) -> str:
            return f"{cells.loc[(first, figure), 'estimate']:.3f}"

        shown = ("accuracy", "before", "two", "looked")
        lines = [[str(own), *(share(str(own), what) for what in shown)] for own in part["predictor"].unique()]
        first = str(one["predictor"])
        parts.append(
            f"**{name}, {score}** ({one['prompts']} prompts, {one['models']} models, {FOLDS} folds, {one['seeds']} seed(s); "
            f"best single model {mean('single')}, oracle {mean('oracle')}). Best model per prompt set: "
            f"{share(first, 'set')} %; the two best models for every prompt: {share(first, 'pair')} %\n\n"
            + markdown(
                "predictor | accuracy, % | before, % of the gap | two images, % | second after a look, %",
                lines,
            )
        )
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("tables", __doc__)
    parser.add_argument("--folder", type=Path, help="holds NAME.prompts.csv and NAME.scores.csv")
    parser.add_argument("--tables", type=names, default=list(WANTED), help="(default: evalmi50k,tiif)")
    parser.add_argument(
        "--predictors", type=names, default=list(PREDICTORS), help="options of conf/predictor/"
    )
    parser.add_argument("--seeds", type=numbers, default=[0], help="of the folds (default: 0)")
    return run(parser, arguments, CSV, measure, table)


if __name__ == "__main__":
    run_stage(main)
