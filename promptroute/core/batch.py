"""Prompts on their way into a predictor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from promptroute.core.errors import UserError


@dataclass(frozen=True)
class PromptBatch:
    """n prompts with whatever text encoders have already made of them.

    Attributes:
        texts: the n prompts, as people wrote them.
        embeddings: encoder name → float32 [n, d of that encoder]. Row i belongs to `texts[i]`: whoever
            makes a batch has joined them by key.
    """

    texts: Sequence[str]
    embeddings: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, rows in self.embeddings.items():
            if rows.ndim != 2 or len(rows) != len(self.texts):
                raise UserError(f"embeddings {name!r} are {rows.shape}; expected [{len(self.texts)}, d]")

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: np.ndarray) -> "PromptBatch":
        """The prompts at the integer positions `index`, in that order."""
        texts = [self.texts[i] for i in index]
        return PromptBatch(texts, {name: rows[index] for name, rows in self.embeddings.items()})

    def joined(self, other: "PromptBatch") -> "PromptBatch":
        """These prompts, then those of `other`.

        Raises:
            UserError: they have been encoded by different encoders.
        """
        if set(self.embeddings) != set(other.embeddings):
            raise UserError(
                f"embeddings {sorted(self.embeddings)} and {sorted(other.embeddings)} can't be joined; "
                f"encode both batches alike"
            )
        return PromptBatch(
            [*self.texts, *other.texts],
            {name: np.vstack([rows, other.embeddings[name]]) for name, rows in self.embeddings.items()},
        )
