"""Encode sentences without a network: by the mean of vectors that a network gave to single tokens."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from promptroute.core.axes import leading_axes
from promptroute.core.errors import UserError, reason
from promptroute.core.plain import Section
from promptroute.encoders.base import TextEncoder
from promptroute.encoders.sentence import SentenceEncoder
from promptroute.encoders.tokens import Unreadable, read_tokenizer, tokenize
from promptroute.io.cache import cache_path
from promptroute.io.files import atomic_path, read_json, write_json

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

FACTS, VECTORS, TOKENIZER = "encoder.json", "tokens.safetensors", "tokenizer.json"
BATCH = 256  # tokens that the teacher sees at a time


@dataclass(frozen=True)
class Table:
    """Hold a vector and a weight for each token, and the tokenizer that makes the tokens.

    Attributes:
        vectors: float16 [v, d]; weights: float32 [v], above 0, up to 1.
        tokenizer: its JSON, as the tokenizers library writes it.
    """

    vectors: np.ndarray
    weights: np.ndarray
    tokenizer: str

    def save(self, folder: Path) -> None:
        """Write the table into `folder`, which is made whole."""
        from safetensors.numpy import save

        with atomic_path(folder) as temporary:
            temporary.mkdir(parents=True)
            (temporary / VECTORS).write_bytes(save({"vectors": self.vectors, "weights": self.weights}))
            (temporary / TOKENIZER).write_text(self.tokenizer, encoding="utf-8")
            write_json(temporary / FACTS, {"format": 1, "sha256": self.sha256})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: it is absent, corrupt or changed.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        expected = read_json(folder / FACTS)
        try:
            arrays = load_file(folder / VECTORS)
            table = cls(
                arrays["vectors"], arrays["weights"], (folder / TOKENIZER).read_text(encoding="utf-8")
            )
            table.check()
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(
                f"{folder}: not a whole static encoder ({reason(error)}); delete it and make it again"
            ) from error
        if not isinstance(expected, dict) or expected.get("sha256") != table.sha256:
            raise UserError(
                f"{folder}: the static encoder's files are not those that were written together; "
                f"delete it and make it again"
            )
        return table

    def check(self) -> None:
        """Refuse arrays other than the attributes say; they may come from a stranger.

        Raises:
            ValueError: says which.
        """
        vectors, weights = self.vectors, self.weights
        if vectors.dtype != np.float16 or vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ValueError("vectors are no finite float16 [v, d]")
        if weights.dtype != np.float32 or weights.shape != vectors.shape[:1]:
            raise ValueError("weights are no float32 [v]")
        if not ((weights > 0) & (weights <= 1)).all():
            raise ValueError("a weight is not above 0, up to 1")

    @property
    def sha256(self) -> str:
        """Return the SHA-256, in hex, of all that decides a vector."""
        digest = hashlib.sha256(f"{self.vectors.shape}".encode())
        for part in (self.vectors.tobytes(), self.weights.tobytes(), self.tokenizer.encode()):
            digest.update(part)
        return digest.hexdigest()


class StaticEncoder(TextEncoder):
    """Mean of static token vectors, distilled from a sentence encoder (as model2vec does).

    Each token of the teacher's vocabulary goes through the teacher alone, as a text of its own; its vector is
    the mean over tokens of every layer's states, side by side, reduced to principal components over the
    vocabulary. A text's vector is the weighted mean of its tokens' vectors, at unit length. A frequent token
    counts less, by a / (a + p) (Arora, Liang & Ma, ICLR 2017), p by Zipf's law from its place in the vocabulary,
    which BERT's has in order of frequency.

    So it knows words as the teacher does, but neither their order nor their context: it is no transformer, and
    "a dog bites a man" is "a man bites a dog" to it. Only distilling needs the teacher; the table then
    travels with whatever was trained with it.

    Args:
        model, revision: the teacher, see `SentenceEncoder`.
        components: width d of the vectors.
        smoothing: a above; None weighs all tokens alike.
        device: ignored: it computes on the CPU.
        threads: for the distilling.
        batch_size: texts per batch.
        max_length: longest input in tokens, the rest is left out.
        folder: a table that `save` wrote; nothing is distilled then.
    """

    incidental: ClassVar[frozenset[str]] = TextEncoder.incidental | {
        "components",
        "smoothing",
        "threads",
        "folder",
    }

    model: str
    revision: str | None = None
    components: PositiveInt = 256
    smoothing: PositiveFloat | None = 1e-3
    batch_size: PositiveInt = 1024
    threads: PositiveInt = 1
    max_length: PositiveInt = 256
    folder: str | None = None

    @cached_property
    def table(self) -> Table:
        """Return the token vectors: those of `folder`, or those in the cache, or distilled now.

        Raises:
            UserError: the folder is no table, or the teacher can't be loaded or isn't a plain BERT.
        """
        if self.folder is not None:
            return Table.load(Path(self.folder))
        teacher = SentenceEncoder(
            model=self.model, revision=self.revision, precision="float32", layers=True, threads=self.threads
        )
        kept = cache_path("static", teacher.fingerprint(), self.components, self.smoothing)
        if not kept.exists():
            distil(teacher, self.components, self.smoothing).save(kept)
        return Table.load(kept)

    @cached_property
    def _parts(self) -> "tuple[np.ndarray, np.ndarray, Tokenizer]":
        table = self.table
        try:
            tokenizer = read_tokenizer(table.tokenizer, len(table.weights))
        except Unreadable as error:
            raise UserError(
                f"the static encoder's {TOKENIZER} can't be read ({error}); make it again"
            ) from error
        return table.vectors.astype(np.float32) * table.weights[:, None], table.weights, tokenizer

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode a batch: n texts → float32 [n, d], rows of unit length (zero where no token is known).

        Raises:
            UserError: see `table`.
        """
        from scipy.sparse import csr_array

        weighted, weights, _ = self._parts
        found = self._tokens(texts)
        ids = [tokens.ids[: self.max_length] for tokens in found]
        ends = np.concatenate([[0], np.cumsum([len(tokens) for tokens in ids])])
        flat = np.fromiter(chain.from_iterable(ids), np.int32, ends[-1])
        # A sparse row of ones for each text: its product sums the text's tokens without copying their vectors.
        counts = csr_array((np.ones(len(flat), np.float32), flat, ends), shape=(len(ids), len(weights)))
        total = counts @ weights
        mean = (counts @ weighted) / np.where(total > 0, total, 1)[:, None]
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        return np.asarray(mean / np.where(length > 0, length, 1), np.float32)

    def truncated(self, texts: Sequence[str]) -> list[int | None]:
        """Count the tokens that `encode` leaves out of each text; see `TextEncoder.truncated`."""
        return [max(len(tokens.ids) - self.max_length, 0) for tokens in self._tokens(texts)]

    def _tokens(self, texts: Sequence[str]) -> "list[Encoding]":
        try:
            return tokenize(self._parts[2], texts, special=False)
        except Unreadable as error:
            raise UserError(f"the static encoder fails on a text ({error}); make it again") from error

    def save(self, folder: Path) -> None:
        """Write the table, for an encoder elsewhere that is given this `folder`."""
        self.table.save(folder)

    def weights(self) -> Section:
        """Return width, longest input in tokens, and the table's checksum. Distils, where there is no table yet."""
        return {
            "dim": int(self.table.vectors.shape[1]),
            "max_length": self.max_length,
            "weights_sha256": self.table.sha256,
        }

    @property
    def description(self) -> Section:
        """Return what encodes, for people; see `TextEncoder`."""
        return {**super().description, "model": f"token vectors distilled from {self.model}"}


def distil(teacher: SentenceEncoder, components: int, smoothing: float | None) -> Table:
    """Make token vectors from a teacher that gives all its layers; a minute or two on one core for 30,000 tokens.

    Raises:
        UserError: the teacher is no plain BERT with a fast tokenizer.
    """
    states = np.asarray(teacher.tokens(BATCH), np.float32)
    mean = states.mean(0)
    states -= mean
    axes = leading_axes((states.T @ states).astype(np.float64) / len(states), components)
    weights = np.ones(len(states), np.float32)
    if smoothing is not None:
        frequency = 1 / np.arange(2, len(states) + 2)
        weights = (smoothing / (smoothing + frequency / frequency.sum())).astype(np.float32)
    vectors = (states @ axes.astype(np.float32)).astype(np.float16)
    return Table(np.ascontiguousarray(vectors), weights, teacher.tokenizer_json)
