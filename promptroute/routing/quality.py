"""What quality means in a study: one number a (prompt, model), higher is better, from one score or several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section


@dataclass(frozen=True)
class Quality:
    """A weighted sum of scores, each turned so that higher is better, and scaled as fitted.

    Attributes:
        weights: full name of a score (SCORER.OUTPUT) → weight, > 0.
        higher_is_better: score name → its direction.
        offset, spread: score name → fitted scaling; a score s counts as (±s - offset) / spread.
    """

    weights: Mapping[str, float]
    higher_is_better: Mapping[str, bool]
    offset: Mapping[str, float]
    spread: Mapping[str, float]

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores that it is made of."""
        return tuple(self.weights)

    def of(self, raw: Mapping[str, np.ndarray]) -> np.ndarray:
        """Quality [n, m] float64 of raw scores (score name → [n, m], in the score's own unit and direction).

        Raises:
            UserError: a score that it is made of is not among them.
        """
        if lost := [name for name in self.weights if name not in raw]:
            raise UserError(
                f"quality is made of the scores {list(self.weights)}, but there is no {', '.join(lost)}, only "
                f"{', '.join(raw) or 'nothing'}; add it under published.scorers, or train for another score"
            )
        parts = [
            weight * (_turned(raw[name], self.higher_is_better[name]) - self.offset[name]) / self.spread[name]
            for name, weight in self.weights.items()
        ]
        return np.sum(parts, axis=0)

    def of_images(self, images: Mapping[str, np.ndarray], raw: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Quality [n, m, k] of single images, from scores [n, m, k]; None where one of its scores has no such values.

        Of an image that failed, where a score is NaN, it is the mean of the model's other images of that prompt; where
        these failed too it is that of `raw` [n, m].
        """
        if not all(name in images for name in self.weights):
            return None
        single = self.of(images)
        if single.shape[2] < 2:
            return None
        lost = np.isnan(single)
        rest = np.where(lost, 0.0, single).sum(axis=2) / np.maximum((~lost).sum(axis=2), 1)
        rest = np.where(lost.all(axis=2), self.of(raw), rest)
        return np.where(lost, rest[:, :, None], single)

    def to_json(self) -> Plain:
        """Plain values; `Quality(**values)` is equal to self."""
        return {
            "weights": dict(self.weights),
            "higher_is_better": dict(self.higher_is_better),
            "offset": dict(self.offset),
            "spread": dict(self.spread),
        }


def flat_weights(weights: Section) -> Plain:
    """Flatten the weights of a study, {SCORER: {OUTPUT: weight}}, into full names: {SCORER.OUTPUT: weight}.

    Raises:
        UserError: a scorer without its outputs.
    """
    flat: Plain = {}
    for scorer, outputs in (weights or {}).items():
        if not isinstance(outputs, Mapping):
            raise UserError(
                f"score.weights.{scorer}: {outputs!r}; expected its outputs with their weights, as {{mean: 1.0}}"
            )
        flat |= {f"{scorer}.{name}": weight for name, weight in outputs.items()}
    return flat


def _turned(score: np.ndarray, higher_is_better: bool) -> np.ndarray:
    return score if higher_is_better else -score


def check_meaning(weights: Section, scores: Sequence[str], scale: object = "minmax") -> None:
    """Refuse what a study can't mean by quality.

    Args:
        weights: full name of a score → weight.
        scores: full names of the study's scores.
        scale: as `fit_quality`.

    Raises:
        UserError: no scores, an unknown score or scale, or a weight that is not a positive number.
    """
    if not weights:
        raise UserError(f"score.weights: no scores; choose from {sorted(scores)}")
    for name, weight in weights.items():
        if name not in scores:
            raise UserError(f"score.weights: unknown score {name!r}; choose from {sorted(scores)}")
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < float("inf"):
            raise UserError(
                f"score.weights.{name}: {weight!r}; expected a positive number (leave a score out to ignore it)"
            )
    if scale not in ("none", "minmax"):
        raise UserError(f"score.scale: {scale!r}; expected 'none' or 'minmax'")


def fit_quality(
    raw: Mapping[str, np.ndarray],
    weights: Mapping[str, float],
    higher_is_better: Mapping[str, bool],
    scale: str = "minmax",
) -> Quality:
    """Fit the scaling of a weighted sum of scores.

    Args:
        raw: score name → [n, m] of the TRAINING prompts.
        weights: score name → weight.
        higher_is_better: score name → its direction.
        scale: "none" leaves each score in its own unit; "minmax" maps each to 0..1 with one minimum and
            one maximum over all models and training prompts (CEMS, section 3).

    Raises:
        UserError: as `check_meaning`, or a score is the same everywhere.
    """
    check_meaning(weights, list(raw), scale)
    offset, spread = dict.fromkeys(weights, 0.0), dict.fromkeys(weights, 1.0)
    for name in weights if scale == "minmax" else ():
        values = _turned(raw[name], higher_is_better[name])
        offset[name], spread[name] = float(values.min()), float(values.max() - values.min())
        if spread[name] == 0:
            raise UserError(
                f"score {name!r} is {values.min()} for every training prompt and model; it can't be scaled"
            )
    return Quality(
        {name: float(weight) for name, weight in weights.items()},
        {name: higher_is_better[name] for name in weights},
        offset,
        spread,
    )
