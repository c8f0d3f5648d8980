"""The prompts that a published table has scores of."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from promptroute.core.outputs import Output
from promptroute.io.published import PublishedTable
from promptroute.io.sources import FileRead


@dataclass(frozen=True)
class PublishedPrompts:
    """A prompt source (see `promptroute.prompts`): every row of a published table, with its own id.

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
            UserError: where `PublishedTable.read` refuses the file; the score's range is not looked at here.
        """
        read = self.table.read(self.scorer, Output("any", self.scorer), self.stem)
        return read.prompts, read.files
