"""Kernel ridge regression for many models and few prompts."""

import numpy as np
from pydantic import Field

from promptroute.core.errors import UserError
from promptroute.predictors.base import Array, Positives
from promptroute.predictors.kernel import EXACT, Kernel
from promptroute.predictors.targets import split_level


class SharedKernel(Kernel):
    """Kernel ridge regression that lets models share what they have in common.

    Qualities of many models move together. So quality, level and all, is turned into its principal directions over the
    prompts (the model covariance's eigenvectors), and each direction gets the regularisation that predicts it best,
    by exact leave-one-out errors on the prompts that it is fitted on: what many models share is followed closely,
    what is peculiar to few is smoothed away. With the covariance's eigenvectors shared by signal and noise, this is
    the posterior mean of a multi-task Gaussian process (Bonilla, Chai & Williams 2007, section 2.2).

    The same kernel as `Kernel`, whose `alpha` isn't read. Fitting decomposes the kernel matrix, so that it takes some
    ten times as long as `Kernel`.

    Args:
        alphas: regularisation to choose from, > 0, in units of a direction's own variance.
        points: prompts that it can learn from at most, up to 20,000.
    """

    points: int | None = Field(8000, ge=1, le=EXACT)
    alphas: Positives = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 300.0)

    def _solve(self, k: Array, y: Array) -> tuple[Array, Array]:
        from scipy.linalg import eigh

        k[np.diag_indices_from(k)] -= self.alpha
        values, vectors = eigh(k, driver="evd", overwrite_a=True, check_finite=False)
        values = np.maximum(values, 0)
        scale = self._targets.scale.astype(np.float32)
        quality = y[:, :-1] * scale[:-1] + y[:, -1:] * scale[-1]  # but for each model's mean
        directions = eigh((quality.T @ quality).astype(np.float64))[1].astype(np.float32)
        turned = quality @ directions
        inner, squared = vectors.T @ turned, vectors**2
        best = np.full(turned.shape[1], np.inf)
        weights, missed = np.zeros_like(turned), np.zeros(turned.shape)
        for alpha in self.alphas:
            shrunk = (1 / (values + alpha)).astype(np.float32)
            dual = vectors @ (shrunk[:, None] * inner)
            left_out = dual / (squared @ shrunk).astype(np.float64)[:, None]
            better = (error := (left_out**2).sum(0)) < best
            best = np.where(better, error, best)
            weights[:, better], missed[:, better] = dual[:, better], left_out[:, better]
        per_unit = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
        in_columns, left_out = (
            np.hstack(split_level(rows @ directions.T)) * per_unit for rows in (weights, missed)
        )
        return in_columns, left_out

    def _solve_points(self, y: Array, most: int) -> Array:
        raise UserError(
            f"SharedKernel learns from {len(y)} prompts, but from more than points ({most}) it can't choose its "
            f"regularisation; choose predictor kernel, or set points to {len(y)} where memory and time allow"
        )
