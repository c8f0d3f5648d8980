"""Turn prompts into numbers, by what the training prompts alone say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, field_validator, model_validator

from promptroute.core.axes import leading_axes
from promptroute.core.batch import PromptBatch
from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.predictors.base import Array, Arrays, State
from promptroute.predictors.statistics import statistics
from promptroute.predictors.tfidf import TfIdf, Unit

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CLIP = 5.0  # standard deviations; a prompt of 200 words or all capitals should not rule a linear model


@dataclass(frozen=True)
class Design:
    """Hold the features of n prompts.

    Attributes:
        dense: block name → float64 [n, d].
        sparse: block name → csr float64 [n, v], rows of unit length (or empty).
    """

    dense: Mapping[str, Array]
    sparse: Mapping[str, "csr_array"]

    def matrix(self) -> Array:
        """Return all blocks side by side, float64 [n, d], for a predictor that takes no sparse ones.

        Raises:
            UserError: there are sparse blocks.
        """
        if self.sparse:
            raise UserError(
                f"this predictor can't take the sparse features {', '.join(self.sparse)}; "
                f"set features.components to reduce them (as 128), or switch them off"
            )
        return np.hstack(list(self.dense.values()))


class Features(Component):
    """Which features a predictor sees. Every block can be switched off.

    Args:
        embeddings: "all", or names of encoders; [] for none.
        words: tf-idf of words and pairs of words; "fallback": only where there are no embeddings.
        characters: tf-idf of runs of 2 to 5 characters within words; or "fallback".
        statistics: the text statistics of `STATISTICS`.
        min_count: a term must occur in so many training prompts, 1 or more.
        components: reduce tf-idf to this many dimensions (truncated SVD, "latent semantic analysis"), which
            makes it dense; None leaves it sparse.
        embedding_components: reduce each encoder's vectors to this many principal components.
        scale: "block" gives each dense block a mean squared length of 1, so that blocks count alike, as
            tf-idf's rows of unit length do; "column" gives each dense column unit variance.
        factors: block name (`embeddings`, `words`, `characters`, `statistics`) → factor on the block, after scaling.
    """

    embeddings: str | Annotated[tuple[str, ...], Field(strict=False)] = "all"
    words: Literal[True, False, "fallback"] = True
    characters: Literal[True, False, "fallback"] = False
    statistics: bool = True
    min_count: PositiveInt = 2
    components: PositiveInt | None = None
    embedding_components: PositiveInt | None = None
    scale: Literal["block", "column"] = "block"
    factors: dict[Literal["embeddings", "words", "characters", "statistics"], float] = Field(default={})

    @field_validator("embeddings", mode="before")
    @classmethod
    def _all_or_names(cls, given: Any) -> Any:
        if isinstance(given, str) and given != "all":
            raise UserError("expected all, or a list of encoder names")
        return given

    @model_validator(mode="after")
    def _nothing_for_nothing(self) -> Self:
        """Refuse what concerns a block that is switched off: it would change nothing."""
        off = {name for name in ("embeddings", *SIZES, "statistics") if not getattr(self, name)}
        for setting, blocks in (
            *((f"factors.{name}", {name}) for name in self.factors),
            *((("components", set(SIZES)),) if self.components else ()),
            *((("embedding_components", {"embeddings"}),) if self.embedding_components else ()),
        ):
            if blocks <= off:
                raise UserError(
                    f"{setting} is given, but {' and '.join(sorted(blocks))} are switched off; leave it out"
                )
        for name, factor in self.factors.items():
            if factor <= 0:
                raise UserError(
                    f"factors.{name} is {factor:g}; expected above 0 (switch a block off to do without it)"
                )
        return self

    def fit(self, prompts: PromptBatch, seed: int = 0) -> "FittedFeatures":
        """Learn vocabulary, idf, components and scales from the training prompts.

        Args:
            prompts: the training prompts.
            seed: of the truncated SVD's random start.

        Raises:
            UserError: an encoder that the batch lacks, or no feature left at all.
        """
        names = sorted(prompts.embeddings) if self.embeddings == "all" else list(self.embeddings)
        texts = {
            unit: TfIdf.fit(prompts.texts, unit, sizes, self.min_count)
            for unit, sizes in SIZES.items()
            if getattr(self, unit) is True or (getattr(self, unit) == "fallback" and not names)
        }
        if not names and not any(block.terms for block in texts.values()) and not self.statistics:
            raise UserError(
                f"no feature is left: there are no embeddings, statistics are off, and so are words and characters, or "
                f"no term of theirs occurs in {self.min_count} prompts; switch one of them on, or lower "
                f"features.min_count"
            )
        blocks, widths = {}, {}
        for name in names:
            vectors = prompts.vectors(name).astype(np.float64)
            widths[name] = vectors.shape[1]
            basis = None
            if self.embedding_components is not None:
                centred = vectors - vectors.mean(0)
                basis = leading_axes(centred.T @ centred, self.embedding_components)
            blocks[f"embeddings.{name}"] = self._block("embeddings", vectors, basis)
        for unit, block in texts.items():
            if self.components is not None:
                rows = block.transform(prompts.texts)
                blocks[unit] = self._block(unit, rows, _latent(rows, self.components, seed))
        if self.statistics:
            blocks["statistics"] = self._block("statistics", statistics(prompts.texts), None)
        return FittedFeatures(self, widths, texts, blocks)

    def _block(self, name: str, rows: Any, basis: Array | None) -> "Block":
        """Fit how a dense block is made from rows, an array or a sparse matrix [n, width]."""
        values = rows if basis is None else rows @ basis
        spread = values.var(0)
        if name != "statistics" and self.scale == "block":
            spread = np.full_like(spread, spread.sum())
        steady = spread < 1e-12  # a column that never varies in training says nothing
        factor = np.where(steady, 0.0, 1 / np.sqrt(np.where(steady, 1.0, spread)))
        limit = CLIP if name == "statistics" else np.inf
        if name == "statistics" and self.scale == "block":
            factor, limit = factor / np.sqrt(values.shape[1]), limit / np.sqrt(values.shape[1])
        weight = float(self.factors.get(name, 1.0))  # type: ignore[call-overload]
        return Block(values.mean(0), factor * weight, limit * weight, basis)


SIZES: dict[Unit, tuple[int, int]] = {"words": (1, 2), "characters": (2, 5)}


@dataclass(frozen=True)
class Block:
    """How a dense block is made: (rows · basis - centre) · factor, held within ± limit.

    Attributes:
        centre: float64 [d].
        factor: float64 [d].
        limit: scalar, infinite for none.
        basis: float64 [width, d], or None to take the rows as they are.
    """

    centre: Array
    factor: Array
    limit: float
    basis: Array | None

    def __call__(self, rows: Any) -> Array:
        """Return the block, float64 [n, d], of rows, an array or a sparse matrix [n, width]."""
        values: Array = rows if self.basis is None else rows @ self.basis
        values = (values - self.centre) * self.factor
        return values if np.isinf(self.limit) else np.clip(values, -self.limit, self.limit)


@dataclass(frozen=True)
class FittedFeatures:
    """Hold features fitted on training prompts.

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
        """Return the features of any prompts; a row depends on its own prompt alone.

        Raises:
            UserError: the batch lacks an encoder, or its vectors have another width than at fit.
        """
        dense: dict[str, Array] = {}
        sparse: dict[str, csr_array] = {}
        for name, width in self.widths.items():
            vectors = prompts.vectors(name, width).astype(np.float64)
            dense[f"embeddings.{name}"] = self.blocks[f"embeddings.{name}"](vectors)
        for unit, tfidf in self.texts.items():
            rows = tfidf.transform(prompts.texts)
            if unit in self.blocks:
                dense[unit] = self.blocks[unit](rows)
            else:
                sparse[unit] = rows * float(self.spec.factors.get(unit, 1.0))
        if "statistics" in self.blocks:
            dense["statistics"] = self.blocks["statistics"](statistics(prompts.texts))
        return Design(dense, sparse)

    def state(self) -> tuple[State, Arrays]:
        """Return values for JSON, and arrays: all that `from_state` needs besides the spec."""
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
    def from_state(cls, spec: Features, state: State, arrays: Arrays) -> Self:
        """Make the fitted features again."""
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


def _latent(rows: "csr_array", components: int, seed: int) -> Array:
    """Return the right singular vectors of the tf-idf rows, float64 [v, k], greatest first."""
    from sklearn.decomposition import TruncatedSVD

    k = min(components, *rows.shape)
    if k == rows.shape[1]:
        return np.eye(k)  # nothing to reduce
    return np.ascontiguousarray(TruncatedSVD(k, random_state=seed).fit(rows).components_.T)
