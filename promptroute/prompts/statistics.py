"""What a prompt set is like (CEMS, Table 1)."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from promptroute.prompts.sampling import PromptSource


def statistics(prompts: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Size and length of each prompt set.

    A row counts as often as its `count` says, so merging duplicates changes nothing here. Words are what
    white space parts; the standard deviation is that of the whole set (over n, not n - 1), as in Table 1.

    Args:
        prompts: `Prompt` rows.

    Returns:
        set → {prompts, duplicates, words: {mean, std, min, max}}, in the order in which sets first stand.
        `duplicates` are the prompts beyond the first of each text.
    """
    described = {}
    for name, rows in prompts.groupby("set", sort=False):
        words = np.array([len(text.split()) for text in rows["prompt"]], dtype=np.float64)
        count = rows["count"].to_numpy(dtype=np.float64)
        mean = float(np.average(words, weights=count))
        described[str(name)] = {
            "prompts": int(count.sum()),
            "duplicates": int(count.sum()) - int(rows["prompt"].nunique()),
            "words": {
                "mean": mean,
                "std": float(np.sqrt(np.average((words - mean) ** 2, weights=count))),
                "min": int(words.min()),
                "max": int(words.max()),
            },
        }
    return described


def describe(source: PromptSource) -> dict[str, Any]:
    """Read a source and describe it.

    Returns:
        {prompts, duplicates, words} of a source of one set, as `statistics` gives them; of a source of
        several sets, {prompts, sets: {set: …}}. Either way `files`: [{path, sha256, rows}].

    Raises:
        UserError: where the source can't be read.
    """
    prompts, files = source.read()
    sets = statistics(prompts)
    if len(sets) == 1:
        described = next(iter(sets.values()))
    else:
        described = {"prompts": sum(one["prompts"] for one in sets.values()), "sets": sets}
    return {**described, "files": [dataclasses.asdict(file) for file in files]}
