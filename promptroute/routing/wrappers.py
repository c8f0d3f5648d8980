"""Policies around policies: what holds another policy back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.routing import checks, choices
from promptroute.routing.base import Calibration, Candidates, Policy, Training, explain_loss
from promptroute.routing.checks import Array, BoolArray, Embeddings, FloatArray, IntArray
from promptroute.routing.guarantees import abstain
from promptroute.routing.ood import OodDetector

_INNER = "policy."


class Wrapper(Policy):
    """A policy around another: whatever it doesn't change is the inner policy's.

    Settings:
        policy: the inner one.
    """

    policy: Policy

    @property
    def name(self) -> str:
        return f"{self.policy.name}, {self.title}"

    def _with(self, policy: Policy, calibration: Calibration | None) -> Self:
        return self.model_copy(update={"policy": policy, "calibration": calibration})

    def safest(self, allowed: IntArray | None) -> int:
        return self.policy.safest(allowed)

    def out_of_distribution(self, embeddings: Embeddings) -> BoolArray | None:
        return self.policy.out_of_distribution(embeddings)

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        return self.policy.explain(predicted, chosen, candidates, ood=ood)

    def summary(self, labels: Sequence[str]) -> str:
        return self.policy.summary(labels)

    def describe(self, models: Sequence[str]) -> Plain:
        return {**self.policy.describe(models), "name": self.name, "description": self.description}

    def notes(self, labels: Sequence[str]) -> list[str]:
        return self.policy.notes(labels)

    def figures(
        self, observed: FloatArray, cost: FloatArray, choice: IntArray, models: Sequence[str]
    ) -> Plain:
        return self.policy.figures(observed, cost, choice, models)

    @property
    def needs(self) -> frozenset[str]:
        return self.policy.needs

    def check(self, cost: FloatArray, encoders: Collection[str]) -> None:
        self.policy.check(cost, encoders)
        super().check(cost, encoders)

    def arrays(self) -> dict[str, np.ndarray]:
        return {_INNER + name: values for name, values in self.policy.arrays().items()}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        inner = {name.removeprefix(_INNER): rows for name, rows in arrays.items() if name.startswith(_INNER)}
        return self.model_copy(update={"policy": self.policy.with_arrays(inner)})


class WithMargin(Wrapper):
    """Leave the best single model only for a predicted gain above a margin.

    Predicted gains are noisy, and the largest of them are the luckiest.

    Settings:
        policy: what decides otherwise; its operating point is set without the margin: set with it, a higher λ
            would just undo that.
        margin: added to the predicted quality of the best single model, units of quality, 0 or more.
    """

    title = "with a margin"

    margin: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.policy.exact:
            raise UserError(
                f"the policy {self.policy.title} takes no margin; leave the margin or the policy out"
            )
        return self

    @property
    def description(self) -> str:
        return (
            f"{self.policy.description}; the best single model is left only for a gain above {self.margin:g}"
        )

    def choose(
        self, quality: Array, cost: Array, *, allowed: IntArray | None = None, ood: BoolArray | None = None
    ) -> IntArray:
        credited = choices.with_margin(quality, model=self.safest(None), margin=self.margin)
        return self.policy.choose(credited, cost, allowed=allowed, ood=ood)

    def calibrate(
        self, predicted: Array, observed: Array, cost: Array, training: Training | None = None
    ) -> Policy:
        guess, truth, price = checks.evaluation(predicted, observed, cost)
        inner = self.policy.calibrate(guess, truth, price, training)
        assert inner.calibration is not None
        choice = self._with(inner, inner.calibration).choose(guess, price)
        facts = Calibration.of(truth, price, choice, inner.calibration.single)
        own = {"quality": facts.quality, "cost": facts.cost}
        return self._with(inner, inner.calibration.model_copy(update=own))

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        best = max(predicted[column] for column in candidates.columns)
        if not ood and chosen == self.safest(None) and 0 < best - predicted[chosen] <= self.margin:
            label = candidates.labels[chosen]
            return (
                f"{explain_loss(predicted, chosen, candidates)}, which is too little to leave {label}, the best "
                f"single model"
            )
        return super().explain(predicted, chosen, candidates, ood=ood)

    def summary(self, labels: Sequence[str]) -> str:
        return f"{self.policy.summary(labels)}; margin {self.margin:g}"

    def describe(self, models: Sequence[str]) -> Plain:
        return {**super().describe(models), "margin": self.margin}

    def notes(self, labels: Sequence[str]) -> list[str]:
        note = (
            f"Margin: the best single model is left only for a predicted gain above {self.margin:g}, in units of "
            "quality. The operating point was set without it, the figures beside it are with it."
        )
        return [*super().notes(labels), note]


class WithOodFallback(Wrapper):
    """Send out-of-distribution prompts to the best single model, whatever is predicted.

    A prompt is out-of-distribution where its mean cosine to its nearest training prompts is lower than for all
    but a share of the validation prompts; see `ood.novelty`.

    Settings:
        policy: what decides for all other prompts.
        share: of the validation prompts that would be sent away, at most; 0 to 1. A given `threshold` decides it.
        neighbours: how many of the nearest training prompts count, 1 or more.
        encoder: by whose sentence embeddings; None: the study's first text encoder.
        threshold: 1 - mean cosine above which a prompt is sent away; None: set by `calibrate`.
    """

    title = "with an out-of-distribution fallback"

    share: float = Field(default=0.05, ge=0, le=1)
    neighbours: int = Field(default=10, ge=1)
    encoder: str | None = None
    threshold: float | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.policy.looks:
            raise UserError(
                f"the policy {self.policy.title} takes no fallback, as it goes on after its first image; leave the "
                f"fallback or the policy out"
            )
        return self

    _detector: OodDetector | None = PrivateAttr(default=None)

    @property
    def description(self) -> str:
        return f"{self.policy.description}; out-of-distribution prompts go to the best single model"

    def choose(
        self, quality: Array, cost: Array, *, allowed: IntArray | None = None, ood: BoolArray | None = None
    ) -> IntArray:
        chosen = self.policy.choose(quality, cost, allowed=allowed, ood=ood)
        return chosen if ood is None else abstain(chosen, ood, safest=self.safest(allowed))

    def calibrate(
        self, predicted: Array, observed: Array, cost: Array, training: Training | None = None
    ) -> Policy:
        """Return the policy with its threshold; the `calibration` is the inner policy's, without the fallback.

        Raises:
            UserError: there is no encoder, or not the one that is named.
        """
        known = {} if training is None else training.train
        if not known or (self.encoder is not None and self.encoder not in known):
            wanted = "a text encoder" if self.encoder is None else f"the text encoder {self.encoder}"
            raise UserError(
                f"an out-of-distribution fallback needs {wanted} to tell far prompts by, and there is "
                f"{', '.join(known) or 'none'}; choose a text encoder, or leave the fallback out"
            )
        assert training is not None
        name = self.encoder or next(iter(known))
        detector = OodDetector.fit(
            known[name], training.validation[name], share=self.share, neighbours=self.neighbours
        )
        share = self.share
        if self.threshold is not None:  # what is given stays, as every operating point does
            detector = replace(detector, threshold=self.threshold)
            share = float(detector.flags(training.validation[name]).mean())
        inner = self.policy.calibrate(predicted, observed, cost, training)
        fitted = self._with(inner, inner.calibration).model_copy(
            update={"encoder": name, "share": share, "threshold": detector.threshold}
        )
        fitted._detector = detector
        return fitted

    def out_of_distribution(self, embeddings: Embeddings) -> BoolArray | None:
        if self._detector is None or self.encoder is None:
            raise UserError(f"{self.title} has no threshold yet; calibrate it")
        # Of an encoder that gives inner layers too, the last columns are the sentence embedding.
        width = self._detector.rows.shape[1]
        return self._detector.flags(embeddings[self.encoder][:, -width:])

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        if ood:
            return "out-of-distribution: no training prompt is near enough to go by, so it goes to the best single model"
        return super().explain(predicted, chosen, candidates)

    def summary(self, labels: Sequence[str]) -> str:
        return (
            f"{self.policy.summary(labels)}; out-of-distribution prompts (1 - cosine above {self.threshold:.3f}) go "
            f"to {labels[self.safest(None)]}"
        )

    def describe(self, models: Sequence[str]) -> Plain:
        return {**super().describe(models), "fallback": {"share": self.share, "encoder": self.encoder}}

    def notes(self, labels: Sequence[str]) -> list[str]:
        note = (
            f"Fallback: a prompt farther from its {self.neighbours} nearest training prompts than all but "
            f"{self.share:.1%} of the validation prompts (1 - mean cosine above {self.threshold:.4f}, by "
            f"the encoder {self.encoder}) goes to {labels[self.safest(None)]}, the best single "
            "model. The figures above are without it."
        )
        return [*super().notes(labels), note]

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | ({self.encoder} if self.encoder is not None else frozenset())

    def check(self, cost: FloatArray, encoders: Collection[str]) -> None:
        if self.encoder not in encoders:
            raise ValueError(f"fallback by encoder {self.encoder!r}, of {list(encoders)}")
        if self._detector is None:
            raise ValueError("the fallback has no rows of training prompts")
        self._detector.flags(np.ones((1, self._detector.rows.shape[1])))
        self.safest(None)
        super().check(cost, encoders)

    def arrays(self) -> dict[str, np.ndarray]:
        return super().arrays() | ({} if self._detector is None else {"rows": self._detector.rows})

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        if "rows" not in arrays or self.threshold is None:
            raise ValueError("the fallback has no rows of training prompts, or no threshold")
        restored = super().with_arrays(arrays)
        restored._detector = OodDetector(arrays["rows"], self.neighbours, self.threshold)
        return restored
