"""Shards of images through an encoder or a scorer, each shard once."""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stages.records import BadInput
from stages.records.image import Image
from stages.runtime.batching import Failure, in_batches

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def drawn(rows: Iterable[Image]) -> list[Image]:
    """The rows that hold a picture."""
    return [row for row in rows if row.image is not None]


def open_picture(row: Image) -> "Picture":
    """Decode an image.

    Raises:
        BadInput: its bytes are no picture.
    """
    from PIL import Image as Pillow

    try:
        picture = Pillow.open(io.BytesIO(row.image or b""))
        picture.load()
    except OSError as error:
        raise BadInput(
            f"data/images/{row.model}: the image of prompt {row.prompt_id}, seed {row.seed} can't be read ({error}); "
            f"delete scratch/images and data/images/{row.model}, and run `dvc repro`"
        ) from error
    return picture


def over_images(
    rows: Sequence[Image], process: Callable[[Sequence["Picture"]], np.ndarray], batch_size: int
) -> np.ndarray:
    """Run a model over the pictures of `rows`, batch by batch; out of memory halves the batch.

    Args:
        rows: n rows with pictures.
        process: one batch of pictures → [batch, …] numbers.
        batch_size: pictures per batch.

    Returns:
        [n, …].

    Raises:
        BadInput: a picture that can't be read, or on which `process` fails; or a value that is not finite.
    """
    results = []
    for row, result in in_batches(
        rows, lambda batch: list(process([open_picture(row) for row in batch])), batch_size
    ):
        if isinstance(result, Failure) or not np.isfinite(result).all():
            reason = result.reason if isinstance(result, Failure) else "a value that is not finite"
            raise BadInput(
                f"data/images/{row.model}: the image of prompt {row.prompt_id}, seed {row.seed} can't be scored ({reason})"
            )
        results.append(result)
    return np.array(results)
