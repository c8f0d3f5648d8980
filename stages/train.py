"""Train the quality predictor on the training split: `predictor`, `score` → data/predictor/."""

import time

import numpy as np
import pandas as pd

from stages.predictors import Predictor, save_predictor
from stages.routing.quality import fit_quality
from stages.runtime import build, load_params, pick_device, run_stage, study_models, study_scorers
from stages.store import Study, atomic_path, load_study, write_json


def held_out(predictor: Predictor, train: Study, validation: Study) -> pd.DataFrame:
    """Predictions that no knob chosen on them is flattered by: a row per prompt_id, a column per model."""
    if predictor.held_out is None:
        ids, quality = validation.prompt_ids, predictor.predict(validation.batch)
    else:
        ids, quality = np.concatenate([train.prompt_ids, validation.prompt_ids]), predictor.held_out
    return pd.DataFrame(quality, columns=list(validation.models)).assign(prompt_id=ids)


def main() -> str:
    params = load_params()
    pick_device(**params["compute"])
    models, scorers = list(study_models(params)), study_scorers(params)
    study, side = load_study("data", models, list(scorers), list(params["text"]["encoders"]))
    train, validation = (study.take(np.flatnonzero(side == name)) for name in ("train", "validation"))

    directions = {name: scorer["higher_is_better"] for name, scorer in scorers.items()}
    quality = fit_quality(train.raw, **params["score"], higher_is_better=directions)
    predictor = build(params["predictor"], "predictor")
    started = time.perf_counter()
    predictor.fit(train.batch, quality.of(train.raw), (validation.batch, quality.of(validation.raw)))
    seconds = time.perf_counter() - started

    with atomic_path("data/predictor") as folder:
        save_predictor(predictor, folder)
        write_json(folder / "quality.json", {"models": models, "quality": quality.to_json()}, digits=17)
        held_out(predictor, train, validation).to_parquet(folder / "held_out.parquet", index=False)
    return f"train: {params['predictor']['_target_'].rsplit('.', 1)[-1]} on {len(train)} prompts in {seconds:.1f} s"


if __name__ == "__main__":
    run_stage(main)
