"""Recover prompts from images: `recovery` → data/recovery/, metrics/recovery.json.

The folder holds the trained recovery; texts.json, what was recovered from test images; and predicted/, each image's
prompt embedding as a learner predicts it that saw neither its prompt nor a near one.
"""

from pathlib import Path

from promptroute.core.component import build
from promptroute.encoders.base import ImageEncoder
from promptroute.evaluation.bootstrap import check_resamples
from promptroute.evaluation.recovery import read_prompts, recover
from promptroute.io.files import atomic_path, write_json
from promptroute.recovery.study import RecoveryStudy, check_views, read_views, write_predicted
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage

FOLDER, METRICS = Path("data/recovery"), Path("metrics/recovery.json")


def main() -> str:
    params = load_params()
    if not params.get("recovery"):
        with atomic_path(FOLDER) as folder:
            write_json(folder / "texts.json", {})  # DVC warns of an empty folder
        write_json(METRICS, {})
        return "recover: nothing, as this study names no recovery"
    read_compute(params["compute"], "params.yaml: compute")
    resamples = check_resamples(params["evaluate"]["resamples"], "params.yaml: evaluate.resamples")
    study = build(params["recovery"], "params.yaml: recovery", RecoveryStudy)
    check_views(study, params["image_encoder"])
    encoders = {
        name: build(params["image_encoder"][name], f"params.yaml: image_encoder.{name}", ImageEncoder)
        for name in study.views
    }
    prompts, bank = read_prompts(study, Path("data"))
    images = read_views("data/embeddings", study.views, list(params["models"]))
    done = recover(study, images, prompts, bank, encoders, resamples=resamples, seed=params["seed"])
    with atomic_path(FOLDER) as folder:
        done.recovery.save(folder)
        write_json(folder / "texts.json", done.texts)
        write_predicted(
            folder / "predicted", images, done.predicted, prompts.ids, prompts.vectors, study.fingerprint()
        )
    write_json(METRICS, {"about": params["about"], **done.figures})
    return f"recover: {done.summary()}"


if __name__ == "__main__":
    run_stage(main, __doc__)
