"""`promptroute evaluate`: judge a trained router on another performance table, or show a result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptroute.core.errors import UserError, reason
from promptroute.core.plain import Plain, Section
from promptroute.core.study import StudyData
from promptroute.core.text import escaped

if TYPE_CHECKING:
    from promptroute.router.router import Router

RESULT = Path("metrics/evaluate.json")


def evaluate(
    performance: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="folder of a performance table of the published layout"),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="where its result goes (JSON)")] = None,
    router: Annotated[Path, typer.Option(metavar="DIR", help="router folder")] = Path("data/router"),
    every: Annotated[
        bool, typer.Option("--all", help="judge the prompts that the router was trained on too")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="print the cost table of a result, and judge nothing")
    ] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="with --show: a column for each score too")
    ] = False,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the result to show")] = RESULT,
) -> None:
    """Judge a trained router on another performance table, or show a result; nothing is refitted."""
    if show == (performance is not None or out is not None) or (performance is None) != (out is None):
        raise typer.BadParameter("give --performance DIR and --out FILE, or --show [FILE]")
    if scores and not show:
        raise typer.BadParameter("--scores goes with --show")
    if performance is None or out is None:
        print(shown(file, scores))
    else:
        print(f"evaluate: {judge_table(performance, out, router, every)}")


def shown(path: Path, scores: bool = False) -> str:
    """Return the cost table of a result file, `scores` with each score; say so where it is not of the present study.

    Of the study's own result, scores are called what their classes call them today.
    """
    from promptroute.io.files import read_json

    result = read_json(path)
    try:
        return _told(result, path, scores)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{path}: no result of evaluate ({reason(error)}); give {RESULT}, or what --out wrote"
        ) from error


def _told(result: Plain, path: Path, scores: bool) -> str:
    from promptroute.evaluation.origin import difference, origin
    from promptroute.evaluation.table import cost_table
    from promptroute.runtime.params import load_params, study_outputs

    if "table" not in result and Path("params.yaml").is_file():
        params = load_params()
        if note := difference(result.get("study") or {}, origin(params, Path("data"))):
            result["stale"] = f"{path} is {note}"
        else:
            today = {name: output.label for name, output in study_outputs(params).items()}
            result["scores"] = {name: today.get(name, label) for name, label in result["scores"].items()}
    return "\n".join(map(escaped, cost_table(result, scores=scores).split("\n")))


def judge_table(folder: Path, out: Path, router: Path, every: bool) -> str:
    """Judge a router on a table of the published layout, write the result, and return the summary line.

    `folder` holds the table's files (see `ScoreTable.at`); `every`: judge the prompts that it was trained on too.
    """
    from promptroute.evaluation.bootstrap import check_resamples
    from promptroute.io.files import write_json
    from promptroute.router.judging import embedded, judge, measure, summary, unseen
    from promptroute.router.router import Router
    from promptroute.router.seen import seen
    from promptroute.runtime.params import load_params, named_classes, study_outputs

    params = load_params()
    loaded = Router.load(router, allow=named_classes(params))
    resamples = check_resamples(params["evaluate"]["resamples"], "params.yaml: evaluate.resamples")
    study = read_table(folder, params["published"], loaded)
    scores = {
        name: output.label for name, output in study_outputs({**params, "models": {}, "scorers": {}}).items()
    }
    known = int(seen(study.batch.texts, loaded.seen).sum())
    kept = study if every else unseen(loaded, study)
    kept = embedded(loaded, kept)
    result = measure(loaded, kept, judge(loaded, kept), scores, resamples=resamples, seed=params["seed"])
    result["table"] = "judged on another table than the study's"
    if known and every:
        result["seen"] = f"the router was trained on {known} of these {len(study)} prompts"
    elif known:
        result["seen"] = f"{known} of {len(study)} prompts left out: the router was trained on them"
    write_json(out, result)
    return summary(result)


def read_table(folder: Path, published: Section, router: "Router") -> StudyData:
    """Read a performance table of the published layout, for a trained router's models.

    `published`: the parameters' section: file names of the models, and the scorers.

    Raises:
        UserError: the router has a model that the section doesn't name, or a file is missing or bad.
    """
    import pandas as pd

    from promptroute.core.component import build
    from promptroute.core.outputs import full_name
    from promptroute.core.performance import complete, performance
    from promptroute.io.published import ScoreTable, check_same_prompts
    from promptroute.io.study import join
    from promptroute.runtime.params import published_output

    if lost := [name for name in router.names if name not in published["models"]]:
        raise UserError(
            f"params.yaml: published.models lacks {lost}, which the router chooses from; use published=cems"
        )
    table = build(published["table"], "params.yaml: published.table", ScoreTable).at(folder)
    outputs = {
        name: published_output(section, f"params.yaml: published.scorers.{name}")
        for name, section in published["scorers"].items()
    }
    if not outputs:
        raise UserError("params.yaml: published.scorers is empty; use published=cems")
    reads = {
        (scorer, model): table.read(scorer, output, published["models"][model]["stem"])
        for scorer, output in outputs.items()
        for model in router.names
    }
    known = [read.prompts for read in reads.values()]
    gaps = any(read.gaps for read in reads.values())
    prompts = pd.concat(known).drop_duplicates("prompt_id") if gaps else known[0]
    for read in reads.values():
        check_same_prompts(read, prompts, whole=True)
    rows, _ = complete(
        pd.concat([performance(read.scores, model, scorer) for (scorer, model), read in reads.items()]),
        len(reads),
    )
    prompts = prompts[prompts["prompt_id"].isin(rows["prompt_id"])]
    scores = [full_name(name, output.name) for name, output in outputs.items()]
    return join(prompts, rows, {}, router.names, scores)
