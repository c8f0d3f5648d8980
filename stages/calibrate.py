"""Choose the knobs on validation and pack the router: `policy`, `cost` → data/router/."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from stages.predictors import load_predictor
from stages.records import SPLITS, BadInput
from stages.records.batch import PromptBatch
from stages.router import KNOBS, TARGETS, ModelInfo, Router, check_policy
from stages.routing.calibrate import choose
from stages.routing.quality import Quality
from stages.runtime import build, load_params, run_stage, study_models, study_scorers
from stages.store import Study, load_study, read_json, sha256

FILES = ("data/prompts.parquet", "data/performance.parquet", "data/split.parquet")


def provenance() -> dict[str, Any]:
    """What the study was read from and made into, with checksums."""
    data: dict[str, Any] = {}
    for path in FILES[:2]:
        sources = (pq.read_schema(path).metadata or {}).get(b"sources", b"{}")
        read = json.loads(sources)
        data |= read if isinstance(read, dict) else {"prompts": read}
    return {"data": data, "files": {path: sha256(path) for path in FILES}}


def check_encoders(router: Router, batch: PromptBatch) -> None:
    """Refuse to pack a router whose encoders, as they are here, don't give the vectors that were learnt from.

    Raises:
        BadInput: naming the encoder.
    """
    few = batch.take(np.arange(min(len(batch), 4)))
    for name, vectors in router.batch(few.texts).embeddings.items():
        learnt = few.embeddings[name]
        # Kernels and devices differ by rounding; other weights differ by far more than a hundredth.
        if np.linalg.norm(vectors - learnt) > 0.01 * np.linalg.norm(learnt):
            raise BadInput(
                f"data/text/{name}.parquet: not the vectors that encoder {name} gives on this machine, so its "
                f"weights have changed since; delete scratch/text, run `dvc repro --force encode`, then `dvc repro`"
            )


def held_out(study: Study, models: list[str]) -> tuple[Study, np.ndarray]:
    """Prompts with predictions of a fit that had not seen them (validation's, or leave-one-out ones of train's
    too), in the order of the study; predicted quality [n, m]."""
    rows = pd.read_parquet("data/predictor/held_out.parquet").set_index("prompt_id")
    held = study.take(np.flatnonzero(np.isin(study.prompt_ids, rows.index)))
    return held, rows.loc[held.prompt_ids, models].to_numpy(np.float64)


def main() -> str:
    params = load_params()
    policy = params["policy"]
    check_policy(policy["name"], policy["target"], "params.yaml: policy")
    fitted = read_json("data/predictor/quality.json")
    models, quality = fitted["models"], Quality(**fitted["quality"])
    encoders = params["text"]["encoders"]
    study, side = load_study("data", models, list(study_scorers(params)), list(encoders))
    validation = study.take(np.flatnonzero(side == "validation"))
    if not len(validation):
        raise BadInput(
            "data/split.parquet: no validation prompt to choose knobs on; give it a share with -S split.shares"
        )
    measured = study.take(np.flatnonzero(side == "train")).measured_seconds()

    facts = study_models(params)
    if lost := [name for name in models if name not in facts]:
        raise BadInput(
            f"params.yaml: the predictor was trained for {', '.join(lost)} too, which the study lacks; "
            f"run `dvc repro` so that it is trained again"
        )
    profiles = {
        name: {**(facts[name].get("profile") or {}), "measured_seconds": measured.get(name)}
        for name in models
    }
    for name in params["profiled"]:
        fresh = read_json(f"data/profile/{name}.json")
        profiles[name] |= {**fresh, "measured_seconds": fresh["seconds"]}
    try:
        cost = build(params["cost"], "cost")(profiles)
    except ValueError as error:
        raise BadInput(f"params.yaml: {error}") from error
    predictor = load_predictor("data/predictor")
    held, predicted = held_out(study, models)
    true = quality.of(held.raw)
    calibrations = {
        name: {target: choose(name, predicted, true, cost, target) for target in TARGETS} for name in KNOBS
    }
    router = Router(
        models=[
            ModelInfo(name, facts[name].get("label", name), float(price), float(mean))
            for name, price, mean in zip(models, cost, true.mean(axis=0), strict=True)
        ],
        quality=quality,
        predictor=predictor,
        encoders=encoders,
        policy=policy["name"],
        target=policy["target"],
        calibrations=calibrations,
        about={
            "predictor": params["predictor"]["_target_"],
            "cost": params["cost"],
            "split": params["split"],
            "prompts": {name: int((side == name).sum()) for name in SPLITS},
            "calibrated_on": len(held),
            "note": params["about"],
            **provenance(),
        },
    )
    check_encoders(router, validation.batch)
    router.save("data/router", predictor="data/predictor")
    if policy["name"] not in calibrations:
        return f"calibrate: {policy['name']}, which has no knob"
    chosen = calibrations[policy["name"]][policy["target"]]
    return f"calibrate: {chosen.policy} for {chosen.target}, knob {chosen.knob}: {chosen.reason}"


if __name__ == "__main__":
    run_stage(main)
