"""Prompts that the pipeline has read already."""

import json
from collections.abc import Sequence

import pandas as pd

from promptroute.core.rows import Prompt
from promptroute.io.sources import FileRead
from promptroute.io.tables import read_table
from promptroute.prompts.source import PromptSource


class StoredPrompts(PromptSource):
    """The rows of another source, as the stage `read` wrote them.

    Settings:
        path: of the parquet file, as data/sources/NAME.parquet.
    """

    path: str

    @property
    def has_own_ids(self) -> bool:
        """Tell whether the ids are those of the source itself."""
        return bool(json.loads(self._table().attrs["own_ids"]))

    def read(self) -> tuple[pd.DataFrame, Sequence[FileRead]]:
        """Read the rows; see `PromptSource.read`."""
        rows = self._table()
        files = [FileRead(**file) for file in json.loads(rows.attrs["files"])]
        rows.attrs = {}
        return rows, files

    def _table(self) -> pd.DataFrame:
        return read_table(self.path, Prompt, states=("files", "own_ids"))
