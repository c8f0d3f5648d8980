"""Embeddings of images and prompts through the cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.encoders.base import ImageEncoder, TextEncoder, encode_all
from promptroute.io.cache import CacheFile
from promptroute.io.embeddings import embeddings_table, prompt_inputs, rows_of
from promptroute.io.files import sha256
from promptroute.io.images import read_shard
from promptroute.runtime.decoding import over_images
from promptroute.runtime.device import arithmetic, one_thread
from promptroute.runtime.executors import Executor, InProcess
from promptroute.runtime.shards import TableWork, run

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


Texts = tuple[str, ...]
RUN = 2048
"""Texts that are encoded at a time, rounded up to whole batches; what a kill costs."""


class EncodeTexts(TableWork[Texts]):
    """Embeds runs of texts, one row each, with what the encoder cut off.

    Args:
        encoder: of texts, or of images and prompts.
        kind: folder of the cache.
    """

    def __init__(self, encoder: TextEncoder | ImageEncoder, kind: str) -> None:
        self.encoder, self.kind = encoder, kind
        # An image encoder's own says it already.
        self.fingerprint = {**encoder.fingerprint(), "arithmetic": arithmetic(encoder.device)}

    def file(self, shard: Texts) -> CacheFile:
        """Name the cache's file of a run of texts."""
        return CacheFile.of(self.kind, self.fingerprint, list(shard), "run")

    def size(self, shard: Texts) -> int:
        """Return the number of texts."""
        return len(shard)

    def make(self, shard: Texts) -> "pa.Table":
        """Embed a run of texts."""
        texts, size = list(shard), self.encoder.batch_size
        if isinstance(self.encoder, TextEncoder):
            with one_thread():
                vectors = encode_all(self.encoder, texts, progress=False)
        else:
            runs = range(0, len(texts), size)
            vectors = np.concatenate(
                [self.encoder.encode_texts(texts[start : start + size]) for start in runs]
            )
        rows = [str(row) for row in range(len(texts))]
        return embeddings_table(rows, vectors, truncated=self.encoder.truncated(texts))

    def table(self, shard: Texts) -> "pa.Table":
        """Read a run of texts; make it, should another process have tidied it away."""
        found = self.file(shard).read()
        return self.make(shard) if found is None else found


def embed_prompts(
    encoder: ImageEncoder,
    prompt_ids: Sequence[str],
    texts: Sequence[str],
    executor: Executor | None = None,
) -> Path:
    """Return the cache's file of the prompts' embeddings by an image encoder; see `encode_prompts`."""
    unique = sorted(set(texts))
    return _encoded(EncodeTexts(encoder, "prompt_embeddings"), prompt_ids, texts, unique, executor)


def encode_prompts(
    encoder: TextEncoder,
    prompt_ids: Sequence[str],
    texts: Sequence[str],
    executor: Executor | None = None,
) -> Path:
    """Return the cache's file of the prompts' embeddings by a text encoder, each different text encoded once.

    Args:
        encoder: the encoder.
        prompt_ids, texts: [n].
        executor: where runs of texts are encoded; in this process where None. A killed pass goes on with the next run.
    """
    unique = sorted(set(texts), key=lambda text: (-len(text), text))
    return _encoded(EncodeTexts(encoder, "text"), prompt_ids, texts, unique, executor)


def _encoded(
    work: EncodeTexts,
    prompt_ids: Sequence[str],
    texts: Sequence[str],
    unique: Sequence[str],
    executor: Executor | None,
) -> Path:
    """Encode the `unique` texts, in runs of whole batches: so each batch is the same, however many runs there are."""
    kept = CacheFile.of(work.kind, work.fingerprint, *prompt_inputs(prompt_ids, texts))
    if kept.read() is None:
        size = -(-RUN // work.encoder.batch_size) * work.encoder.batch_size
        shards = [tuple(unique[start : start + size]) for start in range(0, len(unique), size)]
        run(work, shards, executor or InProcess(), "encode", "text")
        runs = [work.table(shard) for shard in shards]
        kept.write(_in_order(runs, unique, prompt_ids, texts))
        for shard in shards:
            work.path(shard).unlink(missing_ok=True)
    return kept.path


def _in_order(
    runs: "Sequence[pa.Table]", unique: Sequence[str], prompt_ids: Sequence[str], texts: Sequence[str]
) -> "pa.Table":
    """Give each prompt its text's row."""
    at = {text: row for row, text in enumerate(unique)}
    order = np.array([at[text] for text in texts])
    vectors = np.concatenate([rows_of(table.column("embedding")) for table in runs])
    cut = [tokens for table in runs for tokens in table.column("truncated").to_pylist()]
    return embeddings_table(prompt_ids, vectors[order], truncated=[cut[row] for row in order])
