"""What a source of prompts is."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from promptroute.core.component import Component
from promptroute.io.sources import FileRead

if TYPE_CHECKING:
    import pandas as pd


class PromptSource(Component):
    """A place that prompts come from."""

    @property
    def has_own_ids(self) -> bool:
        """Tell whether its ids are known elsewhere (as in a published table), and so must stay."""
        return False

    @abstractmethod
    def read(self) -> "tuple[pd.DataFrame, Sequence[FileRead]]":
        """Read `Prompt` rows in the source's order.

        Returns:
            The rows, and the files that they were read from.

        Raises:
            UserError: naming file, line and fix.
        """
