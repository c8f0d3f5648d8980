"""The prompts that a published table has scores of."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from stages.published_tables.table import PublishedTable
from stages.records import Scorer
from stages.store import FileRead


@dataclass(frozen=True)
class PublishedPrompts:
    """A prompt source (see `stages.prompts`): every row of a published table, with its own id.

    Rows are kept as they stand, in the order of CEMS's own code: base part, then augmented. A text that
    stands in two rows stays two prompts with a count of 1 each, because each has scores of its own.

    Attributes:
        table: the published table.
        scorer, stem: the file to take the prompts from; every other is held against it where it is read.
    """

    table: PublishedTable
    scorer: str
    stem: str
    has_own_ids = True

    def read(self) -> tuple[pd.DataFrame, Sequence[FileRead]]:
        """`Prompt` rows in the table's order, and the files that they were read from.

        Raises:
            BadInput: where `PublishedTable.read` refuses the file; the score's range is not looked at here.
        """
        anything = Scorer(self.scorer, self.scorer, True, float("-inf"), float("inf"))
        read = self.table.read(anything, self.stem)
        return read.prompts, read.files
