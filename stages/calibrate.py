"""Choose the knobs on validation and pack the router: `policy`, `cost` → data/router/."""

import numpy as np

from stages.predictors import load_predictor
from stages.records import BadInput
from stages.router import KNOBS, TARGETS, ModelInfo, Router, check_policy
from stages.routing.calibrate import choose
from stages.routing.quality import Quality
from stages.runtime import build, load_params, run_stage
from stages.store import load_study, read_json


def main() -> str:
    params = load_params()
    policy = params["policy"]
    check_policy(policy["name"], policy["target"], "params.yaml: policy")
    published = params["published"]
    fitted = read_json("data/predictor/quality.json")
    models, quality = fitted["models"], Quality(**fitted["quality"])
    encoders = params["text"]["encoders"]
    study, side = load_study("data", models, list(published["scorers"]), list(encoders))
    validation = study.take(np.flatnonzero(side == "validation"))
    if not len(validation):
        raise BadInput(
            "data/split.parquet: no validation prompt to choose knobs on; give it a share with -S split.shares"
        )
    measured = study.take(np.flatnonzero(side == "train")).measured_seconds()

    facts = {**published["models"], **params["models"]}
    profiles = {
        name: {**facts[name].get("profile", {}), "measured_seconds": measured.get(name)} for name in models
    }
    try:
        cost = build(params["cost"], "cost")(profiles)
    except ValueError as error:
        raise BadInput(f"params.yaml: {error}") from error
    predictor = load_predictor("data/predictor")
    true = quality.of(validation.raw)
    predicted = predictor.predict(validation.batch)
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
            "calibrated_on": len(validation),
        },
    )
    router.save("data/router", predictor="data/predictor")
    if policy["name"] not in calibrations:
        return f"calibrate: {policy['name']}, which has no knob"
    chosen = calibrations[policy["name"]][policy["target"]]
    return f"calibrate: {chosen.policy} for {chosen.target}, knob {chosen.knob}: {chosen.reason}"


if __name__ == "__main__":
    run_stage(main)
