"""Gather every score: data/scores/ → data/performance.parquet, one row a prompt, model and score."""

import json
from pathlib import Path

import pandas as pd

from stages.records import BadInput, Performance, Score
from stages.runtime import load_params, run_stage, study_models, study_scorers
from stages.store import read_table, write_json, write_table


def performance(scores: pd.DataFrame, model: str, scorer: str) -> pd.DataFrame:
    """`Performance` rows of one model and score from its `Score` rows: the mean over each prompt's images.

    The standard deviation (n - 1) is over single images, so it stays null where only their mean is known.
    """
    groups = scores.groupby("prompt_id", sort=False)
    rows = groups.agg(mean=("score", "mean"), n=("images", "sum"), seconds=("seconds", "mean"))
    single = groups["images"].max() == 1
    rows["std"] = groups["score"].std().where(single)
    return rows.reset_index().assign(model=model, score=scorer)


def complete(rows: pd.DataFrame, columns: int) -> tuple[pd.DataFrame, list[str]]:
    """Keep the prompts that every model has every score of; models are compared on nothing else.

    Args:
        rows: `Performance` rows.
        columns: how many a complete prompt has: models times scores.

    Returns:
        The rows of complete prompts, and the ids of the others, sorted.
    """
    whole = rows.groupby("prompt_id")["score"].transform("size") == columns
    return rows[whole].reset_index(drop=True), sorted(rows.loc[~whole, "prompt_id"].unique())


def main() -> str:
    params = load_params()
    models, scorers = list(study_models(params)), list(study_scorers(params))
    # From the parameters, never by globbing: files of a model that left the study may still lie there.
    tables, sources = [], {}
    for scorer in scorers:
        for model in models:
            scores = read_table(
                Path("data/scores") / scorer / f"{model}.parquet", Score, ("prompt_id", "seed")
            )
            tables.append(performance(scores, model, scorer))
            if about := scores.attrs.get("sources"):
                sources[f"{scorer}/{model}"] = json.loads(about)
    if not tables:
        raise BadInput(
            f"params.yaml: {len(models)} models and {len(scorers)} scores, so there is nothing to "
            f"gather; choose published=cems, or models and scorers of your own"
        )
    every = pd.concat(tables, ignore_index=True)
    rows, left_out = complete(every, len(tables))
    if rows.empty:
        raise BadInput(
            f"data/scores: no prompt has a score of every model ({len(left_out)} prompts lack one, as "
            f"{left_out[0]}); see the reasons in data/images, as `dvc repro` prints them"
        )
    write_table(
        "data/performance.parquet",
        rows,
        Performance,
        key=("prompt_id", "model", "score"),
        about={"sources": json.dumps(sources)},
    )
    write_json("metrics/sources.json", sources)
    lost = f"; {len(left_out)} prompts left out, as some model drew no image of them" if left_out else ""
    return f"table: {len(rows)} rows of {len(models)} models and {len(scorers)} scores{lost}"


if __name__ == "__main__":
    run_stage(main)
