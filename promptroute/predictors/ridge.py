"""Ridge regression on embeddings, tf-idf and text statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Positives, Validation
from promptroute.predictors.features import Design
from promptroute.predictors.regressor import Regressor
from promptroute.predictors.targets import text_folds

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Rows:
    """Hold a centred matrix [n, d] that is never written out: dense columns, then sparse ones, less their means.

    Attributes:
        dense: float64 [n, a].
        sparse: csr float64 [n, b], or None; d = a + b.
        mean: float64 [d].
    """

    dense: Array
    sparse: "csr_array | None"
    mean: Array

    @classmethod
    def of(cls, dense: Array, sparse: "csr_array | None") -> Self:
        """Centre these columns."""
        means = [dense.mean(0)] if sparse is None else [dense.mean(0), np.asarray(sparse.mean(0)).ravel()]
        return cls(dense, sparse, np.concatenate(means))

    def times(self, weights: Array) -> Array:
        """Return the centred matrix · weights [d, k]: [n, k]."""
        a = self.dense.shape[1]
        product = self.dense @ weights[:a]
        if self.sparse is not None:
            product += self.sparse @ weights[a:]
        return product - self.mean @ weights

    def transposed_times(self, rows: Array) -> Array:
        """Return the centred matrix, transposed, · rows [n, k]: [d, k]."""
        parts = [self.dense.T @ rows]
        if self.sparse is not None:
            parts.append(self.sparse.T @ rows)
        return np.concatenate(parts) - np.outer(self.mean, rows.sum(0))


def ridge_path(
    rows: Rows, targets: Array, alphas: Sequence[float], tolerance: float, steps: int = 2000
) -> Array:
    """Minimise |X w - y|² + alpha |w|² for each column y of `targets` and every alpha.

    In the dual form, w = Xᵀ c with (X Xᵀ + alpha I) c = y, by conjugate gradients on the smallest alpha;
    the systems of the others differ by a multiple of I, so that their solutions follow from the same products
    (B. Jegerlehner, "Krylov space solvers for shifted linear systems", hep-lat/9612014, section 2.4). X is
    only ever multiplied by: sparse columns stay sparse, and memory grows with n + d, not with their squares.

    Args:
        rows: X, [n, d], centred.
        targets: float64 [n, k].
        alphas: the a regularisations, > 0, in any order.
        tolerance: stop where every residual |y - (X Xᵀ + alpha I) c| is so small a share of |y|.
        steps: stop after so many steps at the latest.

    Returns:
        w, float64 [a, d, k].
    """
    least = min(alphas)
    shift = (np.array(alphas) - least)[:, None]  # [a, 1]
    n, k = targets.shape
    dual = np.zeros((len(alphas), n, k))
    residual = targets.copy()
    direction = residual.copy()  # of the smallest alpha
    directions = np.tile(residual, (len(alphas), 1, 1))  # of each
    size = (residual**2).sum(0)
    enough = size * tolerance**2
    # The residual of a shifted system is `share` times that of the smallest alpha's.
    share = before = np.ones((len(alphas), k))
    step, ratio = np.ones(k), np.zeros(k)
    for _ in range(steps):
        running = size > enough
        if not running.any():
            break
        image = rows.times(rows.transposed_times(direction)) + least * direction
        last, step = step, np.where(running, size / np.where(running, (direction * image).sum(0), 1), 0)
        last = np.where(last > 0, last, 1)
        below = step * ratio * (before - share) + before * last * (1 + shift * step)
        after = np.where(
            running & (share > 1e-150), share * before * last / np.where(below > 0, below, 1), share
        )
        factor = np.divide(after, share, out=np.zeros_like(share), where=share > 0)
        dual += (step * factor)[:, None] * directions
        residual = residual - step * image
        grown = np.where(running, (residual**2).sum(0), size)
        ratio, size = np.where(running, grown / np.where(size > 0, size, 1), 0), grown
        directions = after[:, None] * residual + (ratio * factor**2)[:, None] * directions
        direction = residual + ratio * direction
        before, share = share, after
    flat = dual.transpose(1, 0, 2).reshape(n, -1)
    return rows.transposed_times(flat).reshape(-1, len(alphas), k).transpose(1, 0, 2)


class Ridge(Regressor):
    """Multi-output ridge regression (Hoerl & Kennard 1970).

    Differences between models and the level common to them (see `split_level`) each get the alpha, and the
    weight of tf-idf against the dense features, that predict them best in cross-validation within the
    training prompts, folds by text.

    Args:
        features: what it sees; may be sparse. Default: embeddings, tf-idf of words, and text statistics.
        alphas: regularisation to choose from, > 0. Blocks of features have unit mean squared length, so
            these don't depend on the encoder; the best grows slowly with the number of prompts.
        tfidf_weights: factors on the sparse columns to choose from, > 0.
        folds: of the cross-validation, 2 or more.
        seed: deals texts into folds.
    """

    alphas: Positives = (3.0, 10.0, 20.0, 50.0, 100.0, 300.0, 1000.0)
    tfidf_weights: Positives = (1.0, 2.0)
    folds: int = Field(5, ge=2)

    learned: ClassVar[tuple[str, ...]] = ("weights", "intercept", "choice")
    _weights: Array
    _intercept: Array
    _choice: dict[str, dict[str, float]]

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        # Products wait for memory: threads gain nothing, and lose on a busy machine.
        with threadpool_limits(1):
            super()._fit(prompts, quality, validation)

    def _learn(self, design: Design, y: Array, prompts: PromptBatch, quality: Array) -> None:
        dense, sparse = _split(design)
        factors = self.tfidf_weights if sparse is not None else (1.0,)
        # Vocabulary and scales have seen all training prompts; they know no quality, so the folds may share them.
        fold = text_folds(prompts.texts, self.folds, self.seed)
        errors = np.array([self._errors(dense, _scaled(sparse, f), y, fold) for f in factors])
        # errors [factors, alphas, 2]: of the differences, and of the level
        best = [np.unravel_index(errors[..., part].argmin(), errors.shape[:2]) for part in range(2)]
        chosen = [(int(f), int(a)) for f, a in best]
        self._choice = {
            name: {"tfidf_weight": float(factors[f]), "alpha": float(self.alphas[a])}
            for name, (f, a) in zip(("differences", "level"), chosen, strict=True)
        }
        m = quality.shape[1]
        weights = []
        for part, (f, a) in zip((slice(0, m), slice(m, m + 1)), chosen, strict=True):
            rows = Rows.of(dense, _scaled(sparse, factors[f]))
            solved = ridge_path(rows, y[:, part], [self.alphas[a]], 1e-9)[0]
            solved[dense.shape[1] :] *= factors[f]
            weights.append(solved)
        self._weights = np.hstack(weights)
        self._intercept = -Rows.of(dense, sparse).mean @ self._weights

    def _errors(self, dense: Array, sparse: "csr_array | None", y: Array, fold: Array) -> Array:
        """Return the squared error on the folds left out, float64 [alphas, 2]: of the differences, and of the level."""
        total = np.zeros((len(self.alphas), 2))
        if fold.max() == 0:  # a single text: there are no folds
            return total - np.array(self.alphas)[:, None]  # so take the largest, most careful alpha
        for held in range(fold.max() + 1):
            train, test = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
            mean = y[train].mean(0)
            rows = Rows.of(dense[train], None if sparse is None else sparse[train])
            # 1e-3 is far finer than the differences between alphas.
            weights = ridge_path(rows, y[train] - mean, self.alphas, 1e-3)
            unseen = Rows(dense[test], None if sparse is None else sparse[test], rows.mean)
            for i, solved in enumerate(weights):
                squared = ((unseen.times(solved) + mean - y[test]) ** 2).sum(0)
                total[i] += squared[:-1].sum(), squared[-1]
        return total

    def _columns(self, design: Design) -> Array:
        dense, sparse = _split(design)
        a = dense.shape[1]
        columns = dense @ self._weights[:a] + self._intercept
        if sparse is not None:
            columns += sparse @ self._weights[a:]
        return columns


def _split(design: Design) -> tuple[Array, "csr_array | None"]:
    """Return the dense columns, float64 [n, a] (a may be 0), and the sparse ones or None."""
    from scipy.sparse import csr_array, hstack

    blocks = list(design.sparse.values())
    n = blocks[0].shape[0] if blocks else len(next(iter(design.dense.values())))
    dense = np.hstack([np.zeros((n, 0)), *design.dense.values()])
    if not blocks:
        return dense, None
    return dense, blocks[0] if len(blocks) == 1 else csr_array(hstack(blocks, format="csr"))


def _scaled(sparse: "csr_array | None", factor: float) -> "csr_array | None":
    return None if sparse is None else sparse * factor
