"""How alike prompts are in meaning and spelling: the kernel that `Kernel` learns with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from promptroute.predictors.base import Array

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ROWS, COLUMNS = 128, 8192  # prompts compared at a time: what is worked on stays near the processor
FREQUENT = 768  # terms kept as dense columns: most products of sparse rows are of these few
FEW = 8  # prompts that are compared by a sparse product alone


@dataclass(frozen=True)
class Seen:
    """Hold what the kernel sees of n prompts.

    Attributes:
        z: states of all layers, reduced, float32 [n, a]; e: sentence embeddings, float32 [n, b].
        c: tf-idf of characters, csr float32 [n, v], rows of unit length.
    """

    z: Array
    e: Array
    c: "csr_array"

    def __len__(self) -> int:
        return len(self.z)

    def take(self, index: Array | slice) -> "Seen":
        """Return these prompts alone."""
        return Seen(self.z[index], self.e[index], self.c[index])


class Similarity:
    """Compares any prompts with m learned ones, by the formula that `Kernel` gives.

    Exact to float32. Of many prompts, tf-idf's cosine is the sum of a dense product, of the frequent terms, and a sparse
    one of the rare terms: several times as fast as one sparse product of all, which is quickest for a few.

    Args:
        learned: the m prompts.
        lengths: of the Matérn kernels of z and of e, > 0.
        weight: factor on the kernel of e, 0 or more.
    """

    def __init__(self, learned: Seen, lengths: Array, weight: float) -> None:
        self._learned, self._lengths, self._weight = learned, lengths, weight
        often = np.bincount(learned.c.indices, minlength=learned.c.shape[1])
        self._place = np.empty(len(often), np.int32)  # of a term, the most frequent first
        self._place[np.argsort(-often, kind="stable")] = np.arange(len(often), dtype=np.int32)
        self._frequent = min(FREQUENT, len(often))
        self._blocks = [
            self._block(slice(start, min(start + COLUMNS, len(learned))))
            for start in range(0, len(learned), COLUMNS)
        ]

    def _block(self, part: slice) -> "_Block":
        """Prepare some of the learned prompts."""
        seen = self._learned.take(part)
        norms = (seen.z**2).sum(1), (seen.e**2).sum(1)
        c = self._sorted(seen.c).T.tocsr()
        return _Block(part, seen, norms, c[: self._frequent].toarray(), c[self._frequent :], c)

    def _sorted(self, c: "csr_array") -> "csr_array":
        """Return tf-idf with its columns in order of frequency."""
        from scipy.sparse import csr_array

        return csr_array((c.data, self._place[c.indices], c.indptr), shape=c.shape)

    def __call__(self, prompts: Seen) -> Array:
        """Return k of n prompts with the learned ones, float32 [n, m]."""
        k = np.empty((len(prompts), len(self._learned)), np.float32)
        for part, few in _parts(prompts):
            self._fill(k[part], few)
        return k

    def times(self, prompts: Seen, weights: Array) -> Array:
        """Return k of n prompts · weights [m, t], float64 [n, t], without ever holding all of k."""
        product = np.empty((len(prompts), weights.shape[1]))
        k = np.empty((min(ROWS, len(prompts)), len(self._learned)), np.float32)
        for part, few in _parts(prompts):
            self._fill(k[: len(few)], few)
            product[part] = k[: len(few)] @ weights
        return product

    def lower(self) -> Array:
        """Return k of the learned prompts with each other, float32 [m, m]; 0 in most places above the diagonal.

        What is above the diagonal mirrors what is below, takes as long again, and isn't read by `scipy.linalg`.
        """
        m = len(self._learned)
        k = np.zeros((m, m), np.float32)
        for part, few in _parts(self._learned):
            self._fill(k[part], few, part.stop)
        return k

    def _fill(self, k: Array, prompts: Seen, until: int | None = None) -> None:
        """Write k of a few prompts into k [n, m]; the blocks from learned prompt `until` on are left out."""
        c = self._sorted(prompts.c)
        many = len(prompts) > FEW
        frequent, rare = self._parted(c) if many else (None, c)
        for block in self._blocks:
            if until is not None and block.part.start >= until:
                break
            alike = (rare @ (block.rare if many else block.c)).toarray()
            if frequent is not None:
                alike += frequent @ block.frequent
            alike -= 1
            np.exp(alike, out=alike)
            if prompts.z.shape[1]:
                alike *= matern(prompts.z, block.seen.z, block.norms[0], self._lengths[0])
            if prompts.e.shape[1] and self._weight:
                also = matern(prompts.e, block.seen.e, block.norms[1], self._lengths[1])
                also *= np.float32(self._weight)
                alike += also
            k[:, block.part] = alike

    def _parted(self, c: "csr_array") -> "tuple[Array, csr_array]":
        """Part tf-idf [n, v], sorted, into frequent terms, float32 [n, f], and rare ones, csr float32 [n, v - f]."""
        from scipy.sparse import csr_array

        n, v = c.shape
        row, often = np.repeat(np.arange(n), np.diff(c.indptr)), c.indices < self._frequent
        frequent = np.zeros((n, self._frequent), np.float32)
        frequent[row[often], c.indices[often]] = c.data[often]
        rest = ~often
        ends = np.concatenate([[0], np.cumsum(np.bincount(row[rest], minlength=n))])
        at = c.indices[rest] - self._frequent
        return frequent, csr_array((c.data[rest], at, ends), shape=(n, v - self._frequent))


def _parts(prompts: Seen) -> Iterator[tuple[slice, Seen]]:
    """Generate prompts a few at a time, with their places."""
    for start in range(0, len(prompts), ROWS):
        part = slice(start, min(start + ROWS, len(prompts)))
        yield part, prompts if part.stop - start == len(prompts) else prompts.take(part)


@dataclass(frozen=True)
class _Block:
    """Hold some of the learned prompts: m of them.

    Attributes:
        part: which.
        seen: what the kernel sees of them; norms: squared lengths of their z and e, [m].
        frequent: tf-idf of frequent terms, float32 [f, m]; rare: of the others, csr [v - f, m]; c: of all, csr [v, m].
    """

    part: slice
    seen: Seen
    norms: tuple[Array, Array]
    frequent: Array
    rare: "csr_array"
    c: "csr_array"


def matern(a: Array, b: Array, b_norms: Array, length: float) -> Array:
    """Return the Matérn 3/2 kernel (1 + r) exp(-r), r = √3 |a - b| / length, of rows; float32 [n, m].

    `b_norms` are the squared lengths of b's rows.
    """
    # In place all the way: for a few thousand prompts each pass over [n, m] counts.
    unit = np.float32(np.sqrt(3) / length)
    r = (a * (-2 * unit**2)) @ b.T
    r += (a**2).sum(1)[:, None] * unit**2
    r += b_norms * unit**2
    np.maximum(r, 0, out=r)
    np.sqrt(r, out=r)
    decay = np.exp(-r)
    r += 1
    r *= decay
    return r


def median_distance(rows: Array) -> float:
    """Return the root of the median squared distance between rows; 1 where they are equal."""
    norm = (rows**2).sum(1)
    squared = np.maximum(norm[:, None] + norm - 2 * rows @ rows.T, 0)[np.triu_indices(len(rows), 1)]
    median = float(np.sqrt(np.median(squared))) if len(squared) else 0.0
    return median if median > 1e-6 else 1.0
