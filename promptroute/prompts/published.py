"""Prompts of a published table, and of a tidy one."""

from collections.abc import Sequence

import pandas as pd

from promptroute.core.outputs import Output
from promptroute.core.plain import Section
from promptroute.io.published import PublishedTable
from promptroute.io.sources import FileRead
from promptroute.io.tidy import TidyTable
from promptroute.prompts.source import PromptSource


class PublishedPrompts(PromptSource):
    """The prompts of a published table: every row, with its own id.

    Rows are kept in the order of CEMS's own code: base part, then augmented. A text of two rows stays two
    prompts with a count of 1 each, because each has scores of its own.

    Settings:
        table: the published table.
        scorer, stem: the file to take the prompts from; every other is compared with it where it is read.
    """

    table: PublishedTable
    scorer: str
    stem: str

    @property
    def has_own_ids(self) -> bool:
        """Tell that they come with the table."""
        return True

    @classmethod
    def reads(cls, section: Section) -> str | None:
        """Name the table's file."""
        return PublishedTable.reads(
            {**section["table"], "scorer": section["scorer"], "stem": section["stem"]}
        )

    def read(self) -> tuple[pd.DataFrame, Sequence[FileRead]]:
        """Read `Prompt` rows in the table's order, and name the files.

        Raises:
            UserError: where `PublishedTable.read` refuses the file; the score's range is not looked at here.
        """
        read = self.table.read(self.scorer, Output("any", self.scorer), self.stem)
        return read.prompts, read.files


class TidyPrompts(PromptSource):
    """The prompts of a tidy table, each with its own id: a text in two rows stays two prompts.

    Settings:
        table: the tidy table.
    """

    table: TidyTable

    @property
    def has_own_ids(self) -> bool:
        """Tell that they come with the table."""
        return True

    @classmethod
    def reads(cls, section: Section) -> str | None:
        """Name the file of prompts; of votes the one file."""
        return section["table"].get("prompts") or section["table"].get("votes")

    def read(self) -> tuple[pd.DataFrame, Sequence[FileRead]]:
        """Read `Prompt` rows in the file's order; see `TidyTable.prompt_rows`."""
        return self.table.prompt_rows()
