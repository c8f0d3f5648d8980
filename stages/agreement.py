"""Measure what people said of the study's images: `agreement.votes` → metrics/agreement.json.

`promptroute annotate` collects the answers. Without any, the file says so, and nothing else.
"""

from pathlib import Path

from promptroute.core.errors import UserError
from promptroute.core.rows import Performance, Prompt
from promptroute.evaluation.bootstrap import check_resamples
from promptroute.evaluation.people import measure
from promptroute.io.files import write_json
from promptroute.io.tables import read_table
from promptroute.io.votes import Votes
from promptroute.runtime.params import load_params, study_outputs
from promptroute.runtime.stage import run_stage

OUT = Path("metrics/agreement.json")


def main() -> str:
    params = load_params()
    named = params["agreement"]["votes"]
    if named is None:
        write_json(OUT, {"answers": 0})
        return "agreement: no votes (agreement.votes is null)"
    if not isinstance(named, str):
        raise UserError(f"params.yaml: agreement.votes is {named!r}; expected the path of a file, or null")
    resamples = check_resamples(params["evaluate"]["resamples"], "params.yaml: evaluate.resamples")
    performance = read_table("data/performance.parquet", Performance, ("prompt_id", "model", "score"))
    prompts = read_table("data/prompts.parquet", Prompt)
    with Votes(Path(named)) as votes:
        answers, mode = votes.answers(), votes.mode
    sets = dict(zip(prompts["prompt_id"], prompts["set"], strict=True))
    try:
        found = measure(
            answers, mode, performance, study_outputs(params), sets, seed=params["seed"], resamples=resamples
        )
    except UserError as error:
        raise UserError(f"{named}: {error}") from error
    write_json(OUT, found, digits=4)
    return f"agreement: {found['answers']} answers by {found['raters']} people ({mode})"


if __name__ == "__main__":
    run_stage(main, __doc__)
