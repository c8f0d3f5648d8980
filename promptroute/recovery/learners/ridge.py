"""Ridge regression in closed form (Hoerl & Kennard 1970)."""

import numpy as np
from pydantic import Field, PositiveFloat

from promptroute.recovery.learners.base import Arrays, Examples, Learner, Scaling, held_out, mean_cosine
from promptroute.recovery.vectors import Views


class Ridge(Learner):
    """Predict the embedding linearly from all views side by side.

    Args:
        penalty: of the squared weights, as a multiple of the mean eigenvalue of the views' covariance; tried in turn, the
            one with the best mean cosine on held-out images is taken.
        seed: of the groups that are held out.
    """

    penalty: tuple[PositiveFloat, ...] = Field(
        (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0), min_length=1, strict=False
    )
    seed: int = Field(0, ge=0, lt=2**32)

    def _fit(self, examples: Examples, groups: np.ndarray, validation: Examples | None) -> Arrays:
        scaling = Scaling.of(examples.views)
        penalty = self.penalty[0]
        if len(self.penalty) > 1:
            known, judged = held_out(examples, groups, validation, self.seed)
            fits = _solve(scaling(known.views), known.target, self.penalty)
            rows = scaling(judged.views)
            found = [mean_cosine(rows @ weights + offset, judged.target) for weights, offset in fits]
            best = int(np.argmax(found))
            penalty = self.penalty[best]
            if validation is not None:  # what was fitted is the whole already
                return {**scaling._asdict(), "weights": fits[best][0], "offset": fits[best][1]}
        weights, offset = _solve(scaling(examples.views), examples.target, (penalty,))[0]
        return {**scaling._asdict(), "weights": weights, "offset": offset}

    def _predict(self, views: Views) -> np.ndarray:
        learned = self._arrays
        rows = Scaling(learned["mean"], learned["scale"])(views)
        return np.asarray(rows @ learned["weights"] + learned["offset"])


def _solve(
    rows: np.ndarray, target: np.ndarray, penalties: tuple[float, ...]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fit weights [p, d] and an offset [d] for each penalty, from one Gram matrix: of columns, or of rows where fewer."""
    from scipy import linalg

    middle, mean = rows.mean(axis=0), target.mean(axis=0)
    centred = rows - middle
    few = len(rows) < rows.shape[1]
    # Products in float32 take half the time; the penalty is far above their rounding.
    gram = (centred @ centred.T if few else centred.T @ centred).astype(np.float64)
    unknown = max(float(np.trace(gram)), 1e-12) / rows.shape[1]
    right = np.asarray(target - mean if few else centred.T @ (target - mean), np.float64)
    if len(penalties) == 1:
        gram[np.diag_indices_from(gram)] += penalties[0] * unknown
        found = [linalg.solve(gram, right, assume_a="pos", overwrite_a=True)]
    else:
        values, vectors = linalg.eigh(gram, overwrite_a=True)
        turned = vectors.T @ right
        found = [vectors @ (turned / (values + penalty * unknown)[:, None]) for penalty in penalties]
    fits = []
    for solved in found:
        weights = (centred.T @ solved if few else solved).astype(np.float32)
        fits.append((weights, (mean - middle @ weights).astype(np.float32)))
    return fits
