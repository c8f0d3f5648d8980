"""Which prompts are learnt from, which choose the knobs, and which judge."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from promptroute.core.errors import UserError
from promptroute.core.rows import SPLITS


def by_text(prompts: pd.DataFrame, shares: Sequence[float], seed: int) -> pd.DataFrame:
    """Split by unique prompt text, stratified by prompt set.

    Rows with the same text always fall on the same side. Texts are compared as they stand, but for white
    space at the ends and letter case: "A dog" and "a dog " are one text here. A text that several sets
    share counts for the set where it stands first. Rows may come in any order: it doesn't change who
    falls where.

    Args:
        prompts: `Prompt` rows.
        shares: of train, validation and test; they add up to 1.
        seed: of the draw.

    Returns:
        `SplitRow` rows, in the order of `prompts`.

    Raises:
        UserError: shares that aren't three positive numbers adding up to 1, or fewer unique texts than
            three in all.
    """
    numbers = isinstance(shares, Sequence) and all(isinstance(share, int | float) for share in shares)
    if not numbers or len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise UserError(
            f"split.shares: {shares}; expected three positive shares adding up to 1, as [0.8, 0.1, 0.1]"
        )
    ordered = prompts.assign(text=prompts["prompt"].str.strip().str.casefold()).sort_values("prompt_id")
    texts = ordered.drop_duplicates("text").sort_values("text")
    if len(texts) < 3:
        raise UserError(f"split: {len(texts)} unique prompt(s) can't be split in three; sample more prompts")
    random = np.random.default_rng(seed)
    side: dict[str, str] = {}
    # Each set is cut at the same shares of its own shuffled texts. The fraction that a cut leaves over is
    # carried to the next set, so that the whole has its shares too, however small the sets are.
    carried = np.zeros(2)
    for _, rows in texts.groupby("set", sort=True):
        shuffled = random.permutation(rows["text"].to_numpy())
        wanted = np.array(shares[1:]) * len(shuffled) + carried
        take = np.minimum(np.floor(wanted + 1e-9), len(shuffled)).astype(int)
        carried = wanted - take
        validation, test = take[0], min(take[1], len(shuffled) - take[0])
        side.update(dict.fromkeys(shuffled[:validation], "validation"))
        side.update(dict.fromkeys(shuffled[validation : validation + test], "test"))
        side.update(dict.fromkeys(shuffled[validation + test :], "train"))
    split = ordered["text"].map(side)
    return pd.DataFrame({"prompt_id": prompts["prompt_id"], "split": split.reindex(prompts.index)})


def by_row(prompts: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The split of CEMS's own code: 8 : 1 : 1 by row, stratified by prompt set.

    A fifth of the rows is drawn for validation and test, then halved, both by scikit-learn's
    `train_test_split` with the same seed. The order of the rows decides who falls where, so `prompts`
    must be in the published order. A text that stands twice can fall on both sides.

    Args:
        prompts: `Prompt` rows, in the published order.
        seed: `random_state` of both draws; 42 in the paper.

    Returns:
        `SplitRow` rows, in the order of `prompts`.

    Raises:
        UserError: a prompt set with too few rows to be stratified.
    """
    from sklearn.model_selection import train_test_split

    rows, sets = np.arange(len(prompts)), prompts["set"].to_numpy()
    try:
        train, rest = train_test_split(rows, test_size=0.2, stratify=sets, random_state=seed)
        validation, test = train_test_split(rest, test_size=0.5, stratify=sets[rest], random_state=seed)
    except ValueError as error:
        raise UserError(
            f"split=cems: {str(error).rstrip('.')}; use split=by_text for small studies"
        ) from error
    split = np.empty(len(prompts), dtype=object)
    for name, index in zip(SPLITS, (train, validation, test), strict=True):
        split[index] = name
    return pd.DataFrame({"prompt_id": prompts["prompt_id"].to_numpy(), "split": split})
