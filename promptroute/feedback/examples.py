"""What the network learns from and is judged by: images, prompts, labels, scores and maps, as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from promptroute.core.errors import UserError
from promptroute.feedback.settings import NetworkSettings
from promptroute.feedback.texts import WordTokens, labelled, pad


@dataclass(frozen=True)
class Batch:
    """Examples, row for row.

    Attributes:
        pixel_values: float32 [b, 3, side, side] in -1..1.
        input_ids, lengths: int64 [b, t] prompts, padded with 0, and [b] their lengths.
        target_ids: int64 [b, l] labelled prompts, padded with 0; a row of 0 where there are no labels.
        scores: float32 [b, scores], 0..1, in the order of the settings; NaN where nobody gave one.
        heatmaps: float32 [b, heatmaps, side, side], 0..1; NaN where nobody gave one.
        task_ids: of the augmented variant: output → int64 [b, t] prompts with their task.
    """

    pixel_values: np.ndarray
    input_ids: np.ndarray
    lengths: np.ndarray
    target_ids: np.ndarray
    scores: np.ndarray
    heatmaps: np.ndarray
    task_ids: Mapping[str, np.ndarray] = field(default_factory=dict)


class Examples(Protocol):
    """A data set that gives any rows at any time."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def batch(self, rows: np.ndarray) -> Batch:
        """Return examples: int64 [b] → a batch."""
        ...

    def words(self, row: int) -> list[str]:
        """Return the words of an example's prompt."""
        ...

    def labels(self, row: int) -> np.ndarray | None:
        """Return which words the image misses, bool [words]; None where that isn't known."""
        ...


def text_ids(
    prompts: Sequence[Sequence[str]], tokens: WordTokens, settings: NetworkSettings
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Turn prompts into what the network reads: ids [n, t], lengths [n], and the augmented variant's ids with tasks."""
    ids, lengths = pad([tokens.ids(words) for words in prompts])
    tasks = {}
    if settings.variant == "augmented":
        for output in settings.outputs:
            task = settings.task(output).split()
            tasks[output] = pad([tokens.ids([*task, *words]) for words in prompts])[0]
    return ids, lengths, tasks


def make_batch(
    images: np.ndarray,
    prompts: Sequence[Sequence[str]],
    labels: Sequence[np.ndarray | None],
    scores: np.ndarray,
    heatmaps: np.ndarray,
    tokens: WordTokens,
    settings: NetworkSettings,
) -> Batch:
    """Put examples together.

    Args:
        images: uint8 [b, side, side, 3].
        prompts: [b] words.
        labels: [b] bool [words], or None.
        scores: [b, scores], NaN where there is none.
        heatmaps: uint8 (0..255) or float (0..1, NaN where there is none) [b, heatmaps, side, side].
        tokens: the tokenizer.
        settings: the network's.
    """
    ids, lengths, tasks = text_ids(prompts, tokens, settings)
    targets = [
        [] if marked is None else tokens.ids(labelled(words, marked))
        for words, marked in zip(prompts, labels, strict=True)
    ]
    maps = heatmaps.astype(np.float32) / (255 if heatmaps.dtype == np.uint8 else 1)
    return Batch(
        to_pixel_values(images), ids, lengths, pad(targets)[0], scores.astype(np.float32), maps, tasks
    )


def to_pixel_values(images: np.ndarray) -> np.ndarray:
    """Turn images into the ViT's input: uint8 [n, side, side, 3] → float32 [n, 3, side, side] in -1..1."""
    scaled = (images.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class ArrayExamples:
    """Examples whose arrays are in memory (or mapped from files).

    Attributes:
        images: uint8 [n, side, side, 3].
        prompts: [n] words.
        marks: [n] bool [words] which words the image misses; None where that isn't known.
        scores: float [n, scores].
        heatmaps: uint8 or float [n, heatmaps, map side, map side].
        tokens: the tokenizer.
        settings: the network's.

    Raises:
        UserError: numbers of rows differ, or sides are not the network's.
    """

    images: np.ndarray
    prompts: Sequence[Sequence[str]]
    marks: Sequence[np.ndarray | None]
    scores: np.ndarray
    heatmaps: np.ndarray
    tokens: WordTokens
    settings: NetworkSettings

    def __post_init__(self) -> None:
        n, side, maps = len(self.images), self.settings.image_side, self.settings.map_side
        for name, shape, expected in (
            ("images", self.images.shape, (n, side, side, 3)),
            ("scores", self.scores.shape, (n, len(self.settings.scores))),
            ("heatmaps", self.heatmaps.shape, (n, len(self.settings.heatmaps), maps, maps)),
            ("prompts", (len(self.prompts),), (n,)),
            ("marks", (len(self.marks),), (n,)),
        ):
            if shape != expected:
                raise UserError(f"{name} of the examples have shape {shape}; expected {expected}")

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: np.ndarray) -> Batch:
        """Return examples."""
        return make_batch(
            self.images[rows],
            [self.prompts[row] for row in rows],
            [self.marks[row] for row in rows],
            self.scores[rows],
            self.heatmaps[rows],
            self.tokens,
            self.settings,
        )

    def words(self, row: int) -> list[str]:
        """Return the words of an example's prompt."""
        return list(self.prompts[row])

    def labels(self, row: int) -> np.ndarray | None:
        """Return which words the image misses."""
        return self.marks[row]
