"""Prompts on their way into a predictor, with their embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from promptroute.core.errors import UserError


@dataclass(frozen=True)
class PromptBatch:
    """Hold n prompts and the embeddings that text encoders have made of them.

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

    def vectors(self, encoder: str, width: int | None = None) -> np.ndarray:
        """Return an encoder's vectors, float32 [n, d].

        Args:
            encoder: its name.
            width: d, where it is known from the fit; None accepts any.

        Raises:
            UserError: the batch lacks them, or they have another width.
        """
        if encoder not in self.embeddings:
            raise UserError(
                f"there are no embeddings {encoder!r}, this batch has: "
                f"{', '.join(sorted(self.embeddings)) or 'none'}; encode the prompts with that text encoder, or choose "
                f"a predictor that needs none"
            )
        rows = self.embeddings[encoder]
        if width is not None and rows.shape[1] != width:
            raise UserError(
                f"embeddings {encoder!r} are {rows.shape[1]} wide, but the predictor was fitted on {width}; "
                f"use the text encoder that it was trained with"
            )
        return rows

    def take(self, index: np.ndarray) -> "PromptBatch":
        """Return the prompts at the integer positions `index`, in that order."""
        texts = [self.texts[i] for i in index]
        return PromptBatch(texts, {name: rows[index] for name, rows in self.embeddings.items()})

    def joined(self, other: "PromptBatch") -> "PromptBatch":
        """Return these prompts, then those of `other`.

        Raises:
            UserError: different encoders have encoded them.
        """
        if set(self.embeddings) != set(other.embeddings):
            raise UserError(
                f"embeddings {sorted(self.embeddings)} and {sorted(other.embeddings)} can't be joined; "
                f"encode both batches with the same encoders"
            )
        return PromptBatch(
            [*self.texts, *other.texts],
            {name: np.vstack([rows, other.embeddings[name]]) for name, rows in self.embeddings.items()},
        )
