"""Shards of images through an encoder or a scorer, each shard once."""

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.core.rows import Score
from promptroute.io.cache import cache_path
from promptroute.io.files import sha256
from promptroute.io.tables import write_table
from promptroute.runtime.batching import Failure, in_batches
from promptroute.scorers.base import PixelScorer

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    Process = Callable[[Sequence[Picture]], np.ndarray]

SCORE_KEY = ("prompt_id", "seed")


def drawn(rows: Iterable[Image]) -> list[Image]:
    """The rows that hold a picture."""
    return [row for row in rows if row.image is not None]


def open_picture(row: Image) -> "Picture":
    """Decode an image.

    Raises:
        UserError: its bytes are no picture.
    """
    from PIL import Image as Pillow

    try:
        picture = Pillow.open(io.BytesIO(row.image or b""))
        picture.load()
    except OSError as error:
        raise UserError(
            f"data/images/{row.model}: the image of prompt {row.prompt_id}, seed {row.seed} can't be read ({error}); "
            f"delete cache/images and data/images/{row.model}, and run `dvc repro`"
        ) from error
    return picture


class Ahead:
    """Pictures of rows, decoded by other threads before they are asked for, so that the models needn't wait.

    Args:
        rows: what to decode.
        pool: the threads.
        ahead: how many pictures more than those asked for are under way.
    """

    def __init__(self, rows: Sequence[Image], pool: Executor, ahead: int) -> None:
        self._rows, self._pool, self._ahead = rows, pool, ahead
        self._under_way: dict[int, Future[Picture]] = {}

    def __call__(self, positions: Sequence[int]) -> "list[Picture]":
        """The pictures at positions in rising order; those before the first are forgotten.

        Raises:
            UserError: as `open_picture`.
        """
        first, last = positions[0], positions[-1]
        for passed in [position for position in self._under_way if position < first]:
            del self._under_way[passed]
        for position in range(first, min(last + 1 + self._ahead, len(self._rows))):
            if position not in self._under_way:
                self._under_way[position] = self._pool.submit(open_picture, self._rows[position])
        return [self._under_way[position].result() for position in positions]


def over_images(rows: Sequence[Image], models: "Sequence[Process]", batch_size: int) -> list[np.ndarray]:
    """Run models over the pictures of `rows`, batch by batch: each picture is decoded once, for all of them.

    Out of memory halves the batch.

    Args:
        rows: n rows with pictures.
        models: each takes one batch of pictures → [batch, …] numbers.
        batch_size: pictures per batch.

    Returns:
        For each model [n, …].

    Raises:
        UserError: a picture that can't be read, or on which a model fails; or a value that is not finite.
    """
    found: list[list[np.ndarray]] = [[] for _ in models]
    with ThreadPoolExecutor() as pool:
        pictures = Ahead(rows, pool, batch_size)

        def process(positions: Sequence[int]) -> list[tuple[np.ndarray, ...]]:
            batch = pictures(positions)
            return list(zip(*(model(batch) for model in models), strict=True))

        for position, result in in_batches(range(len(rows)), process, batch_size):
            if isinstance(result, Failure):
                raise _unscored(rows[position], result.reason)
            if not all(np.isfinite(values).all() for values in result):
                raise _unscored(rows[position], "a value that is not finite")
            for values, one in zip(found, result, strict=True):
                values.append(one)
    return [np.array(values) for values in found]


def _unscored(row: Image, reason: str) -> UserError:
    return UserError(
        f"data/images/{row.model}: the image of prompt {row.prompt_id}, seed {row.seed} can't be scored ({reason})"
    )


def kept_scores(scorer: PixelScorer, shard: Path) -> Path:
    """Where the scores of a shard's images are kept, for whoever needs them next."""
    return cache_path("scores", scorer.fingerprint_parts, sha256(shard))


def write_scores(path: Path, rows: Sequence[Image], scores: np.ndarray) -> None:
    """Keep the scores float64 [n] of n images."""
    ids, seeds = [row.prompt_id for row in rows], [row.seed for row in rows]
    write_table(path, score_rows(ids, seeds, scores, 1), Score, SCORE_KEY)


def score_rows(ids: Any, seeds: Any, scores: np.ndarray, images: Any) -> pd.DataFrame:
    """`Score` rows: of prompts `ids`, of `seeds` (None: over all of a prompt's images) and of so many images."""
    frame = pd.DataFrame({"prompt_id": list(ids), "score": np.asarray(scores, np.float64), "images": images})
    frame["seed"] = pd.array([None] * len(frame) if seeds is None else list(seeds), "Int64")
    frame["seconds"] = pd.array([None] * len(frame), "Float64")
    return frame
