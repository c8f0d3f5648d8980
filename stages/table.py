"""Gather every score: data/scores/ → data/performance.parquet, one row a prompt, model and score."""

import json
from pathlib import Path

import pandas as pd

from promptroute.core.errors import UserError
from promptroute.core.performance import complete, performance
from promptroute.core.rows import Performance, Score
from promptroute.io.files import write_json
from promptroute.io.tables import read_table, write_table
from promptroute.runtime.params import load_params, study_models, study_scorers
from promptroute.runtime.stage import run_stage


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
        raise UserError(
            f"params.yaml: {len(models)} models and {len(scorers)} scores, so there is nothing to "
            f"gather; choose published=cems, or models and scorers of your own"
        )
    every = pd.concat(tables, ignore_index=True)
    rows, left_out = complete(every, len(tables))
    if rows.empty:
        raise UserError(
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
