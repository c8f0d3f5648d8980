"""Describe prompt sets (CEMS, Table 1)."""

import numpy as np
import pandas as pd

from promptroute.core.plain import Plain


def statistics(prompts: pd.DataFrame) -> dict[str, Plain]:
    """Count the prompts of each set, and their words.

    A row counts as often as its `count` says, so merging duplicates changes nothing here. Words are
    separated by white space; the standard deviation is that of the whole set (over n, not n - 1), as in Table 1.

    Args:
        prompts: `Prompt` rows.

    Returns:
        set → {prompts, duplicates, words: {mean, std, min, max}}, in the order in which sets first come.
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
