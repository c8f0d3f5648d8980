"""Images of a shard through a model, batch by batch, decoded by other threads before they are needed."""

import io
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from promptroute.core.errors import UserError, reason
from promptroute.core.image import Image
from promptroute.runtime.batching import Failure, in_batches

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels

Result = TypeVar("Result")


def over_images(
    rows: Sequence[Image],
    process: "Callable[[list[Pixels], list[Image]], Sequence[Result | Failure]]",
    batch_size: int,
) -> list[Result]:
    """Run a model over the images of `rows`, each decoded once. Out of memory halves the batch.

    Args:
        rows: n rows that hold images.
        process: one batch of decoded images, and their rows → a result for each.
        batch_size: images per batch.

    Returns:
        The n results, in order.

    Raises:
        UserError: an image can't be read, or the model fails on it; names the image.
    """
    results: list[Result] = []
    with ThreadPoolExecutor() as pool:
        images = _Prefetch(rows, pool, batch_size)

        def at(positions: Sequence[int]) -> Sequence[Result | Failure]:
            return process(images(positions), [rows[position] for position in positions])

        for position, result in in_batches(range(len(rows)), at, batch_size):
            if isinstance(result, Failure):
                row = rows[position]
                raise UserError(
                    f"the image of prompt {row.prompt_id}, seed {row.seed}, by {row.model} can't be used "
                    f"({result.reason})"
                )
            results.append(result)
    return results


def each(change: "Callable[[Pixels], Result]", images: "Sequence[Pixels]") -> list[Result]:
    """Change images on threads, in order: Pillow and numpy let go of the interpreter meanwhile.

    An image that is given twice is changed once, for Pillow reads a file when its pixels are first needed: two threads
    would read it at once.
    """
    once = {id(image): image for image in images}
    if len(once) == 1:
        return [change(image) for image in images]
    changed = dict(zip(once, _threads().map(change, once.values()), strict=True))
    return [changed[id(image)] for image in images]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="each")


def open_image(row: Image) -> "Pixels":
    """Decode an image.

    Raises:
        UserError: its bytes are no image.
    """
    from PIL import Image as Pillow

    try:
        image = Pillow.open(io.BytesIO(row.image or b""))
        image.load()
    except Exception as error:  # Pillow's decoders raise whatever they meet
        raise UserError(
            f"data/images/{row.model}: the image of prompt {row.prompt_id}, seed {row.seed} can't be read ({reason(error)}); "
            f"delete that folder and cache/images, and generate them again"
        ) from error
    return image


def read_image(path: Path) -> "Pixels":
    """Read a person's image file, whole.

    Raises:
        UserError: it is absent, no image, or absurdly large.
        OSError: it may not be read.
    """
    from PIL import Image as Pillow

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(path) as image:
                image.load()
                return image.copy()
    except Exception as error:  # Pillow's decoders raise whatever they meet
        if isinstance(error, OSError) and error.errno is not None:
            raise
        said = str(error).strip() or type(error).__name__
        raise UserError(
            f"{path}: can't be read as an image ({said}); give a PNG, JPEG or WebP file"
        ) from error


class _Prefetch:
    """Images of rows, decoded ahead.

    Args:
        rows: what to decode.
        pool: the threads.
        ahead: how many images more than those asked for are under way.
    """

    def __init__(self, rows: Sequence[Image], pool: Executor, ahead: int) -> None:
        self._rows, self._pool, self._ahead = rows, pool, ahead
        self._under_way: dict[int, Future[Pixels]] = {}

    def __call__(self, positions: Sequence[int]) -> "list[Pixels]":
        """Return the images at rising positions; those before the first are forgotten."""
        first, last = positions[0], positions[-1]
        for passed in [position for position in self._under_way if position < first]:
            del self._under_way[passed]
        for position in range(first, min(last + 1 + self._ahead, len(self._rows))):
            if position not in self._under_way:
                self._under_way[position] = self._pool.submit(open_image, self._rows[position])
        return [self._under_way[position].result() for position in positions]
