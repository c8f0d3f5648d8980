"""Gather every score: data/scores/ → data/performance.parquet, one row a prompt, model and score."""

import json

from promptroute.core.errors import UserError
from promptroute.core.performance import complete
from promptroute.core.rows import Performance
from promptroute.io.files import write_json
from promptroute.io.scores import gather_scores
from promptroute.io.tables import write_table
from promptroute.io.truncation import count_truncated
from promptroute.runtime.params import load_params, scorer_outputs, study_models, study_outputs
from promptroute.runtime.stage import run_stage


def main() -> str:
    params = load_params()
    models, scores = study_models(params), study_outputs(params)
    if not models or not scores:
        raise UserError(
            f"params.yaml: {len(models)} models and {len(scores)} scores, so there is nothing to gather; choose "
            f"published=cems, or models and scorers of your own"
        )
    outputs = {
        name: scorer_outputs(section, f"params.yaml: scorers.{name}")
        for name, section in {**params["published"]["scorers"], **params["scorers"]}.items()
    }
    gathered, sources, prompts = gather_scores(outputs, list(models), published=params["published"]["models"])
    rows, left_out = complete(gathered, len(models) * len(scores))
    if rows.empty:
        raise UserError(
            f"data/scores: no prompt has a score of every model ({len(left_out)} prompts lack one"
            f"{f', as {left_out[0]}' if left_out else ''}); see the reasons in data/images, as `dvc repro` prints them"
        )
    key, about = ("prompt_id", "model", "score"), {"sources": json.dumps(sources), **prompts}
    write_table("data/performance.parquet", rows, Performance, key, about)
    write_json("metrics/sources.json", sources)
    encoders = (params.get("image_encoder") or {}, params.get("text_encoder") or {})
    write_json("metrics/truncation.json", count_truncated(params["models"], *encoders))
    lost = (
        f"; {len(left_out)} prompts left out, as some model has no image or score of them" if left_out else ""
    )
    return f"table: {len(rows)} rows of {len(models)} models and {len(scores)} scores{lost}"


if __name__ == "__main__":
    run_stage(main, __doc__)
