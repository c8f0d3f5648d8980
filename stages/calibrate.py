"""Calibrate the policy and pack the router: `policy`, `cost` → data/router/."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from promptroute.core.errors import UserError
from promptroute.io.files import read_json
from promptroute.io.study import load_study
from promptroute.predictors.folder import load_predictor
from promptroute.router.packing import Trained, pack, provenance
from promptroute.routing.base import Policy
from promptroute.routing.costs import CostRule, Facts, MissingFact
from promptroute.routing.quality import Quality
from promptroute.runtime.component import build
from promptroute.runtime.params import load_params, study_models, study_scorers
from promptroute.runtime.stage import run_stage

DATA, PREDICTOR = Path("data"), Path("data/predictor")


def prices(
    params: Any, rule: CostRule, models: list[str], measured: dict[str, float]
) -> dict[str, tuple[str, float]]:
    """Give each model's label and price: model → (label, dollars per image)."""
    facts = study_models(params)
    if lost := [name for name in models if name not in facts]:
        raise UserError(
            f"params.yaml: the predictor was trained for {', '.join(lost)} too, which the study lacks; "
            f"run `dvc repro` so that it is trained again"
        )
    known = {
        name: {**(facts[name].get("profile") or {}), "measured_seconds": measured.get(name)}
        for name in models
    }
    for name in params["profiled"]:
        fresh = read_json(f"data/profile/{name}.json")
        known[name] |= {**fresh, "measured_seconds": fresh["seconds"]}
    try:
        cost = rule.cost({name: Facts.of(profile) for name, profile in known.items()})
    except MissingFact as error:
        way = (
            f"+cost.prices.{error.model}"
            if error.fact == "price"
            else f"+models.{error.model}.profile.{error.fact}"
        )
        raise UserError(
            f"params.yaml: {error}; give it with -S {way}=NUMBER, or choose another cost"
        ) from error
    return {
        name: (facts[name].get("label", name), float(price)) for name, price in zip(models, cost, strict=True)
    }


def main() -> str:
    params = load_params()
    policy = build(params["policy"], "params.yaml: policy", Policy)
    fitted, encoders = read_json(PREDICTOR / "quality.json"), params["text_encoder"]
    study, split = load_study(DATA, fitted["models"], list(study_scorers(params)), list(encoders))
    if not (split == "validation").any():
        raise UserError(
            "data/split.parquet: no validation prompt to calibrate on; give it a share with -S split.shares"
        )
    rows = pd.read_parquet(PREDICTOR / "out_of_fold.parquet")
    places = {str(prompt_id): place for place, prompt_id in enumerate(rows["prompt_id"])}
    trained = Trained(
        study,
        split,
        load_predictor(PREDICTOR),
        Quality(**fitted["quality"]),
        places,
        rows[fitted["models"]].to_numpy(np.float64),
        encoders,
    )
    rule = build(params["cost"], "params.yaml: cost", CostRule)
    about = {
        "predictor": params["predictor"]["_target_"],
        "cost": {"rule": rule.path(), **rule.fingerprint()["settings"]},
        "split": params["split"],
        "note": params["about"],
        **provenance(*(DATA / f"{name}.parquet" for name in ("prompts", "performance", "split"))),
    }
    costs = prices(params, rule, fitted["models"], trained.part("train").measured_seconds())
    router = pack(trained, policy, costs, about)
    router.save(DATA / "router", predictor=PREDICTOR)
    return f"calibrate: {router.policy.summary(router.labels)}"


if __name__ == "__main__":
    run_stage(main)
