"""Matrix factorisation of who beats whom: the MF router among the usual baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.base import Array, Learner, Validation
from promptroute.predictors.features import Features, FittedFeatures
from promptroute.predictors.knn import dense_features
from promptroute.predictors.targets import Targets, text_folds


@dataclass
class Factorisation(Learner):
    """A learnt vector for each model, matched with a projection of the prompt.

    Model j scores s_j = v_j · (P x) + b_j on a prompt with features x, and beats model k with probability
    sigmoid(s_j - s_k) (RouteLLM, arXiv 2406.18665, section 4.2; there with two models and human votes, here
    with every pair, and the score of the study as judge). The loss is the mean cross-entropy over prompts and
    pairs, ties as half a win each, plus penalty / 2 · (|P|² + |V|²), minimised by L-BFGS.

    Scores are log-odds; one factor, of least squares on the training prompts, and each model's mean bring
    them to the unit of quality. The level common to all models is not learnt: its mean is predicted.

    Args:
        features: what it sees; must be dense.
        factors: length of the models' vectors, >= 1.
        penalties: to choose from by the cross-entropy on a held-out fold, > 0.
        steps: of L-BFGS at most.
        folds: one of so many, by text, is held out for the choice; then all prompts are fitted.
        seed: of the start, and of the folds.
    """

    kind: ClassVar[str] = "factorisation"
    features: Features = field(default_factory=dense_features)
    factors: int = 16
    penalties: Sequence[float] = (0.003, 0.01, 0.02, 0.04)
    steps: int = 300
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.features, dict):
            self.features = Features(**self.features)
        if not len(self.penalties) or min(self.penalties) <= 0:
            raise UserError(
                f"factorisation: penalties is {list(self.penalties)}; expected one or more numbers above 0"
            )
        for name, least in (("factors", 1), ("steps", 1), ("folds", 2)):
            if getattr(self, name) < least:
                raise UserError(f"factorisation: {name} is {getattr(self, name)}; expected {least} or more")

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        fitted = self.features.fit(prompts)
        rows = fitted.transform(prompts).matrix()
        targets = Targets.fit(quality)
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
        truth = targets.encode(quality)[:, :-1]
        factor = float(((scores - centre) * truth).sum()) / spread if spread > 0 else 0.0
        self._fitted, self._targets = fitted, targets
        # Each model's score less the mean score, in the unit of the targets.
        self._weights = factor * (weights - weights.mean(1, keepdims=True))
        self._bias = factor * (bias - bias.mean() - centre)

    def _solve(self, rows: Array, quality: Array, penalty: float) -> tuple[Array, Array]:
        """Weights Pᵀ Vᵀ, float64 [d, m], and bias [m]."""
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

    def _predict(self, prompts: PromptBatch) -> Array:
        scores = self._fitted.transform(prompts).matrix() @ self._weights + self._bias
        return self._targets.decode(np.hstack([scores, np.zeros((len(scores), 1))]))

    def _widths(self) -> dict[str, int]:
        return self._fitted.widths

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        state, arrays = self._fitted.state()
        return {"features": state}, arrays | self._targets.arrays() | {
            "weights": self._weights,
            "bias": self._bias,
        }

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        self._fitted = FittedFeatures.from_state(self.features, state["features"], arrays)
        self._targets = Targets.from_arrays(arrays)
        self._weights, self._bias = arrays["weights"], arrays["bias"]
        if self._weights.ndim != 2 or self._bias.shape != self._weights.shape[1:]:
            raise ValueError(f"weights {self._weights.shape} and bias {self._bias.shape} don't fit together")


def pair_loss(scores: Array, quality: Array) -> tuple[float, Array]:
    """Mean cross-entropy of "model j beats model k" over n prompts and all pairs, and its slope by the scores.

    Args:
        scores: log-odds [n, m]; sigmoid(s_j - s_k) is the probability that j beats k.
        quality: [n, m], higher wins; equals count as half a win each.

    Returns:
        The loss (lower is better; 0 with one model), and float64 [n, m].
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
