"""Embeddings of images and prompts through the cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.encoders.base import ImageEncoder, TextEncoder, encode_all
from promptroute.io.cache import CacheFile
from promptroute.io.embeddings import embeddings_table
from promptroute.io.files import sha256
from promptroute.io.images import read_shard
from promptroute.runtime.decoding import over_images
from promptroute.runtime.device import arithmetic, one_thread
from promptroute.runtime.shards import TableWork

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image as Pixels


class ImageShard(NamedTuple):
    """A shard of generated images.

    Attributes:
        path: data/images/MODEL/part-*.parquet.
        sha256: checksum of the file.
    """

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "ImageShard":
        """Name a shard by its path and content."""
        return cls(path, sha256(path))


class EmbedImages(TableWork[ImageShard]):
    """Embeds shards of one model's images; images that failed have no embedding."""

    def __init__(self, encoder: ImageEncoder, model: str) -> None:
        self.encoder, self.model = encoder, model
        self.fingerprint = encoder.fingerprint()

    def file(self, shard: ImageShard) -> CacheFile:
        """Name the cache's file of a shard's embeddings."""
        return CacheFile.of("embeddings", self.fingerprint, shard.sha256, about={"model": self.model})

    def make(self, shard: ImageShard) -> "pa.Table":
        """Embed a shard's images."""
        rows = [row for row in read_shard(shard.path) if row.image is not None]
        if not rows:
            raise UserError(f"{shard.path}: no image of it could be generated, so there is nothing to embed")
        vectors = np.stack(over_images(rows, self._encode, self.encoder.batch_size))
        return embeddings_table([row.prompt_id for row in rows], vectors, [row.seed for row in rows])

    def _encode(self, images: "list[Pixels]", rows: list[Image]) -> list[np.ndarray]:
        vectors = self.encoder.encode_images(images)
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ValueError("the encoder gave a value that is not finite")
        return list(vectors)


def embed_prompts(encoder: ImageEncoder, prompt_ids: Sequence[str], texts: Sequence[str]) -> Path:
    """Return the cache's file of the prompts' embeddings by an image encoder, each different text encoded once."""
    file = CacheFile.of(
        "prompt_embeddings", encoder.fingerprint(), list(prompt_ids), list(texts), "truncated"
    )
    if file.read() is None:
        unique = sorted(set(texts))
        at = {text: row for row, text in enumerate(unique)}
        size = encoder.batch_size
        rows = np.concatenate(
            [encoder.encode_texts(unique[start : start + size]) for start in range(0, len(unique), size)]
        )
        vectors = rows[[at[text] for text in texts]]
        file.write(embeddings_table(prompt_ids, vectors, truncated=encoder.truncated(texts)))
    return file.path


def encode_prompts(encoder: TextEncoder, prompt_ids: Sequence[str], texts: Sequence[str]) -> Path:
    """Return the cache's file of the prompts' embeddings by a text encoder."""
    by = {**encoder.fingerprint(), "arithmetic": arithmetic(encoder.device)}
    file = CacheFile.of("text", by, list(prompt_ids), list(texts), "truncated")
    if file.read() is None:
        with one_thread():
            vectors = encode_all(encoder, list(texts))
        file.write(embeddings_table(prompt_ids, vectors, truncated=encoder.truncated(texts)))
    return file.path
