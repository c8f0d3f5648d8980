"""Stored images, decoded ahead of the models that look at them."""

import io
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING

from promptroute.core.errors import UserError
from promptroute.core.image import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Decoded


def decode(row: Image) -> "Decoded":
    """Decode an image.

    Raises:
        UserError: its bytes are no image.
    """
    from PIL import Image as Pillow

    try:
        image = Pillow.open(io.BytesIO(row.image or b""))
        image.load()
    except OSError as error:
        raise UserError(
            f"data/images/{row.model}: the image of prompt {row.prompt_id}, seed {row.seed} can't be read ({error}); "
            f"delete cache/images and data/images/{row.model}, and generate it again"
        ) from error
    return image


class DecodedAhead:
    """Images of rows, decoded by other threads before they are asked for, so that the models needn't wait.

    Args:
        rows: what to decode.
        pool: the threads.
        ahead: how many images more than those asked for are in progress.
    """

    def __init__(self, rows: Sequence[Image], pool: Executor, ahead: int) -> None:
        self._rows, self._pool, self._ahead = rows, pool, ahead
        self._in_progress: dict[int, Future[Decoded]] = {}

    def __call__(self, positions: Sequence[int]) -> "list[Decoded]":
        """Return the images at positions in rising order; those before the first are forgotten.

        Raises:
            UserError: as `decode`.
        """
        first, last = positions[0], positions[-1]
        for passed in [position for position in self._in_progress if position < first]:
            del self._in_progress[passed]
        for position in range(first, min(last + 1 + self._ahead, len(self._rows))):
            if position not in self._in_progress:
                self._in_progress[position] = self._pool.submit(decode, self._rows[position])
        return [self._in_progress[position].result() for position in positions]
