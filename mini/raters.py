"""Let the checker vote, as a person who sees every attribute: data/images → a file of votes on pairs.

    python -m mini.raters checker.sqlite
    dvc exp run -S agreement.votes=checker.sqlite

Run after the default study. The better of two models on a prompt is the one whose images show more of the stated attributes,
over all seeds; equal shares are a tie. So the agreement of each score with these votes says how far it can stand in for
somebody who looks at nothing but what the prompt states.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from mini.feedback.transfer import read_table
from promptroute.core.votes import Answer
from promptroute.evaluation.design import is_swapped
from promptroute.io.votes import Asked, Votes, add_all
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage
from promptroute.service.people.study import open_gallery

RATER = "checker"
TIME = "2000-01-01T00:00:00Z"  # the checker's votes are the same whenever it votes


def votes(asked: Asked, right: Mapping[tuple[str, str], float], rater: str = RATER) -> Iterator[Answer]:
    """Vote on every task of a study.

    Args:
        asked: pairs of models.
        right: (prompt_id, model) → how good its images are, higher is better.
        rater: who votes.
    """
    for task, subject in asked.subjects.items():
        lead = right[subject.prompt_id, subject.models[0]] - right[subject.prompt_id, subject.models[1]]
        swapped = is_swapped(task, rater, asked.seed)
        side = "tie" if abs(lead) < 1e-9 else "left" if (lead > 0) != swapped else "right"
        yield Answer(task, rater, side, swapped, 0, TIME)


def main(out: str) -> str:
    models = load_params()["models"]
    table = read_table(list(models)).groupby(["prompt_id", "model"], as_index=False)["share"].mean()
    columns = table["prompt_id"].astype(str), table["model"].astype(str), table["share"].astype(float)
    share = {(prompt, model): right for prompt, model, right in zip(*columns, strict=True)}
    gallery = open_gallery(Path("data"), models, question="alignment")
    with Votes(Path(out), gallery.asked) as kept:
        new, known = add_all(kept, votes(gallery.asked, share))
    return f"raters: {new} votes by the {RATER} in {out}, {known} were there already"


if __name__ == "__main__":
    run_stage(main, __doc__, "FILE")
