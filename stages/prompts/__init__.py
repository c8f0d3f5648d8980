"""Prompt sources, sampling, and what a prompt set is like."""

from stages.prompts.prompt_file import PromptFile
from stages.prompts.sampling import PromptSource, sample
from stages.prompts.statistics import describe, statistics

__all__ = ["PromptFile", "PromptSource", "describe", "sample", "statistics"]
