"""Ridge regression on embeddings, tf-idf and text statistics."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.base import Array, Learner, Validation
from promptroute.predictors.features import Design, Features, FittedFeatures
from promptroute.predictors.targets import Targets, text_folds

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Rows:
    """A centred matrix [n, d] that is never written out: dense columns, then sparse ones, less their means.

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
        means = [dense.mean(0)] if sparse is None else [dense.mean(0), np.asarray(sparse.mean(0)).ravel()]
        return cls(dense, sparse, np.concatenate(means))

    def times(self, weights: Array) -> Array:
        """Centred matrix · weights [d, k] → [n, k]."""
        a = self.dense.shape[1]
        product = self.dense @ weights[:a]
        if self.sparse is not None:
            product += self.sparse @ weights[a:]
        return product - self.mean @ weights

    def transposed_times(self, rows: Array) -> Array:
        """Centred matrix, transposed · rows [n, k] → [d, k]."""
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


@dataclass
class Ridge(Learner):
    """Multi-output ridge regression (Hoerl & Kennard 1970).

    Differences between models and the level common to them (see `split_level`) each get the alpha, and the
    weight of tf-idf against the dense features, that predict them best in cross-validation within the
    training prompts, folds by text.

    Args:
        features: what it sees; sparse tf-idf is welcome.
        alphas: regularisation to choose from, > 0. Blocks of features have unit mean squared length, so
            these don't depend on the encoder; the best grows slowly with the number of prompts.
        tfidf_weights: factors on the sparse columns to choose from.
        folds: of the cross-validation.
        seed: deals texts into folds.
    """

    kind: ClassVar[str] = "ridge"
    features: Features = field(default_factory=Features)
    alphas: Sequence[float] = (3.0, 10.0, 20.0, 50.0, 100.0, 300.0, 1000.0)
    tfidf_weights: Sequence[float] = (1.0, 2.0)
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.features, dict):
            self.features = Features(**self.features)
        for name in ("alphas", "tfidf_weights"):
            values = getattr(self, name)
            if not len(values) or min(values) <= 0:
                raise UserError(f"ridge: {name} is {list(values)}; expected one or more numbers above 0")
        if self.folds < 2:
            raise UserError(f"ridge: folds is {self.folds}; expected 2 or more")

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        # Products wait for memory: threads gain nothing, and lose on a busy machine.
        with threadpool_limits(1):
            self._fit_alone(prompts, quality)

    def _fit_alone(self, prompts: PromptBatch, quality: Array) -> None:
        fitted = self.features.fit(prompts)
        targets = Targets.fit(quality)
        y = targets.encode(quality)
        dense, sparse = _columns(fitted.transform(prompts))
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
        self._fitted, self._targets = fitted, targets
        self._weights = np.hstack(weights)
        self._intercept = -Rows.of(dense, sparse).mean @ self._weights

    def _errors(self, dense: Array, sparse: "csr_array | None", y: Array, fold: Array) -> Array:
        """Held-out squared error, float64 [alphas, 2]: of the differences, and of the level."""
        total = np.zeros((len(self.alphas), 2))
        if fold.max() == 0:  # one text only: nothing can be held out
            return total - np.array(self.alphas)[:, None]  # so take the largest, most careful alpha
        for held in range(fold.max() + 1):
            train, test = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
            mean = y[train].mean(0)
            rows = Rows.of(dense[train], None if sparse is None else sparse[train])
            # 1e-3 is far finer than the differences between alphas.
            weights = ridge_path(rows, y[train] - mean, self.alphas, 1e-3)
            unseen = Rows(dense[test], None if sparse is None else sparse[test], rows.mean)
            for i, one in enumerate(weights):
                squared = ((unseen.times(one) + mean - y[test]) ** 2).sum(0)
                total[i] += squared[:-1].sum(), squared[-1]
        return total

    def _predict(self, prompts: PromptBatch) -> Array:
        dense, sparse = _columns(self._fitted.transform(prompts))
        a = dense.shape[1]
        columns = dense @ self._weights[:a] + self._intercept
        if sparse is not None:
            columns += sparse @ self._weights[a:]
        return self._targets.decode(columns)

    def _widths(self) -> dict[str, int]:
        return self._fitted.widths

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        state, arrays = self._fitted.state()
        arrays |= self._targets.arrays() | {"weights": self._weights, "intercept": self._intercept}
        return {"features": state, "choice": self._choice}, arrays

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        self._fitted = FittedFeatures.from_state(self.features, state["features"], arrays)
        self._targets = Targets.from_arrays(arrays)
        self._weights, self._intercept = arrays["weights"], arrays["intercept"]
        self._choice = state["choice"]


def _columns(design: Design) -> tuple[Array, "csr_array | None"]:
    """Dense columns float64 [n, a] (a may be 0), and sparse ones or None."""
    from scipy.sparse import csr_array, hstack

    blocks = list(design.sparse.values())
    n = blocks[0].shape[0] if blocks else len(next(iter(design.dense.values())))
    dense = np.hstack([np.zeros((n, 0)), *design.dense.values()])
    if not blocks:
        return dense, None
    return dense, blocks[0] if len(blocks) == 1 else csr_array(hstack(blocks, format="csr"))


def _scaled(sparse: "csr_array | None", factor: float) -> "csr_array | None":
    return None if sparse is None else sparse * factor
