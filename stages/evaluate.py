"""Evaluate the trained router: cost against quality on prompts that nothing was fitted on.

    python -m stages.evaluate                                 the study's test split → metrics/evaluate.json
    python -m stages.evaluate --performance DIR --out FILE    another table of the published layout → FILE
    python -m stages.evaluate --show [FILE]                   print the cost table of such a file

Nothing is refitted: predictor, scaling and knobs are those of the router folder.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from promptroute.core.errors import UserError
from promptroute.core.outputs import full_name
from promptroute.core.performance import performance
from promptroute.core.study import StudyData
from promptroute.evaluation import metrics
from promptroute.evaluation.evaluation import evaluate, frontier_points, strategy_rows
from promptroute.io.files import atomic_path, read_json, write_json
from promptroute.io.published import check_same_prompts
from promptroute.io.study import join, load_study
from promptroute.router.router import Router
from promptroute.routing import policies
from promptroute.routing.guarantees import coverage
from promptroute.runtime.params import build, load_params, published_output, study_outputs
from promptroute.runtime.stage import run_stage

STUDY_RESULT = Path("metrics/evaluate.json")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--performance", type=Path, metavar="DIR", help="folder of a published performance table"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where its result goes (JSON)")
    parser.add_argument(
        "--router", type=Path, default=Path("data/router"), help="router folder (default: %(default)s)"
    )
    parser.add_argument(
        "--show", type=Path, nargs="?", const=STUDY_RESULT, metavar="FILE", help="only print a result"
    )
    options = parser.parse_args(arguments)
    if (options.performance is None) != (options.out is None):
        parser.error("--performance and --out go together")
    return options


def read_published(folder: Path, published: dict[str, Any], router: Router) -> StudyData:
    """Read another performance table of the published layout, for a trained router.

    Args:
        folder: holds the files (see `PublishedTable.at`).
        published: the parameters' section: file names of the models, and the scorers.
        router: whose models and encoders are wanted.

    Raises:
        UserError: the router has a model that the section doesn't name, or a file is missing or bad.
    """
    lost = [name for name in router.names if name not in published["models"]]
    if lost:
        raise UserError(
            f"params.yaml: published.models lacks {lost}, which the router chooses from; use published=cems"
        )
    table = build(published["table"], "published.table").at(folder)
    prompts, rows = None, []
    outputs = {
        scorer: published_output(section, f"params.yaml: published.scorers.{scorer}")
        for scorer, section in published["scorers"].items()
    }
    for scorer, output in outputs.items():
        for model in router.names:
            read = table.read(scorer, output, published["models"][model]["stem"])
            prompts = read.prompts if prompts is None else prompts
            check_same_prompts(read, prompts, whole=True)
            rows.append(performance(read.scores, model, scorer))
    if prompts is None:
        raise UserError("params.yaml: published.scorers is empty; use published=cems")
    scores = [full_name(scorer, output.name) for scorer, output in outputs.items()]
    study = join(prompts, pd.concat(rows), {}, router.names, scores)
    return replace(study, batch=router.batch(study.batch.texts))


def decide(router: Router, study: StudyData) -> tuple[np.ndarray, np.ndarray]:
    """What a router predicts for a study's n prompts, [n, m], and which column it chooses for each, [n]."""
    predicted = router.predict(study.batch)
    return predicted, router.choose(predicted, unlike=router.unlike(study.batch))


def measure(
    router: Router, study: StudyData, predicted: np.ndarray, decided: np.ndarray, resamples: int, seed: int
) -> dict[str, Any]:
    """Everything measured of a router's predictions [n, m] and choices [n]: all prompts, then each set by itself."""
    true, cost = router.quality.of(study.raw), router.cost

    def measured(index: np.ndarray) -> dict[str, Any]:
        return promised(router, true[index], decided[index]) | evaluate(
            predicted[index],
            true[index],
            {name: values[index] for name, values in study.raw.items()},
            cost,
            router.names,
            decided[index],
            router.calibrations,
            resamples=resamples,
            seed=seed,
        )

    sets = {str(name): np.flatnonzero(study.sets == name) for name in sorted(set(study.sets))}
    return {
        "score": " + ".join(router.quality.scores),
        **measured(np.arange(len(study))),
        "sets": {name: measured(index) for name, index in sets.items()},
    }


def promised(router: Router, true: np.ndarray, decided: np.ndarray) -> dict[str, Any]:
    """Whether a guarantee was kept on n prompts with true quality [n, m] and choice [n]: the share of them within
    epsilon, with its 95 % interval. Nothing for a router without one."""
    if (promise := router.guarantee) is None:
        return {}
    kept = coverage(true, decided, single=promise.single, epsilon=promise.epsilon)
    return {
        "guarantee": {
            "given": promise.given,
            "epsilon": promise.epsilon,
            "alpha": promise.alpha,
            "against": router.names[promise.single],
            "promised": 1 - promise.alpha,
            "coverage": {"estimate": kept.share, "low": kept.low, "high": kept.high},
            "to_a_cheaper_model": float((router.cost[decided] < router.cost[promise.single]).mean()),
        }
    }


