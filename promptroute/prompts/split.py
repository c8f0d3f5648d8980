"""Split the prompts: which are learnt from, which set the operating point, and which judge."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.core.rows import SPLITS


class Split(Component):
    """A way to split prompts into train, validation and test."""

    @abstractmethod
    def split(self, prompts: pd.DataFrame) -> pd.DataFrame:
        """Give `SplitRow` rows, in the order of `prompts` (`Prompt` rows).

        Raises:
            UserError: these prompts can't be split so.
        """


class ByText(Split):
    """A split by unique prompt text, stratified by prompt set.

    Rows with the same text always get the same split. Texts are compared but for white space at the ends and
    letter case: "A dog" and "a dog " are one text here. A text that several sets share counts for the set in which
    it comes first. Rows may come in any order: it doesn't change the split.

    Settings:
        shares: of train, validation and test, above 0; they add up to 1.
        seed: of the random order within each set.
    """

    shares: Sequence[float] = (0.8, 0.1, 0.1)
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if len(self.shares) != 3 or min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-9:
            raise UserError(
                f"shares is {list(self.shares)}; expected three shares above 0 that add up to 1, as [0.8, 0.1, 0.1]"
            )
        return self

    def split(self, prompts: pd.DataFrame) -> pd.DataFrame:
        """See `Split.split`. Raises UserError for fewer than three unique texts."""
        ordered = prompts.assign(text=prompts["prompt"].str.strip().str.casefold()).sort_values("prompt_id")
        texts = ordered.drop_duplicates("text").sort_values("text")
        if len(texts) < 3:
            raise UserError(f"{len(texts)} unique prompt(s) can't be split in three; sample more prompts")
        random = np.random.default_rng(self.seed)
        side: dict[str, str] = {}
        # Each set is cut at the same shares of its own shuffled texts. The fraction that a cut leaves over is
        # carried to the next set, so that the whole has its shares too, however small the sets are.
        carried = np.zeros(2)
        for _, rows in texts.groupby("set", sort=True):
            shuffled = random.permutation(rows["text"].to_numpy())
            wanted = np.array(self.shares[1:]) * len(shuffled) + carried
            take = np.minimum(np.floor(wanted + 1e-9), len(shuffled)).astype(int)
            carried = wanted - take
            validation, test = take[0], min(take[1], len(shuffled) - take[0])
            side.update(dict.fromkeys(shuffled[:validation], "validation"))
            side.update(dict.fromkeys(shuffled[validation : validation + test], "test"))
            side.update(dict.fromkeys(shuffled[validation + test :], "train"))
        split = ordered["text"].map(side)
        return pd.DataFrame({"prompt_id": prompts["prompt_id"], "split": split.reindex(prompts.index)})


class ByRow(Split):
    """The split of CEMS's own code: 8 : 1 : 1 by row, stratified by prompt set.

    A fifth of the rows goes to validation and test, then is halved, both by scikit-learn's `train_test_split`
    with the same seed. The order of the rows decides the split, so `prompts` must be in the published order. A text
    of two rows can be in two splits: use it to reproduce the paper's protocol, and for nothing else.

    Settings:
        seed: `random_state` of both; 42 in the paper.
    """

    seed: int = Field(42, ge=0, lt=2**32)

    def split(self, prompts: pd.DataFrame) -> pd.DataFrame:
        """See `Split.split`. Raises UserError for a set with too few rows, or prompts in random order."""
        if prompts.attrs.get("order") == "random":
            raise UserError(
                "a split by row needs the prompts in their published order, but they were sampled in random order; "
                "set prompts.seed to null, or split by text"
            )
        from sklearn.model_selection import train_test_split

        rows, sets = np.arange(len(prompts)), prompts["set"].to_numpy()
        try:
            train, rest = train_test_split(rows, test_size=0.2, stratify=sets, random_state=self.seed)
            validation, test = train_test_split(
                rest, test_size=0.5, stratify=sets[rest], random_state=self.seed
            )
        except ValueError as error:
            reason = str(error).rstrip(".")
            raise UserError(
                f"{len(prompts)} prompts can't be split by row ({reason}); split small studies by text"
            ) from error
        split = np.empty(len(prompts), dtype=object)
        for name, index in zip(SPLITS, (train, validation, test), strict=True):
            split[index] = name
        return pd.DataFrame({"prompt_id": prompts["prompt_id"].to_numpy(), "split": split})
