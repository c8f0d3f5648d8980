"""Choose the knobs on validation and pack the router: `policy`, `cost` → data/router/."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.rows import SPLITS
from promptroute.core.study import StudyData
from promptroute.evaluation import metrics
from promptroute.io.files import read_json, sha256
from promptroute.io.study import load_study
from promptroute.predictors.folder import load_predictor
from promptroute.router.router import ModelInfo, Router
from promptroute.router.settings import KNOBS, TARGETS, Settings
from promptroute.routing.calibrate import choose, favouring
from promptroute.routing.fallback import Fallback
from promptroute.routing.guarantees import calibrate
from promptroute.routing.quality import Quality
from promptroute.runtime.params import build, load_params, study_models, study_outputs
from promptroute.runtime.stage import run_stage

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
        UserError: naming the encoder.
    """
    few = batch.take(np.arange(min(len(batch), 4)))
    for name, vectors in router.batch(few.texts).embeddings.items():
        learnt = few.embeddings[name]
        # Kernels and devices differ by rounding; other weights differ by far more than a hundredth.
        if np.linalg.norm(vectors - learnt) > 0.01 * np.linalg.norm(learnt):
            raise UserError(
                f"data/text/{name}.parquet: not the vectors that encoder {name} gives on this machine, so its "
                f"weights have changed since; delete cache/text, run `dvc repro --force encode`, then `dvc repro`"
            )


def out_of_fold(study: StudyData, models: list[str]) -> tuple[StudyData, np.ndarray]:
    """Prompts with predictions of a fit that had not seen them (validation's, or leave-one-out ones of train's
    too), in the order of the study; predicted quality [n, m]."""
    rows = pd.read_parquet("data/predictor/out_of_fold.parquet").set_index("prompt_id")
    held = study.take(np.flatnonzero(np.isin(study.prompt_ids, rows.index)))
    return held, rows.loc[held.prompt_ids, models].to_numpy(np.float64)


def fit_fallback(router: Router, train: PromptBatch, validation: PromptBatch, share: float) -> Fallback:
    """The fallback on the vectors of the router's first encoder.

    Raises:
        UserError: there is no encoder.
    """
    if not router.encoders:
        raise UserError(
            "params.yaml: policy.fallback needs a text encoder to tell unlike prompts by, and there is none; "
            "choose text_encoder=minilm, or set policy.fallback to null"
        )
    name = next(iter(router.encoders))
    width = router.sentence_width(name)
    best = router.calibrations["cost_aware"]["quality"].single
    return Fallback.fit(
        train.embeddings[name][:, -width:],
        validation.embeddings[name][:, -width:],
        safest=best if router.guarantee is None else router.guarantee.single,
        share=share,
        encoder=name,
    )


def summary(router: Router) -> str:
    """What decides, in a few words."""
    if router.guarantee is not None:
        label = router.models[router.guarantee.single].label
        text = f"{router.policy}, against {label}: {router.guarantee.statement}"
    elif router.policy not in router.calibrations:
        text = f"{router.policy}, which has no knob"
    else:
        chosen = router.calibration
        text = f"{chosen.policy} for {chosen.target}, knob {chosen.knob}: {chosen.reason}"
    if (fallback := router.fallback) is not None:
        text += f"; prompts unlike train (1 - cosine above {fallback.threshold:.3f}) go to "
        text += router.models[fallback.safest].label
    return text


def main() -> str:
    params = load_params()
    policy = Settings.read(params["policy"], "params.yaml: policy")
    fitted = read_json("data/predictor/quality.json")
    models, quality = fitted["models"], Quality(**fitted["quality"])
    encoders = params["text_encoder"]
    study, side = load_study("data", models, list(study_outputs(params)), list(encoders))
    validation = study.take(np.flatnonzero(side == "validation"))
    if not len(validation):
        raise UserError(
            "data/split.parquet: no validation prompt to choose knobs on; give it a share with -S split.shares"
        )
    train = study.take(np.flatnonzero(side == "train"))
    measured = train.measured_seconds()

    facts = study_models(params)
    if lost := [name for name in models if name not in facts]:
        raise UserError(
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
        raise UserError(f"params.yaml: {error}") from error
    predictor = load_predictor("data/predictor")
    held, predicted = out_of_fold(study, models)
    true = quality.of(held.raw)
    calibrations = {
        name: {target: choose(name, predicted, true, cost, target) for target in TARGETS} for name in KNOBS
    }
    if policy.margin:
        calibrations = {
            name: {
                target: favouring(one, predicted, true, cost, policy.margin)
                for target, one in targets.items()
            }
            for name, targets in calibrations.items()
        }
    guarantee = None
    if policy.promise is not None:
        epsilon, alpha = policy.promise
        # The theorem asks for a best single model that was named without a look at the calibration prompts.
        best = metrics.best_single(quality.of(train.raw))
        guarantee = calibrate(predicted, true, cost, epsilon=epsilon, alpha=alpha, single=best)
    router = Router(
        models=[
            ModelInfo(name, facts[name].get("label", name), float(price), float(mean))
            for name, price, mean in zip(models, cost, true.mean(axis=0), strict=True)
        ],
        quality=quality,
        predictor=predictor,
        encoders=encoders,
        policy=policy.name,
        target=policy.target,
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
        guarantee=guarantee,
    )
    check_encoders(router, validation.batch)
    if policy.fallback is not None:
        fallback = fit_fallback(router, train.batch, validation.batch, policy.fallback)
        router = replace(router, fallback=fallback)
    router.save("data/router", predictor="data/predictor")
    return f"calibrate: {summary(router)}"


if __name__ == "__main__":
    run_stage(main)
