"""Calibrate the policy and pack the router: `policy`, `cost` → data/router/."""

from pathlib import Path

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.io.files import read_json
from promptroute.router.packing import NoLook, NoValidation, Trained, facts_of, look_of, pack, provenance
from promptroute.routing.base import Policy
from promptroute.routing.costs import CostRule, MissingFact
from promptroute.runtime.params import fact_hint, load_params, named_classes, study_models, study_outputs
from promptroute.runtime.stage import run_stage

DATA = Path("data")


def main() -> str:
    params = load_params()
    policy: Policy = build(params["policy"], "params.yaml: policy", Policy)
    rule: CostRule = build(params["cost"], "params.yaml: cost", CostRule)
    predictor = params["predictor"]["_target_"]
    try:
        trained = Trained.read(
            DATA, list(study_outputs(params)), params["text_encoder"], named_classes(params), predictor
        )
    except NoValidation as error:
        raise UserError(f"{error}; give it a share with -S split.shares") from error
    models = study_models(params)
    fresh = {name: read_json(DATA / "profile" / f"{name}.json") for name in params["profiled"]}
    try:
        facts = facts_of(trained, {name: one.get("profile") or {} for name, one in models.items()}, fresh)
        cost = rule.cost(facts)
    except MissingFact as error:
        raise UserError(f"params.yaml: {error}; {fact_hint(params, error.model, error.fact)}") from error
    except UserError as error:
        raise UserError(f"params.yaml: {error}; run `dvc repro` once it is right") from error
    about = {
        "predictor": predictor,
        "cost": {"rule": rule.class_path(), **rule.fingerprint()["settings"]},
        "split": params["split"],
        "note": params["about"],
        "seconds": {name: one.seconds or one.measured_seconds for name, one in facts.items()},
        **provenance(*(DATA / f"{name}.parquet" for name in ("prompts", "performance", "split"))),
    }
    labels = {name: one.get("label", name) for name, one in models.items()}
    look = None
    if policy.looks and getattr(policy, "look", None) is None:
        try:
            scorers = {**params["published"]["scorers"], **params["scorers"]}
            look = look_of(scorers, trained.quality.scores, rule)
        except NoLook as error:
            raise UserError(f"params.yaml: {error}, as with -S policy.look=DOLLARS") from error
    router = pack(trained, policy, cost, labels, about, look)
    router.save(DATA / "router", predictor=DATA / "predictor")
    return f"calibrate: {router.policy.summary(router.labels)}"


if __name__ == "__main__":
    run_stage(main, __doc__)
