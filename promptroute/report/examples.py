"""Choose prompts that show what the router does, by a rule: same result, same examples."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from promptroute.core.errors import UserError
from promptroute.report.result import Result


@dataclass(frozen=True)
class Example:
    """A prompt with its m models' quality (higher is better).

    Attributes:
        group: why it is shown, a key of `GROUPS`.
        prompt: its text, as it came: untrusted.
        set: prompt set.
        predicted, observed: quality of each model; a prediction may be NaN.
        chosen, best: columns.
        gain: observed quality of the choice less that of the best single model.
        saving: cost of the choice relative to that of the best single model, less 1.
    """

    group: str
    prompt_id: str
    prompt: str
    set: str
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    chosen: int
    best: int
    gain: float
    saving: float


GROUPS = {
    "savings": ("Largest savings", "The cheapest choices that lost nothing against the best single model."),
    "gains": (
        "Largest gains",
        "Another model than the best single model was chosen, and most quality was gained by it.",
    ),
    "losses": ("Largest losses", "Most quality was lost against the prompt's best model."),
    "sample": ("Random sample", "Chosen by a hash of the prompt's id: neither good nor bad examples."),
}
"""Why an example is shown: key → heading, rule."""


def pick(result: Result, prompts: pd.DataFrame, each: int = 5) -> list[Example]:
    """Pick examples: `each` of every group in `GROUPS`, no prompt twice.

    Args:
        result: what was measured.
        prompts: `Prompt` rows, at least those of the result.
        each: how many of a group; fewer where fewer fit. The random sample fills up to 4 · `each` in all.

    Raises:
        UserError: a prompt of the result is not among `prompts`.
    """
    texts = prompts.set_index("prompt_id")
    if missing := [i for i in result.prompt_ids if i not in texts.index]:
        raise UserError(
            f"data/prompts.parquet: no prompt {missing[0]}, which the result has; evaluate the router again"
        )
    rows = np.arange(len(result.prompt_ids))
    single, cost = result.best_single, result.cost
    got = result.got
    gain = got - result.observed[:, single]
    saving = result.paid / cost[single] - 1
    regret = result.observed.max(axis=1) - got
    hashes = [hashlib.sha256(str(i).encode()).hexdigest() for i in result.prompt_ids]
    ids = [str(i) for i in result.prompt_ids]
    # Rounded, so that the last bit of a sum doesn't decide; then by quality, then by id.
    rank = {
        "savings": (saving.round(9), -got.round(6), (saving < 0) & (gain >= 0)),
        "gains": (-gain.round(6), saving.round(9), gain > 0),
        "losses": (-regret.round(6), saving.round(9), regret > 0),
    }
    taken: dict[int, str] = {}
    for group, (first, second, fits) in rank.items():
        order = sorted(np.flatnonzero(fits).tolist(), key=lambda i: (first[i], second[i], ids[i]))
        taken |= dict.fromkeys([i for i in order if i not in taken][:each], group)
    left = sorted((i for i in rows.tolist() if i not in taken), key=lambda i: hashes[i])
    taken |= dict.fromkeys(left[: 4 * each - len(taken)], "sample")
    return [
        Example(
            group=group,
            prompt_id=ids[i],
            prompt=str(texts.at[result.prompt_ids[i], "prompt"]),
            set=str(texts.at[result.prompt_ids[i], "set"]),
            predicted=tuple(result.predicted[i].tolist()),
            observed=tuple(result.observed[i].tolist()),
            chosen=int(result.chosen[i]),
            best=int(result.best[i]),
            gain=float(gain[i]),
            saving=float(saving[i]),
        )
        for i, group in taken.items()
    ]
