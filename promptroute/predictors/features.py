"""Prompts → numbers, fitted on the training prompts alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.statistics import statistics
from promptroute.predictors.tfidf import TfIdf, Unit

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Array = np.ndarray
FALLBACK = "fallback"
CLIP = 5.0  # standard deviations; a prompt of 200 words or all capitals should not rule a linear model


@dataclass(frozen=True)
class Design:
    """Features of n prompts.

    Attributes:
        dense: block name → float64 [n, d].
        sparse: block name → csr float64 [n, v], rows of unit length (or empty).
    """

    dense: Mapping[str, Array]
    sparse: Mapping[str, "csr_array"]

    def matrix(self) -> Array:
        """All blocks side by side, float64 [n, d], for learners that take no sparse ones.

        Raises:
            UserError: there are sparse blocks.
        """
        if self.sparse:
            raise UserError(
                f"this predictor can't take the sparse features {', '.join(self.sparse)}; "
                f"set features.components to reduce them (as 128), or switch them off"
            )
        return np.hstack(list(self.dense.values()))


@dataclass(frozen=True)
class Features:
    """Which features a predictor sees. Every block can be switched off.

    Args:
        embeddings: "all", or names of encoders; [] for none.
        words: tf-idf of words and pairs of words; "fallback": only where there are no embeddings.
        characters: tf-idf of runs of 2 to 5 characters within words; or "fallback".
        statistics: the text statistics of `STATISTICS`.
        min_count: a term must stand in so many training prompts.
        components: reduce tf-idf to this many dimensions (truncated SVD, "latent semantic analysis"), which
            makes it dense; None leaves it sparse.
        embedding_components: reduce each encoder's vectors to this many principal components.
        scale: "block" gives each dense block a mean squared length of 1, so that blocks count alike, as
            tf-idf's rows of unit length do; "column" gives each dense column unit variance.
        weights: block name (`embeddings`, `words`, `characters`, `statistics`) → factor, after scaling.
        seed: for the truncated SVD's random start.
    """

    embeddings: str | Sequence[str] = "all"
    words: bool | str = True
    characters: bool | str = False
    statistics: bool = True
    min_count: int = 2
    components: int | None = None
    embedding_components: int | None = None
    scale: Literal["block", "column"] = "block"
    weights: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("words", "characters"):
            value = getattr(self, name)
            if not isinstance(value, bool) and value != FALLBACK:
                raise UserError(f"features.{name} is {value!r}; expected true, false or {FALLBACK}")
        if self.scale not in ("block", "column"):
            raise UserError(f"features.scale is {self.scale!r}; expected block or column")
        if isinstance(self.embeddings, str) and self.embeddings != "all":
            raise UserError(
                f"features.embeddings is {self.embeddings!r}; expected all, or a list of encoder names"
            )
        for name in ("components", "embedding_components"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"features.{name} is {value}; expected 1 or more, or null")
        if self.min_count < 1:
            raise UserError(f"features.min_count is {self.min_count}; expected 1 or more")
        blocks = ("embeddings", "words", "characters", "statistics")
        if unknown := set(self.weights) - set(blocks):
            raise UserError(f"features.weights names {sorted(unknown)}; expected some of {', '.join(blocks)}")

    def fit(self, prompts: PromptBatch) -> "FittedFeatures":
        """Learn vocabulary, idf, components and scales from the training prompts.

        Raises:
            UserError: an encoder that the batch lacks, or no feature left at all.
        """
        if self.embeddings == "all":
            names = sorted(prompts.embeddings)
        else:
            names = list(self.embeddings)
        texts = {
            unit: TfIdf.fit(prompts.texts, unit, sizes, self.min_count)
            for unit, sizes in SIZES.items()
            if getattr(self, unit) is True or (getattr(self, unit) == FALLBACK and not names)
        }
        if not names and not any(block.terms for block in texts.values()) and not self.statistics:
            raise UserError(
                "no feature is left: there are no embeddings (text_encoder=none gives none), statistics are off, and "
                f"so are words and characters, or no term of theirs stands in {self.min_count} prompts; "
                "switch one of them on, or lower features.min_count"
            )
        fitted = FittedFeatures(self, {}, texts, {})
        for name in names:
            vectors = embedding(prompts, name).astype(np.float64)
            fitted.widths[name] = vectors.shape[1]
            basis = None
            if self.embedding_components is not None:
                basis = _principal(vectors, self.embedding_components)
            self._fit_block(fitted, f"embeddings.{name}", vectors, basis)
        for unit, block in texts.items():
            if self.components is not None:
                rows = block.transform(prompts.texts)
                self._fit_block(fitted, unit, rows, _latent(rows, self.components, self.seed))
        if self.statistics:
            self._fit_block(fitted, "statistics", statistics(prompts.texts), None)
        return fitted

    def _fit_block(self, fitted: "FittedFeatures", name: str, rows: Any, basis: Array | None) -> None:
        values = rows if basis is None else rows @ basis
        block = Block.fit(values, "column" if name == "statistics" else self.scale)
        if name == "statistics" and self.scale == "block":
            block = Block(
                block.centre, block.factor / np.sqrt(values.shape[1]), CLIP / np.sqrt(values.shape[1])
            )
        elif name == "statistics":
            block = Block(block.centre, block.factor, CLIP)
        weight = float(self.weights.get(name.split(".")[0], 1.0))
        fitted.blocks[name] = Block(block.centre, block.factor * weight, block.limit * weight, basis)


SIZES: dict[Unit, tuple[int, int]] = {"words": (1, 2), "characters": (2, 5)}


@dataclass(frozen=True)
class Block:
    """How one dense block is made: (rows · basis - centre) · factor, held within ± limit.

    Attributes:
        centre: float64 [d].
        factor: float64 [d].
        limit: scalar, infinite for none.
        basis: float64 [width, d], or None to take the rows as they are.
    """

    centre: Array
    factor: Array
    limit: float = np.inf
    basis: Array | None = None

    @classmethod
    def fit(cls, values: Array, scale: str) -> Self:
        centre = values.mean(0)
        variance = values.var(0)
        if scale == "block":
            variance = np.full_like(variance, variance.sum())
        steady = variance < 1e-12  # a column that never varies in training says nothing
        return cls(centre, np.where(steady, 0.0, 1 / np.sqrt(np.where(steady, 1.0, variance))))

    def __call__(self, rows: Any) -> Array:
        values: Array = rows if self.basis is None else rows @ self.basis
        values = (values - self.centre) * self.factor
        return values if np.isinf(self.limit) else np.clip(values, -self.limit, self.limit)


@dataclass(frozen=True)
class FittedFeatures:
    """Features fitted on training prompts.

    Attributes:
        spec: what was asked for.
        widths: encoder name → width of its vectors.
        texts: the fitted tf-idf blocks.
        blocks: the dense blocks' making, in the order of their columns.
    """

    spec: Features
    widths: dict[str, int]
    texts: Mapping[Unit, TfIdf]
    blocks: dict[str, Block]

    def transform(self, prompts: PromptBatch) -> Design:
        """Features of any prompts; a row depends on its own prompt alone.

        Raises:
            UserError: the batch lacks an encoder, or its vectors have another width than at fit.
        """
        dense: dict[str, Array] = {}
        sparse: dict[str, csr_array] = {}
        for name, width in self.widths.items():
            vectors = embedding(prompts, name)
            if vectors.shape[1] != width:
                raise UserError(
                    f"embeddings {name!r} are {vectors.shape[1]} wide, but the predictor was fitted on {width}; "
                    f"use the text encoder that it was trained with"
                )
            block = f"embeddings.{name}"
            dense[block] = self.blocks[block](vectors.astype(np.float64))
        for unit, tfidf in self.texts.items():
            rows = tfidf.transform(prompts.texts)
            if unit in self.blocks:
                dense[unit] = self.blocks[unit](rows)
            else:
                sparse[unit] = rows * float(self.spec.weights.get(unit, 1.0))
        if "statistics" in self.blocks:
            dense["statistics"] = self.blocks["statistics"](statistics(prompts.texts))
        return Design(dense, sparse)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Values for JSON, and arrays: all that `from_state` needs besides the spec."""
        arrays = {}
        for unit, tfidf in self.texts.items():
            arrays[f"features.{unit}.idf"] = tfidf.idf
        for name, block in self.blocks.items():
            arrays[f"features.{name}.centre"] = block.centre
            arrays[f"features.{name}.factor"] = block.factor
            arrays[f"features.{name}.limit"] = np.array(block.limit)
            if block.basis is not None:
                arrays[f"features.{name}.basis"] = block.basis
        terms = {unit: list(tfidf.terms) for unit, tfidf in self.texts.items()}
        return {"widths": self.widths, "blocks": list(self.blocks), "terms": terms}, arrays

    @classmethod
    def from_state(cls, spec: Features, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> Self:
        texts: dict[Unit, TfIdf] = {
            unit: TfIdf(unit, SIZES[unit], terms, arrays[f"features.{unit}.idf"])
            for unit, terms in state["terms"].items()
        }
        blocks = {
            name: Block(
                arrays[f"features.{name}.centre"],
                arrays[f"features.{name}.factor"],
                arrays[f"features.{name}.limit"].item(),
                arrays.get(f"features.{name}.basis"),
            )
            for name in state["blocks"]
        }
        return cls(spec, dict(state["widths"]), texts, blocks)


def embedding(prompts: PromptBatch, name: str) -> Array:
    """An encoder's vectors float32 [n, d], or UserError where the batch lacks them."""
    if name not in prompts.embeddings:
        known = ", ".join(sorted(prompts.embeddings)) or "none (text_encoder=none)"
        raise UserError(
            f"there are no embeddings {name!r}, this batch has: {known}; choose a text_encoder=… that gives them, or a "
            f"predictor that needs none (features.embeddings)"
        )
    return prompts.embeddings[name]


def _principal(vectors: Array, components: int) -> Array:
    """Principal axes, float64 [d, k], most variance first; signs fixed by each axis's largest entry."""
    centred = vectors - vectors.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, : min(components, vectors.shape[1])]
    return np.ascontiguousarray(axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]))


def _latent(rows: "csr_array", components: int, seed: int) -> Array:
    """Right singular vectors of the tf-idf rows, float64 [v, k], greatest first."""
    from sklearn.decomposition import TruncatedSVD

    k = min(components, *rows.shape)
    if k == rows.shape[1]:
        return np.eye(k)  # nothing to reduce
    return np.ascontiguousarray(TruncatedSVD(k, random_state=seed).fit(rows).components_.T)
