"""Train the quality predictor on the training prompts: `predictor`, `score` → data/predictor/."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from promptroute.core.component import build
from promptroute.core.study import StudyData
from promptroute.io.files import atomic_path, write_json
from promptroute.io.parquet import write_parquet
from promptroute.io.study import load_study, made_of
from promptroute.predictors.base import Predictor
from promptroute.predictors.folder import save_predictor
from promptroute.routing.quality import fit_quality, flat_weights
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import load_params, study_models, study_outputs
from promptroute.runtime.stage import run_stage


def out_of_fold(predictor: Predictor, train: StudyData, validation: StudyData) -> pd.DataFrame:
    """Return predictions that a policy may be tuned on: a row per prompt_id, a column per model."""
    if predictor.out_of_fold is None:
        ids, quality = validation.prompt_ids, predictor.predict(validation.batch)
    else:
        ids, quality = np.concatenate([train.prompt_ids, validation.prompt_ids]), predictor.out_of_fold
    return pd.DataFrame(quality, columns=list(validation.models)).assign(prompt_id=ids)


def main() -> str:
    params = load_params()
    read_compute(params["compute"], "params.yaml: compute")
    models, outputs = list(study_models(params)), study_outputs(params)
    study, side = load_study("data", models, list(outputs), list(params["text_encoder"]))
    train, validation = (study.take(np.flatnonzero(side == name)) for name in ("train", "validation"))

    directions = {name: output.higher_is_better for name, output in outputs.items()}
    meaning = {**params["score"], "weights": flat_weights(params["score"]["weights"])}
    quality = fit_quality(train.raw, **meaning, higher_is_better=directions)
    predictor = build(params["predictor"], "params.yaml: predictor", Predictor)
    started = time.perf_counter()
    predictor.fit(train.batch, quality.of(train.raw), (validation.batch, quality.of(validation.raw)))
    seconds = time.perf_counter() - started

    with atomic_path("data/predictor") as folder:
        save_predictor(predictor, folder)
        files = made_of(Path("data/prompts.parquet"), Path("data/split.parquet"))
        facts = {"models": models, "quality": quality.to_json(), "files": files}
        write_json(folder / "quality.json", facts, digits=17)
        held = pa.Table.from_pandas(out_of_fold(predictor, train, validation), preserve_index=False)
        write_parquet(folder / "out_of_fold.parquet", held, about={})
    return f"train: {type(predictor).__name__} on {len(train)} prompts in {seconds:.1f} s"


if __name__ == "__main__":
    run_stage(main, __doc__)
