"""Load the images behind the examples, with their scores, small enough for a page."""

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from promptroute.core.image import Image, to_rgb
from promptroute.core.outputs import full_name
from promptroute.io.scores import FILES, Detail, read_details, read_scores
from promptroute.runtime.decoding import open_image

SIDE = 192
"""Pixels that a shown image has at most along each axis."""
VEIL = (213, 0, 109)
"""Colour of a map over an image: none of the small world's, and seen on dark and light."""


@dataclass(frozen=True)
class ExampleImage:
    """An image of an example.

    Attributes:
        seed: that it was generated with.
        kind: `png` or `jpeg`.
        data: the file's bytes; None where the image failed.
        reason: why it failed.
        scores: a score's full name → this image's score, in the score's own unit.
        maps: a map's full name → a PNG of any size to lay over the image: the higher, the less of the image is seen.
        marks: full name of marks → each word of the prompt, and its mark.
    """

    seed: int
    kind: str
    data: bytes | None
    reason: str | None
    scores: Mapping[str, float]
    maps: Mapping[str, bytes] = field(default_factory=dict)
    marks: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)


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
        details: dict[tuple[str, int | None], list[tuple[str, Detail]]] = {}
        for scorer in scorers:
            for name, detail in _details(scores, scorer, model, prompt_ids):
                details.setdefault((detail.prompt_id, detail.seed), []).append((name, detail))
        for prompt_id, found in images_of(images / model, prompt_ids).items():
            loaded[prompt_id, model] = []
            for image in found:
                kind, data = small(image) if image.image else ("png", None)
                known = single.get((prompt_id, image.seed), {})
                own = details.get((prompt_id, image.seed), [])
                maps = {name: _veil(one.values) for name, one in own if one.values.ndim == 2}
                marks = {
                    name: list(zip(one.words, one.values.tolist(), strict=True))
                    for name, one in own
                    if one.values.ndim == 1
                }
                loaded[prompt_id, model].append(
                    ExampleImage(image.seed, kind, data, image.reason, known, maps, marks)
                )
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


def _details(scores: Path, scorer: str, model: str, prompt_ids: Collection[str]) -> list[tuple[str, Detail]]:
    """Read a scorer's maps and marks of single images, each with its full name."""
    folder = scores / scorer / model
    return [
        (full_name(scorer, detail.output), detail)
        for stem, _ in FILES.values()
        for path in sorted(folder.glob(f"{stem}-*.parquet"))
        for detail in read_details(path, prompt_ids)
        if detail.seed is not None
    ]


def _veil(values: np.ndarray) -> bytes:
    """Turn a map, 0 to 1, into a PNG of one colour that is the less transparent, the higher the map."""
    from PIL import Image

    alpha = np.round(235 * np.clip(values, 0, 1)).astype(np.uint8)
    pixels = np.dstack([np.broadcast_to(np.uint8(part), alpha.shape) for part in VEIL] + [alpha])
    out = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(out, "PNG", optimize=True)
    return out.getvalue()
