"""Load the images behind the examples, with their scores, small enough for a page."""

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptroute.core.image import Image, to_rgb
from promptroute.core.outputs import full_name
from promptroute.io.scores import read_scores
from promptroute.runtime.decoding import open_image

SIDE = 192
"""Pixels that a shown image has at most along each axis."""


@dataclass(frozen=True)
class ExampleImage:
    """An image of an example.

    Attributes:
        seed: that it was generated with.
        kind: `png` or `jpeg`.
        data: the file's bytes; None where the image failed.
        reason: why it failed.
        scores: a score's full name → this image's score, in the score's own unit.
    """

    seed: int
    kind: str
    data: bytes | None
    reason: str | None
    scores: Mapping[str, float]


Images = Mapping[tuple[str, str], Sequence[ExampleImage]]
"""(prompt_id, model) → its images, in order of seeds."""


def small(row: Image, side: int = SIDE) -> tuple[str, bytes]:
    """Return the kind and bytes of an image no larger than side × side pixels; a smaller PNG stays as it is.

    Raises:
        UserError: its bytes are no image.
    """
    from PIL.Image import Resampling

    opened = open_image(row)
    if max(opened.size) <= side and opened.format == "PNG":
        return "png", row.image or b""
    smaller = to_rgb(opened)
    smaller.thumbnail((side, side), Resampling.LANCZOS)
    out = io.BytesIO()
    smaller.save(out, "JPEG", quality=88)
    return "jpeg", out.getvalue()


def load_images(
    images: Path, scores: Path, models: Sequence[str], scorers: Sequence[str], prompt_ids: Collection[str]
) -> Images:
    """Read the images of some prompts, with the scores of each image.

    Args:
        images: data/images.
        scores: data/scores.
        models: that generated.
        scorers: whose scores to read; a score of all images of a prompt says nothing of a single image.
        prompt_ids: of which prompts.

    Raises:
        UserError: a file is absent or corrupt.
    """
    from promptroute.io.images import images_of

    loaded: dict[tuple[str, str], list[ExampleImage]] = {}
    for model in models:
        single: dict[tuple[str, int], dict[str, float]] = {}
        for scorer in scorers:
            for key, name, value in _scores(scores, scorer, model, prompt_ids):
                single.setdefault(key, {})[name] = value
        for prompt_id, found in images_of(images / model, prompt_ids).items():
            loaded[prompt_id, model] = []
            for image in found:
                kind, data = small(image) if image.image else ("png", None)
                known = single.get((prompt_id, image.seed), {})
                loaded[prompt_id, model].append(ExampleImage(image.seed, kind, data, image.reason, known))
    return loaded


def _scores(
    scores: Path, scorer: str, model: str, prompt_ids: Collection[str]
) -> list[tuple[tuple[str, int], str, float]]:
    """Read a scorer's scores of single images: (prompt_id, seed), full name, value."""
    rows = read_scores(scores / scorer / model, scorer, model)
    rows = rows[rows["prompt_id"].isin(prompt_ids) & rows["seed"].notna()]
    return [
        ((prompt_id, int(seed)), full_name(scorer, output), float(value))
        for prompt_id, seed, output, value in zip(
            rows["prompt_id"], rows["seed"], rows["output"], rows["value"], strict=True
        )
    ]
