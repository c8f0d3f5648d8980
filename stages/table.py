"""Gather every score: data/scores/ → data/performance.parquet, one row a prompt, model and score."""

import json
from typing import Any

import pandas as pd

from promptroute.core.errors import UserError
from promptroute.core.outputs import check_ranges
from promptroute.core.performance import complete, performance
from promptroute.core.rows import Performance
from promptroute.io.files import write_json
from promptroute.io.scores import read_scores, scores_folder
from promptroute.io.tables import write_table
from promptroute.io.truncation import count_truncated
from promptroute.runtime.params import Params, load_params, scorer_outputs, study_models, study_outputs
from promptroute.runtime.stage import run_stage


def gather(params: Params) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    """Read the scores of every model by every scorer of the parameters, their ranges checked.

    Returns `Performance` rows of each; and the files that published scores were read from, by SCORER/MODEL.
    """
    tables, sources = [], {}
    for scorer, section in {**params["published"]["scorers"], **params["scorers"]}.items():
        outputs = scorer_outputs(section, f"params.yaml: scorers.{scorer}")
        for model in study_models(params):
            folder = scores_folder(scorer, model, published=model in params["published"]["models"])
            scores = read_scores(folder, scorer, model)
            check_ranges(scores, outputs, str(folder / "scores.parquet"))
            tables.append(performance(scores, model, scorer))
            if about := scores.attrs.get("sources"):
                sources[f"{scorer}/{model}"] = json.loads(about)
    return tables, sources


def main() -> str:
    params = load_params()
    models, outputs = study_models(params), study_outputs(params)
    if not models or not outputs:
        raise UserError(
            f"params.yaml: {len(models)} models and {len(outputs)} scores, so there is nothing to gather; choose published=cems"
        )
    tables, sources = gather(params)
    rows, left_out = complete(pd.concat(tables, ignore_index=True), len(models) * len(outputs))
    if rows.empty:
        raise UserError(
            f"data/scores: no prompt has a score of every model ({len(left_out)} prompts lack one"
            f"{f', as {left_out[0]}' if left_out else ''}); see the reasons in data/images, as `dvc repro` prints them"
        )
    key, about = ("prompt_id", "model", "score"), {"sources": json.dumps(sources)}
    write_table("data/performance.parquet", rows, Performance, key=key, about=about)
    write_json("metrics/sources.json", sources)
    encoders = (params.get("image_encoder") or {}, params.get("text_encoder") or {})
    write_json("metrics/truncation.json", count_truncated(params["models"], *encoders))
    lost = f"; {len(left_out)} prompts left out, as some model has no image of them" if left_out else ""
    return f"table: {len(rows)} rows of {len(models)} models and {len(outputs)} scores{lost}"


if __name__ == "__main__":
    run_stage(main, __doc__)
