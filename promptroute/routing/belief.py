"""What is believed of a prompt's scores before its images are seen, and what a look at some of them changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptroute.core.errors import UserError
from promptroute.routing import checks
from promptroute.routing.checks import Array, BoolArray, FloatArray

LEVEL = 0.9
"""Of the intervals whose coverage is checked."""
_Z = 1.6448536269514722  # the normal quantile of 1/2 + LEVEL/2
# Eigenvalues below this share of the largest are rounding: two models whose residuals are alike.
_RANK = 1e-10


@dataclass(frozen=True, eq=False)
class Belief:
    """Scores x of a prompt's images, one a model: x ~ N(mean, covariance), mean what is predicted for the prompt.

    Attributes:
        covariance: float64 [m, m], of the residuals of held-out prompts, in squared units of quality.
        noise: float64 [m], variance of an image's luck: how the scores of a model's images for one prompt differ;
            None: not known.
        prompts: held-out prompts that it was fitted on.
        coverage: share of their scores within the 90 % interval around their prediction; near 0.9 where x is normal.
    """

    covariance: FloatArray
    noise: FloatArray | None
    prompts: int
    coverage: float

    def __post_init__(self) -> None:
        m = len(self.covariance)
        if self.covariance.shape != (m, m) or m == 0 or not np.isfinite(self.covariance).all():
            raise ValueError(
                f"covariance of shape {self.covariance.shape}, expected finite numbers [models, models]"
            )
        if not np.allclose(self.covariance, self.covariance.T) or (np.diag(self.covariance) < 0).any():
            raise ValueError("covariance is no covariance: not symmetric, or a variance is below 0")
        if self.noise is not None:
            fits = self.noise.shape == (m,) and np.isfinite(self.noise).all()
            if (
                not fits
                or (self.noise < 0).any()
                or (self.noise > np.diag(self.covariance) * (1 + 1e-9)).any()
            ):
                raise ValueError(
                    f"noise {self.noise}, expected [{m}] variances from 0 to those of the covariance"
                )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Belief)
            and (self.prompts, self.coverage) == (other.prompts, other.coverage)
            and np.array_equal(self.covariance, other.covariance)
            and (self.noise is None) == (other.noise is None)
            and (self.noise is None or np.array_equal(self.noise, other.noise))  # type: ignore[arg-type]
        )

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.covariance)

    def posterior(self, mean: Array, scores: Array) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of each model's score given those seen, both float64 [n, m].

        Gaussian conditioning on the seen scores O of a prompt:

            m_j = mean_j + C_jO C_OO^-1 (x_O - mean_O),    s_j^2 = C_jj - C_jO C_OO^-1 C_Oj

        Args:
            mean: predicted quality [n, m].
            scores: [n, m]; NaN: not seen; -inf: the image failed, which says nothing of the others.

        Raises:
            ValueError: a wrong shape, or a value that is neither.
        """
        guess, seen = self.check(mean, scores)
        center, sd = guess.copy(), np.empty_like(guess)
        for rows, known in groups(np.isfinite(seen)):
            gain, left = self.given(known)
            center[rows] += (seen[np.ix_(rows, known)] - guess[np.ix_(rows, known)]) @ gain.T
            sd[rows] = np.sqrt(np.diag(left))
        return center, sd

    def given(self, known: Sequence[int] | np.ndarray) -> tuple[FloatArray, FloatArray]:
        """Return what seeing the columns `known` [o] does: gain [m, o] on the mean, and the covariance left [m, m].

        It depends on which are seen and not on what was seen, so that one answer serves many prompts.
        """
        if not len(known):
            return np.zeros((len(self), 0)), self.covariance
        across = self.covariance[:, known]
        gain = across @ np.linalg.pinv(across[known], rcond=_RANK, hermitian=True)
        left = self.covariance - gain @ across.T
        left[known], left[:, known] = 0.0, 0.0
        np.fill_diagonal(left, np.maximum(np.diag(left), 0.0))
        return gain, left

    def repeated(self, images: int) -> "Belief":
        """Return the belief about `images` images a model, [images · m]: first every model's first, and so on.

        Images of one model share what the model makes of the prompt and differ by luck, of variance `noise`.

        Raises:
            UserError: the noise is not known, so nothing says what a second image may add.
        """
        if images == 1:
            return self
        if self.noise is None:
            raise UserError(
                "several images of a model need the belief's noise, which a study of one score a prompt doesn't tell; "
                "generate more seeds, or look at one image a model"
            )
        shared = self.covariance - np.diag(self.noise)
        noise = np.tile(self.noise, images)
        whole = np.asarray(np.kron(np.ones((images, images)), shared) + np.diag(noise), np.float64)
        return Belief(whole, noise, self.prompts, self.coverage)

    def check(self, mean: Array, scores: Array) -> tuple[FloatArray, FloatArray]:
        """Return both as float64 [n, m]; see `posterior`."""
        guess = checks.quality_matrix(mean, "mean")
        seen = np.asarray(scores, np.float64)
        if guess.shape[1] != len(self):
            raise ValueError(
                f"mean has {guess.shape[1]} models, and the belief {len(self)}; expected the same"
            )
        if seen.shape != guess.shape:
            raise ValueError(f"scores has shape {seen.shape} and mean {guess.shape}; expected the same")
        if (seen == np.inf).any():
            raise ValueError(
                "a score is inf; expected finite numbers, NaN where unseen, -inf for a failed image"
            )
        return guess, seen


