"""Kernel ridge regression on what a sentence encoder's layers know and how a prompt is spelled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.base import Array, Arrays, Predictor, Seed, State, Validation
from promptroute.predictors.targets import Targets
from promptroute.predictors.tfidf import TfIdf

ROWS = 512  # prompts compared at a time: bounds memory
SIZES = (2, 5)  # characters
LIMIT = 4.0  # standard deviations of a state
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

    Fitting takes memory for three float32 [n, n] and time that grows with n³: some 20,000 prompts on a laptop.

    Args:
        encoder: whose vectors it sees. None: those of the only encoder that there is; where there is none,
            spelling alone counts, k = exp(c·c' - 1).
        width: of one layer's state; the last `width` columns make the sentence embedding. None: all columns.
        components: principal components kept of the states.
        alpha: regularisation, > 0: variance of the noise, where a target's variance is 1.
        state_length, sentence_length: kernel lengths, in units of the median distance between prompts, > 0.
        sentence_weight: factor on the second term, 0 or more.
        min_count: training prompts that a run of characters must occur in.
        learn_validation: learn from validation too.
        seed: samples the prompts whose distances set the unit of length.
    """

    encoder: str | None = None
    width: PositiveInt | None = 384
    components: PositiveInt = 400
    alpha: PositiveFloat = 1.0
    state_length: PositiveFloat = 0.7
    sentence_length: PositiveFloat = 0.4
    sentence_weight: NonNegativeFloat = 0.5
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
    _z_norm: Array
    _e_norm: Array
    _c_columns: Any

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
                length * _median_distance(rows[some])
                for length, rows in ((self.state_length, self._z), (self.sentence_length, self._e))
            ]
        )
        self._tfidf = TfIdf.fit(prompts.texts, "characters", SIZES, self.min_count)
        self._c = self._tfidf.transform(prompts.texts).astype(np.float32)
        self._prepare()
        k = self._similarity(self._z, self._e, self._c)
        k[np.diag_indices_from(k)] += self.alpha
        self._weights, missed = self._solve(k, y.astype(np.float32))
        if learns_both:
            self._out_of_fold = self._targets.decode(y - missed)

    def _solve(self, k: Array, y: Array) -> tuple[Array, Array]:
        """Return k⁻¹ y, float32 [n, m + 1], and by how much the fit without a prompt misses it, float64 [n, m + 1].

        k [n, n] is overwritten.
        """
        from scipy.linalg import lapack

        # k.T: the order that LAPACK reads in place
        factor, failed = lapack.spotrf(k.T, lower=1, overwrite_a=1)
        if failed:
            raise UserError(
                f"Kernel: alpha {self.alpha} is too small for {len(y)} prompts in single precision; use 0.01 or more"
            )
        inverse = lapack.spotri(factor, lower=1, overwrite_c=1)[0]  # its lower triangle
        own = inverse.diagonal().astype(np.float64)
        lower = np.tril(inverse, -1)
        del inverse, factor
        weights = lower @ y + lower.T @ y + own[:, None].astype(np.float32) * y
        return weights, weights / own[:, None]

    def _predict(self, prompts: PromptBatch) -> Array:
        vectors = self._vectors(prompts, len(self._mean))
        columns = np.empty((len(prompts), self._weights.shape[1]))
        for start in range(0, len(prompts), ROWS):
            part = slice(start, start + ROWS)
            z, e = self._standard(vectors[part]) @ self._axes, self._sentence(vectors[part])
            c = self._tfidf.transform(prompts.texts[part]).astype(np.float32)
            columns[part] = self._similarity(z, e, c) @ self._weights
        return self._targets.decode(columns)

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
        self._z_norm, self._e_norm = (self._z**2).sum(1), (self._e**2).sum(1)
        self._c_columns = self._c.T.tocsr()

    def _similarity(self, z: Array, e: Array, c: Any) -> Array:
        """Return k of any prompts with the learned ones, float32 [n, learned]."""
        spelled = np.empty((len(z), len(self._z)), np.float32)
        for start in range(0, len(z), ROWS):
            part = slice(start, start + ROWS)
            spelled[part] = (c[part] @ self._c_columns).toarray()
        spelled -= 1
        np.exp(spelled, out=spelled)
        if self._name is None:
            return spelled
        spelled *= _matern(z, self._z, self._z_norm, self._lengths[0])
        if self.sentence_weight:
            spelled += np.float32(self.sentence_weight) * _matern(e, self._e, self._e_norm, self._lengths[1])
        return spelled

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
        self._prepare()


def _matern(a: Array, b: Array, b_norm: Array, length: float) -> Array:
    """Return the Matérn 3/2 kernel of the rows of a and b, float32 [n, m]; `b_norm` are b's squared lengths."""
    # In place all the way: for a few thousand prompts each pass over [n, m] counts.
    r = a @ b.T
    r *= -2
    r += (a**2).sum(1)[:, None]
    r += b_norm
    np.maximum(r, 0, out=r)
    np.sqrt(r, out=r)
    r *= np.float32(np.sqrt(3) / length)
    decay = np.exp(-r)
    r += 1
    r *= decay
    return r


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


def _median_distance(rows: Array) -> float:
    """Return the root of the median squared distance between rows; 1 where they are equal."""
    norm = (rows**2).sum(1)
    squared = np.maximum(norm[:, None] + norm - 2 * rows @ rows.T, 0)[np.triu_indices(len(rows), 1)]
    median = float(np.sqrt(np.median(squared))) if len(squared) else 0.0
    return median if median > 1e-6 else 1.0
