"""Kernel ridge regression on what a sentence encoder's layers know and how a prompt is spelled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.base import Array, Arrays, Predictor, Seed, State, Validation
from promptroute.predictors.similarity import Seen, Similarity, median_distance
from promptroute.predictors.targets import Targets
from promptroute.predictors.tfidf import TfIdf

EXACT, POINTS = 20_000, 12_000  # prompts that all others are compared with, and points where there are more
# LAPACK crashed the process at 45,000: it counts what a matrix holds in 32 bits.
ROWS = 512  # prompts at a time: bounds memory
SIZES = (2, 5)  # characters
LIMIT = 4.0  # standard deviations of a state
JITTER = 1e-6  # of a point's similarity with itself: equal points would make the matrix singular
SAMPLE = 2000  # prompts whose distances set the unit of length


class Kernel(Predictor):
    """Kernel ridge regression (Saunders, Gammerman & Vovk 1998), the posterior mean of a Gaussian process.

    The similarity of two prompts is

        k = M(z, z'; state_length) · exp(c·c' - 1)  +  sentence_weight · M(e, e'; sentence_length)

    where z are the encoder's states of all layers, standardised, held within ± 4 and reduced to principal
    components; e is the sentence embedding (the last layer's state at unit length); c is tf-idf of 2 to 5
    characters, so c·c' is a cosine; M(a, b; l) = (1 + r) exp(-r), r = √3 |a - b| / (l · typical distance), is
    the Matérn 3/2 kernel. So prompts count as near where meaning and spelling agree, and the second term
    keeps a broad view of meaning. Differences between models and their level are fitted alike (see
    `split_level`). How it was found, and what did not help: benchmarks/ROUTER_LOG.md.

    Its leave-one-out predictions are exact and cost nothing (Rasmussen & Williams 2006, eq. 5.12). So where
    `validation` is given it is learned from too, and `out_of_fold` says what the fit without each of those
    prompts would have predicted of it.

    From up to 20,000 prompts this is exact, in memory for one float32 [n, n] and time that grows with n³. From more, or
    more than `points`, m prompts are chosen by chance, and prompts are compared with these alone: ridge regression on the features
    φ = L⁻¹ k(points, x), LLᵀ = k(points, points), whose products φ·φ' are Nyström's approximation of k (Williams & Seeger
    2001). It still learns from all n prompts, and leave-one-out predictions, with the points as they are, are exact
    again. Fitting takes memory for one float32 [n, m] and time that grows with n m²; predicting takes time that grows
    with m. What that costs in quality: benchmarks/README.md.

    Args:
        encoder: whose vectors it sees. None: those of the only encoder that there is; where there is none,
            spelling alone counts, k = exp(c·c' - 1).
        width: of one layer's state; the last `width` columns make the sentence embedding. None: all columns.
        components: principal components kept of the states.
        alpha: regularisation, > 0: variance of the noise, where a target's variance is 1.
        state_length, sentence_length: kernel lengths, in units of the median distance between prompts, > 0.
        sentence_weight: factor on the second term, 0 or more.
        points: prompts to compare with, m, at most 20,000; all, where there are no more. None: all of up to 20,000
            prompts; of more, 12,000.
        min_count: training prompts that a run of characters must occur in.
        learn_validation: learn from validation too.
        seed: chooses the points, and the prompts whose distances set the unit of length.
    """

    version: ClassVar[int] = 2

    encoder: str | None = None
    width: PositiveInt | None = 384
    components: PositiveInt = 400
    alpha: PositiveFloat = 1.0
    state_length: PositiveFloat = 0.7
    sentence_length: PositiveFloat = 0.4
    sentence_weight: NonNegativeFloat = 0.5
    points: int | None = Field(None, ge=1, le=EXACT)
    min_count: PositiveInt = 3
    learn_validation: bool = True
    seed: Seed = 0

    learned: ClassVar[tuple[str, ...]] = ("name", "mean", "factor", "axes", "z", "e", "lengths", "weights")
    _name: str | None
    _mean: Array
    _factor: Array
    _axes: Array
    _z: Array
    _e: Array
    _c: Any
    _lengths: Array
    _weights: Array
    _targets: Targets
    _tfidf: TfIdf
    _similarity: Similarity

    @property
    def needs(self) -> frozenset[str]:
        """Name the text encoders that its settings ask for."""
        return frozenset() if self.encoder is None else frozenset({self.encoder})

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        learns_both = validation is not None and self.learn_validation
        if validation is not None and self.learn_validation:
            prompts, quality = prompts.joined(validation[0]), np.vstack([quality, validation[1]])
        self._targets = Targets.fit(quality)
        y = self._targets.encode(quality)
        self._name = self._encoder_of(prompts)
        vectors = self._vectors(prompts)
        wide = vectors.shape[1]
        if self._name is not None and self.width is not None and wide % self.width:
            raise UserError(
                f"Kernel: width is {self.width}, but embeddings {self._name!r} are {wide} wide; set width to the width "
                f"of a single layer, or to null where there are no inner layers"
            )
        self._mean, spread = vectors.mean(0), vectors.std(0)
        self._factor = np.where(spread > 1e-6, 1 / np.where(spread > 1e-6, spread, 1), 0).astype(np.float32)
        states = self._standard(vectors)
        self._axes = principal_axes(states, self.components)
        self._z, self._e = states @ self._axes, self._sentence(vectors)
        some = np.random.default_rng(self.seed).permutation(len(y))[:SAMPLE]
        self._lengths = np.array(
            [
                length * median_distance(rows[some])
                for length, rows in ((self.state_length, self._z), (self.sentence_length, self._e))
            ]
        )
        self._tfidf = TfIdf.fit(prompts.texts, "characters", SIZES, self.min_count)
        self._c = self._tfidf.transform(prompts.texts).astype(np.float32)
        del vectors, states  # they may be larger than all that follows
        most = self.points or (POINTS if len(y) > EXACT else EXACT)
        left_out = self._solve_all(y) if len(y) <= most else self._solve_points(y, most)
        if learns_both:
            self._out_of_fold = self._targets.decode(left_out)

    def _solve_all(self, y: Array) -> Array:
        """Find weights of all prompts; return what fits without each predict of it, float64 [n, m + 1]."""
        self._prepare()
        k = self._similarity.lower()
        k[np.diag_indices_from(k)] += self.alpha
        self._weights, missed = self._solve(k, y.astype(np.float32))
        return y - missed

    def _solve_points(self, y: Array, most: int) -> Array:
        """Find weights of some prompts, which are all that is kept; return as `_solve_all`."""
        from scipy.linalg import blas, cho_solve, cholesky, solve_triangular

        seen = Seen(self._z, self._e, self._c)
        chosen = np.sort(np.random.default_rng(self.seed).permutation(len(y))[:most])
        self._z, self._e, self._c = (rows[chosen] for rows in (seen.z, seen.e, seen.c))
        self._prepare()
        own = self._similarity.lower().astype(np.float64)
        own[np.diag_indices_from(own)] *= 1 + JITTER
        factor = cholesky(own, lower=True, overwrite_a=True, check_finite=False)
        features = np.empty((len(y), most), np.float32)
        for start in range(0, len(y), ROWS):
            part = slice(start, start + ROWS)
            k = self._similarity(seen.take(part))
            features[part] = solve_triangular(factor, k.T, lower=True, check_finite=False).T
        product = blas.ssyrk(1, features.T, lower=1).astype(np.float64)
        product[np.diag_indices_from(product)] += self.alpha
        inner = cholesky(product, lower=True, overwrite_a=True, check_finite=False)
        weights = cho_solve((inner, True), (features.T @ y.astype(np.float32)).astype(np.float64))
        self._weights = solve_triangular(factor, weights, lower=True, trans="T").astype(np.float32)
        # Without row i, ridge regression misses it by its residual / (1 - leverage) (Cook & Weisberg 1982, eq. 2.2.8).
        residual = y - features @ weights.astype(np.float32)
        inner = inner.astype(np.float32)
        leverage = np.empty(len(y))
        for start in range(0, len(y), ROWS):
            part = slice(start, start + ROWS)
            seen_by = solve_triangular(inner, features[part].T, lower=True, check_finite=False)
            leverage[part] = (seen_by**2).sum(axis=0)
        return y - residual / (1 - leverage)[:, None]

    def _solve(self, k: Array, y: Array) -> tuple[Array, Array]:
        """Return k⁻¹ y, float32 [n, m + 1], and by how much the fit without a prompt misses it, float64 [n, m + 1].

        k [n, n], of which only what is below the diagonal counts, is overwritten: nothing else of its size is held.
        """
        from scipy.linalg import lapack

        # k.T: the order that LAPACK reads in place. k = LLᵀ; then L⁻¹ takes its place.
        _, failed = lapack.spotrf(k.T, lower=0, clean=0, overwrite_a=1)
        if failed:
            raise UserError(
                f"Kernel: alpha {self.alpha} is too small for {len(y)} prompts in single precision; use 0.01 or more"
            )
        lapack.strtri(k.T, lower=0, overwrite_c=1)
        weights, own = np.zeros(y.shape), np.zeros(len(y))
        for start in range(0, len(y), ROWS):
            stop = min(start + ROWS, len(y))
            rows = k[start:stop, :stop]  # of L⁻¹
            rows[:, start:] = np.tril(rows[:, start:])
            weights[:stop] += rows.T @ (rows @ y[:stop])
            own[:stop] += np.einsum("ij,ij->j", rows, rows)
        return weights.astype(np.float32), weights / own[:, None]

    def _predict(self, prompts: PromptBatch) -> Array:
        vectors = self._vectors(prompts, len(self._mean))
        columns = np.empty((len(prompts), self._weights.shape[1]))
        for start in range(0, len(prompts), ROWS):
            part = slice(start, start + ROWS)
            columns[part] = self._similarity.times(
                self._see(vectors[part], prompts.texts[part]), self._weights
            )
        return self._targets.decode(columns)

    def _see(self, vectors: Array, texts: Sequence[str]) -> Seen:
        """Return what the kernel compares of prompts that it hasn't learned from."""
        c = self._tfidf.transform(texts).astype(np.float32)
        return Seen(self._standard(vectors) @ self._axes, self._sentence(vectors), c)

    def _encoder_of(self, prompts: PromptBatch) -> str | None:
        """Return the encoder to learn from; None where there is none."""
        if self.encoder is not None or not prompts.embeddings:
            return self.encoder
        if len(prompts.embeddings) > 1:
            raise UserError(
                f"Kernel: there are several encoders' embeddings ({', '.join(sorted(prompts.embeddings))}); "
                f"name the encoder to use with encoder"
            )
        return next(iter(prompts.embeddings))

    def _vectors(self, prompts: PromptBatch, wide: int | None = None) -> Array:
        """Return the encoder's vectors, float32 [n, wide]; of width 0 where there is no encoder."""
        if self._name is None:
            return np.zeros((len(prompts), 0), np.float32)
        return prompts.vectors(self._name, wide)

    def _standard(self, vectors: Array) -> Array:
        """Scale states to columns of unit variance, float32 [n, wide]."""
        return np.clip((vectors - self._mean) * self._factor, -LIMIT, LIMIT)

    def _sentence(self, vectors: Array) -> Array:
        """Return sentence embeddings, float32 [n, width], rows of unit length."""
        rows = vectors if self.width is None else vectors[:, -self.width :]
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(length > 0, length, 1), np.float32)

    def _prepare(self) -> None:
        """Compute what every comparison with the learned prompts needs."""
        seen = Seen(self._z, self._e, self._c)
        self._similarity = Similarity(seen, self._lengths, self.sentence_weight)

    @property
    def embedding_widths(self) -> Mapping[str, int]:
        """Return the width of the embeddings that it was fitted with, by encoder name."""
        return {} if self._name is None else {self._name: len(self._mean)}

    def _state(self, folder: Path) -> tuple[State, Arrays]:
        state, arrays = super()._state(folder)
        arrays |= {
            "idf": self._tfidf.idf,
            "c": self._c.data,
            "c.columns": self._c.indices,
            "c.ends": self._c.indptr,
        }
        return state | {"terms": list(self._tfidf.terms)}, arrays | self._targets.arrays()

    def _restore(self, folder: Path, state: State, arrays: Arrays) -> None:
        from scipy.sparse import csr_array

        super()._restore(folder, state, arrays)
        self._targets = Targets.from_arrays(arrays)
        self._tfidf = TfIdf("characters", SIZES, state["terms"], arrays["idf"])
        self._c = csr_array(
            (arrays["c"], arrays["c.columns"], arrays["c.ends"]), shape=(len(self._z), len(self._tfidf.terms))
        )
        self._c.check_format(full_check=True)  # scipy trusts the indices, and would read beyond its arrays
        self._prepare()


def principal_axes(rows: Array, count: int) -> Array:
    """Return the directions in which rows vary most, without centring them, the largest first.

    Args:
        rows: [n, d].
        count: how many axes; fewer come back where the rows span fewer dimensions.

    Returns:
        float32 [d, ≤ count], orthonormal columns.
    """
    from scipy.linalg import eigh

    if few := len(rows) < rows.shape[1]:  # the product on the other side is smaller, and has the same values
        rows = rows.astype(np.float64)
    product = (rows @ rows.T if few else rows.T @ rows).astype(np.float64)
    if not (size := len(product)):
        return np.zeros((rows.shape[1], 0), np.float32)
    values, axes = eigh(product, subset_by_index=[max(0, size - count), size - 1])
    kept = values > 1e-7 * max(values[-1], 0)
    values, axes = values[kept][::-1], axes[:, kept][:, ::-1]
    if few:
        axes = rows.T @ (axes / np.sqrt(values))
    return np.ascontiguousarray(axes, np.float32)