def groups(mask: BoolArray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each distinct row of a mask [n, m], the rows that are alike and the columns that are True."""
    if len(mask) == 0:
        return []
    if len(mask) == 1:
        return [(np.zeros(1, np.int64), np.flatnonzero(mask[0]))]
    if mask.shape[1] < 63:  # a whole number for each pattern sorts ten times as fast
        packed, axis = mask @ (1 << np.arange(mask.shape[1])), None
    else:
        packed, axis = np.packbits(mask, axis=1), 0
    _, first, which = np.unique(packed, axis=axis, return_index=True, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(which.ravel()))[:-1])
    return [(rows, np.flatnonzero(mask[place])) for rows, place in zip(parts, first, strict=True)]


def fit(predicted: Array, observed: Array, noise: Array | None = None) -> Belief:
    """Fit a belief on held-out predictions: those of a fit that had not seen the prompts.

    Residuals of the fit itself would be far too small, and the search would stop too early.

    Args:
        predicted: quality [n, m].
        observed: quality [n, m]; or [n, m, k], of k images a model, from which the noise is taken.
        noise: [m] variance of an image's luck, where `observed` doesn't tell; at most the residuals' variance counts.

    Raises:
        UserError: there are no more prompts than models.
        ValueError: a wrong shape, or a value that is not finite.
    """
    guess, truth = checks.quality_matrix(predicted, "predicted"), np.asarray(observed, np.float64)
    images = truth[:, :, None] if truth.ndim == 2 else truth
    n, m = guess.shape
    if images.shape[:2] != (n, m) or images.ndim != 3 or not np.isfinite(images).all():
        raise ValueError(
            f"observed has shape {truth.shape}, predicted {guess.shape}; expected finite numbers of the same prompts "
            f"and models"
        )
    if n <= m:
        raise UserError(
            f"{n} held-out prompts are too few to tell how {m} models' scores hang together; give more than {m}"
        )
    residual = images - guess[:, :, None]
    covariance = np.einsum("iak,ibk->ab", residual, residual) / (n * images.shape[2])
    variance = np.diag(covariance)
    if images.shape[2] > 1:
        noise = images.var(axis=2, ddof=1).mean(axis=0)
    own = None if noise is None else np.minimum(np.asarray(noise, np.float64), variance)
    return Belief(covariance, own, n, float(within(residual, np.sqrt(variance)[:, None]).mean()))


def within(residual: FloatArray, sd: FloatArray) -> BoolArray:
    """Tell which residuals lie within their 90 % interval, for standard deviations that broadcast to them."""
    return np.asarray(np.abs(residual) <= _Z * sd)
