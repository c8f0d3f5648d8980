"""The images behind the examples, with their scores, small enough for a page."""

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptroute.core.outputs import full_name
from promptroute.io.scores import read_scores

SIDE = 192  # pixels that a shown image has at most along each axis


@dataclass(frozen=True)
class Shown:
    """One image of an example.

    Attributes:
        seed: that it was drawn with.
        kind: `png` or `jpeg`.
        data: the file's bytes; None where the image failed.
        reason: why it failed.
        scores: score name → this image's score, in the score's own unit.
    """

    seed: int
    kind: str
    data: bytes | None
    reason: str | None
    scores: Mapping[str, float]


Drawn = Mapping[tuple[str, str], Sequence[Shown]]
"""(prompt_id, model) → its images, in order of seeds."""


def small(png: bytes, side: int = SIDE) -> tuple[str, bytes]:
    """A picture no larger than side × side: its kind and bytes. A smaller one stays as it is."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        if max(picture.size) <= side:
            return "png", png
        smaller = picture.convert("RGB")
    smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    smaller.save(out, "JPEG", quality=88)
    return "jpeg", out.getvalue()


def load_drawn(
    images: Path, scores: Path, models: Sequence[str], scorers: Sequence[str], prompt_ids: Collection[str]
) -> Drawn:
    """Read the images of some prompts, with what each image was scored.

    Args:
        images: data/images.
        scores: data/scores.
        models: that drew.
        scorers: whose scores to read; one that scores a prompt's images together says nothing of a single one.
        prompt_ids: of which prompts.

    Raises:
        UserError: a file is absent or torn.
    """
    from promptroute.io.images import images_of

    drawn: dict[tuple[str, str], list[Shown]] = {}
    for model in models:
        single: dict[tuple[str, int], dict[str, float]] = {}
        for scorer in scorers:
            rows = read_scores(scores / scorer / model, scorer, model)
            rows = rows[rows["prompt_id"].isin(prompt_ids) & rows["seed"].notna()]
            columns = (rows[name] for name in ("prompt_id", "seed", "output", "value"))
            for prompt_id, seed, output, value in zip(*columns, strict=True):
                single.setdefault((prompt_id, int(seed)), {})[full_name(scorer, output)] = float(value)
        for prompt_id, found in images_of(images / model, prompt_ids).items():
            drawn[prompt_id, model] = []
            for image in found:
                kind, data = small(image.image) if image.image else ("png", None)
                known = single.get((prompt_id, image.seed), {})
                drawn[prompt_id, model].append(Shown(image.seed, kind, data, image.reason, known))
    return drawn