def without_choice(router: Router, study: StudyData) -> dict[str, Any]:
    """Oracle and single models over every prompt of a study: nothing here is predicted."""
    true, cost = router.quality.of(study.raw), router.cost
    chosen = {"oracle": policies.best_predicted(true, cost)}
    for column, name in enumerate(router.names):
        chosen[f"single_{name}"] = policies.single(true, cost, model=column)
    return {"prompts": len(study), "strategies": strategy_rows(true, study.raw, cost, router.names, chosen)}


def cost_table(result: dict[str, Any], labels: dict[str, str]) -> str:
    """The cost table for people."""
    scores = [name for name in result["strategies"]["oracle"] if "." in name]  # full names: SCORER.OUTPUT
    extra = scores if "+" in result["score"] else [s for s in scores if s != result["score"]]
    head = ["strategy", "quality", *extra, "$ per 1000", "vs best single"]
    base = result["strategies"][f"single_{result['best_single']}"]["cost"]
    lines = []
    for name, row in result["strategies"].items():
        label = labels.get(name.removeprefix("single_"), name) if name.startswith("single_") else name
        change = row["cost"] / base - 1
        lines.append(
            [
                label,
                f"{row['quality']:.4f}",
                *(f"{row[s]:.4f}" for s in extra),
                f"{1000 * row['cost']:.4f}",
                f"{change:+.1%}",
            ]
        )
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]

    def row_text(line: list[str]) -> str:
        return "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )

    frontier, router = result["frontier"], result["router"]
    return "\n".join(
        [
            f"quality = {result['score']}; {result['prompts']} test prompts; best single model: "
            + labels.get(result["best_single"], result["best_single"]),
            *([f"({result['about']})"] if result.get("about") else []),
            "",
            row_text(head),
            *(row_text(line) for line in lines),
            "",
            "router (knob set beforehand, not on these prompts): quality "
            + _interval(router["quality_gain"], "+.4f")
            + " and cost "
            + _interval(router["cost_change"], "+.1%")
            + " against the best single model",
            "frontier on these prompts: cost at the best single model's quality "
            + _interval(frontier["iso_quality_cost"], "+.1%"),
            "                           share of the way to the oracle at no more cost "
            + _interval(frontier["oracle_gap_closed"], ".1%"),
        ]
    )


def _interval(one: dict[str, float | None], form: str) -> str:
    """A figure with its 95 % interval; a figure that can't be had is a dash."""
    value, low, high = (
        format(x, form) if x is not None else "–" for x in (one["estimate"], one["low"], one["high"])
    )
    return f"{value} [{low}, {high}]"


def show(path: Path) -> str:
    """The cost table of a result file."""
    result = read_json(path)
    return cost_table(result, result["labels"])


def main() -> str:
    options = parse()
    if options.show:
        return show(options.show)
    params = load_params()
    resamples = params["evaluate"]["resamples"]
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 0:
        raise UserError(
            f"params.yaml: evaluate.resamples is {resamples!r}; give a whole number, 0 for no intervals"
        )
    router = Router.load(options.router)
    labels = {model.name: model.label for model in router.models}
    if options.performance:
        study = read_published(options.performance, params["published"], router)
        result = measure(router, study, *decide(router, study), resamples, params["seed"])
        write_json(options.out, {"labels": labels, **result})
    else:
        scores = list(study_outputs(params))
        whole, side = load_study("data", router.names, scores, list(router.encoders))
        study = whole.take(np.flatnonzero(side == "test"))
        if not len(study):
            raise UserError(
                "data/split.parquet: no test prompt; give the test split a share with -S split.shares"
            )
        predicted, decided = decide(router, study)
        result = measure(router, study, predicted, decided, resamples, params["seed"])
        result["all_prompts"] = without_choice(router, whole)
        write_json(STUDY_RESULT, {"labels": labels, "about": params["about"], **result})
        write_plots(Path("metrics/plots"), router, study, predicted, decided)
    gain, change = result["router"]["quality_gain"]["estimate"], result["router"]["cost_change"]["estimate"]
    return (
        f"evaluate: on {len(study)} prompts the router's quality is {gain:+.4f} and its cost {change:+.1%} "
        f"against {labels[result['best_single']]}, the best single model"
    )


def write_plots(
    folder: Path, router: Router, study: StudyData, predicted: np.ndarray, decided: np.ndarray
) -> None:
    """Data of the plots, as CSV: what DVC compares across commits, and what the report draws."""
    true, cost = router.quality.of(study.raw), router.cost
    labels = np.array([model.label for model in router.models])
    points = frontier_points(predicted, true, cost)
    best = metrics.labels(true, decided)
    rows, columns = np.divmod(np.arange(true.size), len(labels))
    tables = {
        "frontier": pd.DataFrame(points["frontier"]),
        "hull": pd.DataFrame(points["hull"]),
        "confusion": pd.DataFrame(
            {"prompt_id": study.prompt_ids, "best": labels[best], "chosen": labels[decided]}
        ),
        "predicted": pd.DataFrame(
            {
                "prompt_id": study.prompt_ids[rows],
                "model": labels[columns],
                "predicted": predicted.reshape(-1),
                "true": true.reshape(-1),
            }
        ),
    }
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.7g")


if __name__ == "__main__":
    run_stage(main)
