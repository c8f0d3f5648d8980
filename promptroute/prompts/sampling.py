"""Sample a study's prompts: which, in which order, under which ids."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import pandas as pd

from promptroute.core.errors import UserError
from promptroute.core.rows import Prompt, check
from promptroute.prompts.source import PromptSource

PREFIX = "P"
WIDTH = 7
"""Digits of a made id. Not taken from how many prompts there are, so that growing a study renames none."""


def sample(sources: Sequence[PromptSource], n: int | None = None, seed: int | None = 0) -> pd.DataFrame:
    """Take prompts from the sources: all, or n.

    With a seed, prompts come in a random order which depends on their sets, their texts (and their own ids),
    and the seed, never on the order of sources and rows. Each set is spread evenly over it, so that any
    first part holds the sets in proportion, to within a few prompts. Without one they come in the
    sources' order. Either way n takes the first n: a sample of n is a prefix of the sample of n + k.

    Ids stay where every source has its own. Else each row gets `PREFIX` and its number in the sample, so
    that ids are unique, of one width, and sort in sampling order.

    Args:
        sources: where prompts come from; texts that two sources share stay two prompts.
        n: how many rows; None: all.
        seed: of the random order; None: the sources' order, for all prompts only.

    Returns:
        `Prompt` rows in sampling order. `attrs["sources"]` is JSON: [{path, sha256, rows}] of the files read;
        `attrs["order"]` is "sources" or "random".

    Raises:
        UserError: no source, an n that is below 1 or above what there is, an n without a seed, or an id
            that two sources share.
    """
    if not sources:
        raise UserError("prompts.sources is empty; give at least one source of prompts")
    if n is not None and seed is None:
        raise UserError(f"prompts.n={n}: a random sample needs a seed; give prompts.seed too")
    read = [source.read() for source in sources]
    rows = pd.concat([frame for frame, _ in read], ignore_index=True)
    own_ids = all(source.has_own_ids for source in sources)
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= len(rows)):
        raise UserError(
            f"prompts.n={n}: the sources hold {len(rows)} prompts; give 1 to {len(rows)}, or null for all"
        )
    if seed is not None:
        rows = rows.iloc[_random_order(rows, seed, own_ids)]
    rows = rows.head(len(rows) if n is None else n).reset_index(drop=True)
    if not own_ids:
        rows["prompt_id"] = [f"{PREFIX}{number:0{WIDTH}d}" for number in range(1, len(rows) + 1)]
    check(rows, Prompt, "prompts.sources together")
    rows.attrs["sources"] = json.dumps([dataclasses.asdict(file) for _, files in read for file in files])
    rows.attrs["order"] = "sources" if seed is None else "random"
    return rows


def _random_order(rows: pd.DataFrame, seed: int, own_ids: bool) -> list[int]:
    """Give the positions of the rows in random order.

    Within a set, rows stand by a hash of the seed and what they are: a random order that more or fewer
    other rows don't change. The i-th of a set's m rows then stands at (i + 1/2) / m of the whole.
    """
    # Made ids say where a row stood, so only ids that came with the rows tell them apart.
    columns = ["set", "prompt", *(["prompt_id"] if own_ids else [])]
    keys = [
        hashlib.sha256("\x00".join((str(seed), *parts)).encode()).hexdigest()
        for parts in zip(*(rows[name] for name in columns), strict=True)
    ]
    keyed = pd.DataFrame({"set": rows["set"].to_numpy(), "key": keys})
    groups = keyed.groupby("set")["key"]
    keyed["place"] = (groups.rank(method="first") - 0.5) / groups.transform("size")
    return keyed.sort_values(["place", "set", "key"]).index.to_list()
