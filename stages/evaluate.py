"""Evaluate the trained router on the test split: cost against quality on prompts that nothing was fitted on.

Nothing is refitted: predictor, scaling and operating points are those of the router folder.
"""

from pathlib import Path

import numpy as np

from promptroute.core.errors import UserError
from promptroute.evaluation.bootstrap import check_resamples
from promptroute.evaluation.origin import origin
from promptroute.evaluation.plots import write_tables
from promptroute.io.files import write_json
from promptroute.io.study import check_made_of, load_study, with_images
from promptroute.router.judging import headline, judge, measure, summary, without_choice
from promptroute.router.router import Router
from promptroute.runtime.params import load_params, named_classes, study_outputs
from promptroute.runtime.stage import run_stage

METRICS, DATA = Path("metrics"), Path("data")


def main() -> str:
    params = load_params()
    resamples = check_resamples(params["evaluate"]["resamples"], "params.yaml: evaluate.resamples")
    router = Router.load(DATA / "router", allow=named_classes(params))
    scores = {name: output.label for name, output in study_outputs(params).items()}
    whole, split = load_study(DATA, router.names, list(scores), list(router.encoders))
    whole = with_images(whole)
    study, train = (whole.take(np.flatnonzero(split == side)) for side in ("test", "train"))
    if not len(study):
        raise UserError(
            f"{DATA / 'split.parquet'}: no test prompt; give the test split a share with -S split.shares"
        )
    check_made_of(DATA / "router", router.about.get("files"))
    judged = judge(router, study, train)
    result = measure(router, study, judged, scores, resamples=resamples, seed=params["seed"])
    study_of = origin(params, DATA)
    result |= {"about": params["about"], "study": study_of, "all_prompts": without_choice(router, whole)}
    write_json(METRICS / "evaluate.json", result)
    write_json(
        METRICS / "summary.json", {"study": study_of["settings"], **headline(result, router.policy)}, digits=4
    )
    write_tables(DATA / "evaluation", judged, router.labels, study.prompt_ids)
    return f"evaluate: {summary(result)}"


if __name__ == "__main__":
    run_stage(main, __doc__)
