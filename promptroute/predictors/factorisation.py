"""Matrix factorisation of who beats whom: the MF router among the usual baselines."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Arrays, Positives, State
from promptroute.predictors.features import Design, Features
from promptroute.predictors.regressor import Regressor
from promptroute.predictors.targets import text_folds


class Factorisation(Regressor):
    """A learned vector for each model, matched with a projection of the prompt.

    Model j scores s_j = v_j · (P x) + b_j on a prompt with features x, and beats model k with probability
    sigmoid(s_j - s_k) (RouteLLM, arXiv 2406.18665, section 4.2; there with two models and human votes, here
    with every pair, and the score of the study as judge). The loss is the mean cross-entropy over prompts and
    pairs, ties as half a win each, plus penalty / 2 · (|P|² + |V|²), minimised by L-BFGS.

    Scores are log-odds; one factor, of least squares on the training prompts, and each model's mean bring
    them to the unit of quality. The level common to all models is not learned: its mean is predicted.

    Args:
        features: what it sees; must be dense. Default: as `Knn`.
        factors: length of the models' vectors, 1 or more.
        penalties: to choose from by the cross-entropy on a held-out fold, > 0.
        steps: of L-BFGS at most.
        folds: number of parts, by text; the first is left out for the choice, then all prompts are fitted.
        seed: of the start, and of the folds.
    """

    features: Features = Features(words="fallback", components=128)
    factors: PositiveInt = 16
    penalties: Positives = (0.003, 0.01, 0.02, 0.04)
    steps: PositiveInt = 300
    folds: int = Field(5, ge=2)

    learned: ClassVar[tuple[str, ...]] = ("weights", "bias")
    _weights: Array
    _bias: Array

    def _learn(self, design: Design, y: Array, prompts: PromptBatch, quality: Array) -> None:
        rows = design.matrix()
        fold = text_folds(prompts.texts, self.folds, self.seed)
        train, held = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
        penalty = max(self.penalties)  # the most careful, where one text only leaves nothing to hold out
        if len(train):
            losses = []
            for tried in self.penalties:
                weights, bias = self._solve(rows[train], quality[train], tried)
                losses.append(pair_loss(rows[held] @ weights + bias, quality[held])[0])
            penalty = self.penalties[int(np.argmin(losses))]
        weights, bias = self._solve(rows, quality, penalty)
        scores = rows @ weights + bias
        scores = scores - scores.mean(1, keepdims=True)
        centre = scores.mean(0)
        spread = float(((scores - centre) ** 2).sum())
        factor = float(((scores - centre) * y[:, :-1]).sum()) / spread if spread > 0 else 0.0
        # Each model's score less the mean score, in the unit of the targets.
        self._weights = factor * (weights - weights.mean(1, keepdims=True))
        self._bias = factor * (bias - bias.mean() - centre)

    def _solve(self, rows: Array, quality: Array, penalty: float) -> tuple[Array, Array]:
        """Return weights Pᵀ Vᵀ, float64 [d, m], and bias [m]."""
        from scipy.optimize import minimize

        d, m, k = rows.shape[1], quality.shape[1], self.factors
        random = np.random.default_rng(self.seed)
        start = np.concatenate(
            [
                random.normal(0, 0.1, d * k) / np.sqrt(k),
                random.normal(0, 0.5, m * k) / np.sqrt(k),
                np.zeros(m),
            ]
        )

        def parts(values: Array) -> tuple[Array, Array, Array]:
            return values[: d * k].reshape(d, k), values[d * k : -m].reshape(m, k), values[-m:]

        def objective(values: Array) -> tuple[float, Array]:
            projection, vectors, bias = parts(values)
            seen = rows @ projection
            loss, slope = pair_loss(seen @ vectors.T + bias, quality)
            loss += penalty / 2 * float((values[:-m] ** 2).sum())
            gradient = np.concatenate(
                [(rows.T @ (slope @ vectors)).ravel(), (slope.T @ seen).ravel(), slope.sum(0)]
            )
            gradient[:-m] += penalty * values[:-m]
            return loss, gradient

        found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": self.steps})
        projection, vectors, bias = parts(found.x)
        return projection @ vectors.T, bias

    def _columns(self, design: Design) -> Array:
        scores = design.matrix() @ self._weights + self._bias
        return np.hstack([scores, np.zeros((len(scores), 1))])

    def _restore(self, folder: Path, state: State, arrays: Arrays) -> None:
        super()._restore(folder, state, arrays)
        if self._weights.ndim != 2 or self._bias.shape != self._weights.shape[1:]:
            raise ValueError(f"weights {self._weights.shape} and bias {self._bias.shape} don't fit together")


def pair_loss(scores: Array, quality: Array) -> tuple[float, Array]:
    """Return the mean cross-entropy of "model j beats model k" over n prompts and all pairs, and its slope.

    Args:
        scores: log-odds [n, m]; sigmoid(s_j - s_k) is the probability that j beats k.
        quality: [n, m], higher wins; equals count as half a win each.

    Returns:
        The loss (lower is better; 0 with one model), and its derivative by the scores, float64 [n, m].
    """
    from scipy.special import expit, log_expit

    n, m = scores.shape
    slope = np.zeros(scores.shape)
    loss, pairs = 0.0, max(m * (m - 1) // 2, 1)
    for j in range(m):
        for k in range(j + 1, m):
            lead = scores[:, j] - scores[:, k]
            won = (1 + np.sign(quality[:, j] - quality[:, k])) / 2
            loss -= float((won * log_expit(lead) + (1 - won) * log_expit(-lead)).sum())
            wrong = expit(lead) - won
            slope[:, j] += wrong
            slope[:, k] -= wrong
    return loss / (n * pairs), slope / (n * pairs)
