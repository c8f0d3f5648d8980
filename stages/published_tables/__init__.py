"""Published performance tables: scores that somebody else drew and measured, read as if they were ours."""

from stages.published_tables.prompts import PublishedPrompts
from stages.published_tables.table import PublishedTable, TableRead, check_same_prompts

__all__ = ["PublishedPrompts", "PublishedTable", "TableRead", "check_same_prompts"]
