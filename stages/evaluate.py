"""Evaluate the trained router on the test split: cost against quality on prompts that nothing was fitted on.

Nothing is refitted: predictor, scaling and operating points are those of the router folder.
"""

from pathlib import Path

import numpy as np

from promptroute.core.errors import UserError
from promptroute.evaluation.bootstrap import check_resamples
from promptroute.evaluation.plots import write_plots
from promptroute.io.files import write_json
from promptroute.io.study import load_study
from promptroute.router.judging import judge, measure, summary, without_choice
from promptroute.router.router import Router
from promptroute.runtime.params import load_params, named_classes, study_outputs
from promptroute.runtime.stage import run_stage

METRICS = Path("metrics")


def main() -> str:
    params = load_params()
    resamples = check_resamples(params["evaluate"]["resamples"], "params.yaml: evaluate.resamples")
    router = Router.load("data/router", allow=named_classes(params))
    scores = {name: output.label for name, output in study_outputs(params).items()}
    whole, split = load_study("data", router.names, list(scores), list(router.encoders))
    study = whole.take(np.flatnonzero(split == "test"))
    if not len(study):
        raise UserError(
            "data/split.parquet: no test prompt; give the test split a share with -S split.shares"
        )
    judged = judge(router, study)
    result = measure(router, study, judged, scores, resamples=resamples, seed=params["seed"])
    result |= {"about": params["about"], "all_prompts": without_choice(router, whole)}
    write_json(METRICS / "evaluate.json", result)
    write_plots(METRICS / "plots", judged, router.labels, study.prompt_ids)
    return f"evaluate: {summary(result)}"


if __name__ == "__main__":
    run_stage(main, __doc__)
