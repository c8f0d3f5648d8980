"""The policies that can decide, or be compared with."""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.routing import checks, choices
from promptroute.routing.base import (
    Calibration,
    Candidates,
    OperatingPoint,
    Policy,
    Training,
    among,
    explain_gain,
)
from promptroute.routing.calibrate import set_point
from promptroute.routing.checks import Array, BoolArray, FloatArray, IntArray
from promptroute.routing.guarantees import Guarantee, calibrate, coverage
from promptroute.routing.steps import Steps, slack_steps, tradeoff_steps


class BestPredicted(Policy):
    """Choose the model predicted best, whatever it costs: the choice of Lee & Lee, CIKM '24."""

    title = "best predicted"

    @property
    def description(self) -> str:
        return "the model of the highest predicted quality, whatever it costs"

    def rule(self, quality: FloatArray, cost: FloatArray) -> IntArray:
        return choices.best_predicted(quality, cost)

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        return "predicted best"


class Oracle(BestPredicted):
    """Choose each prompt's truly best model: what no router can know, and the most that any can reach."""

    title = "oracle"
    sees_observed = True

    @property
    def description(self) -> str:
        return "each prompt's truly best model: the most that any router can reach"


class Single(Policy):
    """Choose one model for every prompt.

    Settings:
        model: its column or name; None: the best single model of the calibration prompts.
        because: why, for whoever asks.
    """

    title = "single model"

    model: int | str | None = None
    because: str = "every prompt goes to this model"

    @property
    def description(self) -> str:
        return "this model for every prompt"

    def choose(
        self, quality: Array, cost: Array, *, allowed: IntArray | None = None, ood: BoolArray | None = None
    ) -> IntArray:
        if not isinstance(self.model, int):
            raise UserError(f"{self.name} has no column for the model {self.model!r} yet; calibrate it")
        column = self.model if allowed is None or self.model in allowed else self.safest(allowed)
        return choices.single(quality, cost, model=column)

    def calibrate(
        self, predicted: Array, observed: Array, cost: Array, training: Training | None = None
    ) -> Policy:
        guess, truth, price = checks.evaluation(predicted, observed, cost)
        model = self.model
        if isinstance(model, str):
            names = list(training.models) if training else []
            if model not in names:
                raise UserError(
                    f"{self.title}: model {model!r} is unknown; expected one of {', '.join(names)}"
                )
            model = names.index(model)
        column = checks.best_single(truth, model)
        return self.model_copy(update={"model": column}).measured(guess, truth, price)

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        return self.because

    def summary(self, labels: Sequence[str]) -> str:
        label = labels[self.model] if isinstance(self.model, int) else "not known yet"
        reason = self.calibration.reason if self.calibration and self.calibration.reason else self.because
        return f"{self.name}, {label}: {reason}"


class Random(Policy):
    """Choose a model evenly at random, whatever is predicted.

    Settings:
        seed: of numpy's default generator.
    """

    title = "random"

    seed: int = Field(default=0, ge=0)

    @property
    def description(self) -> str:
        return "a model at random"

    def rule(self, quality: FloatArray, cost: FloatArray) -> IntArray:
        return choices.random_choice(quality, cost, seed=self.seed)

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        return "chosen at random"


class UnderBudget(Policy):
    """Choose for the best total predicted quality of a batch within a budget; see `choices.plan_budget`.

    What one prompt gets depends on the others of its batch.

    Settings:
        budget: dollars per image, on average over the batch; None: what the best single model of the
            calibration prompts costs.
    """

    title = "under budget"
    operating_point = OperatingPoint("budget", "budget", "dollars per image")

    budget: float | None = Field(default=None, gt=0)

    @property
    def description(self) -> str:
        return "most predicted quality at no more than the best single model's total cost"

    def rule(self, quality: FloatArray, cost: FloatArray) -> IntArray:
        if self.budget is None:
            raise UserError(f"{self.name} has no budget yet; calibrate it, or give one")
        return choices.under_budget(quality, cost, budget=float(self.budget * len(quality)))

    def calibrate(
        self, predicted: Array, observed: Array, cost: Array, training: Training | None = None
    ) -> Policy:
        guess, truth, price = checks.evaluation(predicted, observed, cost)
        budget = float(price[checks.best_single(truth)]) if self.budget is None else self.budget
        return self.model_copy(update={"budget": budget}).measured(guess, truth, price)

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        return f"{explain_gain(predicted, chosen, candidates)} (within the budget of the batch)"


GOALS = {
    "quality": "to reach the best single model's quality at least cost",
    "cost": "for most quality at the best single model's cost",
}


class Tuned(Policy):
    """A policy whose operating point trades quality for cost, and is set for a stated target.

    Settings:
        target: "quality": the best single model's quality at least cost; "cost": most quality at no more
            than the best single model's cost.
        budget: for "cost": dollars per image to pay at most, on average, in place of that model's cost.
        standard_errors: for "quality": ask for so many standard errors of the mean difference more than the
            best single model's quality, 0 or more, so that new prompts fall short less often.
    """

    target: Literal["quality", "cost"] = "quality"
    budget: float | None = Field(default=None, gt=0)
    standard_errors: float = Field(default=0.0, ge=0)

    @staticmethod
    @abstractmethod
    def steps(quality: FloatArray, cost: FloatArray) -> Steps:
        """Return the steps that the choice takes as the operating point falls, for quality [n, m], cost [m]."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.target == "cost" and self.standard_errors:
            raise UserError(
                f"standard_errors is {self.standard_errors} for target 'cost', expected 0: it makes only "
                f"'quality' safer"
            )
        if self.target == "quality" and self.budget is not None:
            raise UserError(f"budget is {self.budget} for target 'quality', expected null: it bounds 'cost'")
        return self

    @property
    def name(self) -> str:
        return f"{self.title}, {f'to keep {self.target}' if self.budget is None else 'within a budget'}"

    @property
    def goal(self) -> str:
        """Say what the operating point is set for."""
        if self.budget is None:
            return GOALS[self.target]
        return f"for most quality at no more than ${1000 * self.budget:.4g} per 1,000 images"

    @property
    def point(self) -> float:
        """Give the operating point.

        Raises:
            UserError: there is none yet.
        """
        assert self.operating_point is not None
        setting = self.operating_point.setting
        value: float | None = getattr(self, setting)
        if value is None:
            raise UserError(f"{self.title} has no {setting} yet; calibrate it, or give one")
        return value

    def calibrate(
        self, predicted: Array, observed: Array, cost: Array, training: Training | None = None
    ) -> Policy:
        """Return the policy with its operating point set; the best single model where none meets the target."""
        assert self.operating_point is not None
        guess, truth, price = checks.evaluation(predicted, observed, cost)
        setting = self.operating_point.setting
        if getattr(self, setting) is not None:
            return self.measured(guess, truth, price)
        bounds = self.standard_errors, self.budget
        point, facts = set_point(self.steps, guess, truth, price, self.target, *bounds)
        if point is None:
            because = f"no operating point met the target ({self.target}) on validation, so every prompt goes to one model"
            return Single(model=facts.single, because=because, calibration=facts)
        return self.model_copy(update={setting: point, "calibration": facts})

    def check(self, cost: FloatArray, encoders: Any) -> None:
        if self.point < 0:  # whoever copied a policy may have skipped its checks
            raise ValueError(f"{self.title}: {self.point} is below 0")
        super().check(cost, encoders)


class CostAware(Tuned):
    """Choose argmax of predicted quality - λ · cost.

    Settings, besides those of `Tuned`:
        tradeoff: λ, quality per dollar, 0 or more; None: set by `calibrate`.
    """

    title = "cost-aware"
    operating_point = OperatingPoint("tradeoff", "λ", "quality per dollar")
    steps = staticmethod(tradeoff_steps)

    tradeoff: float | None = Field(default=None, ge=0)

    @property
    def description(self) -> str:
        return f"predicted quality less λ · cost; λ set {self.goal}"

    def rule(self, quality: FloatArray, cost: FloatArray) -> IntArray:
        return choices.cost_aware(quality, cost, tradeoff=self.point)


class CheapestWithin(Tuned):
    """Choose the cheapest model whose predicted quality is within ε of the best predicted.

    Settings, besides those of `Tuned`:
        slack: ε, in units of quality, 0 or more; None: set by `calibrate`.
    """

    title = "cheapest within"
    operating_point = OperatingPoint("slack", "ε", "of quality")
    steps = staticmethod(slack_steps)

    slack: float | None = Field(default=None, ge=0)

    @property
    def description(self) -> str:
        return f"the cheapest model within ε of the best predicted; ε set {self.goal}"

    def rule(self, quality: FloatArray, cost: FloatArray) -> IntArray:
        return choices.cheapest_within(quality, cost, slack=self.point)


class Promising(Policy):
    """A policy that keeps within ε of the best single model with probability 1 - α, by conformal risk control.

    Settings:
        epsilon: ε, in units of quality, 0 or more.
        alpha: α, the probability of falling shorter than that, above 0 and below 1.
        guarantee: what was calibrated; None: set by `calibrate`.
    """

    operating_point = OperatingPoint("epsilon", "ε", "of quality")
    exact = True

    epsilon: float = Field(default=0.1, ge=0)
    alpha: float = Field(default=0.1, gt=0, lt=1)
    guarantee: Guarantee | None = None

    @property
    def _given(self) -> Guarantee:
        if self.guarantee is None:
            raise UserError(f"{self.title} has no threshold yet; calibrate it")
        return self.guarantee

    def figures(
        self, observed: FloatArray, cost: FloatArray, choice: IntArray, models: Sequence[str]
    ) -> Plain:
        """Measure whether the guarantee held: the share of prompts within epsilon, with its 95 % interval."""
        own = self._given
        kept = coverage(observed, choice, single=own.single, epsilon=own.epsilon)
        return {
            "guarantee": {
                "given": own.given,
                "epsilon": own.epsilon,
                "alpha": own.alpha,
                "against": models[own.single],
                "promised": 1 - own.alpha,
                "coverage": {"estimate": kept.share, "low": kept.low, "high": kept.high},
                "to_a_cheaper_model": float((cost[choice] < cost[own.single]).mean()),
            }
        }

    def check(self, cost: FloatArray, encoders: Collection[str]) -> None:
        checks.column(self._given.single, len(cost), "single")
        super().check(cost, encoders)


class Guaranteed(Promising):
    """Choose the cheapest model within ε of the best single model with probability 1 - α.

    See `guarantees.calibrate` for what that does and doesn't guarantee.
    """

    title = "guaranteed"

    @property
    def description(self) -> str:
        return (
            f"the cheapest model within {self.epsilon:g} of the best single model's quality with probability "
            f"{1 - self.alpha:g}"
        )

    def choose(
        self, quality: Array, cost: Array, *, allowed: IntArray | None = None, ood: BoolArray | None = None
    ) -> IntArray:
        own = self._given
        if not own.given or (allowed is not None and own.single not in allowed):
            return choices.single(quality, cost, model=self.safest(allowed))
        place = own.single if allowed is None else int(np.searchsorted(allowed, own.single))
        return among(
            quality,
            cost,
            allowed,
            lambda q, c: choices.cheapest_guaranteed(q, c, single=place, threshold=own.threshold),
        )

    def calibrate(
        self, predicted: Array, observed: Array, cost: Array, training: Training | None = None
    ) -> Policy:
        guess, truth, price = checks.evaluation(predicted, observed, cost)
        # The theorem asks for a best single model that was named without a look at the calibration prompts.
        single = None if training is None else training.single
        found = calibrate(guess, truth, price, epsilon=self.epsilon, alpha=self.alpha, single=single)
        facts = Calibration.of(
            truth, price, np.full(len(truth), found.single), found.single, reached=found.given
        )
        fitted = self.model_copy(update={"guarantee": found, "calibration": facts})
        facts = Calibration.of(truth, price, fitted.choose(guess, price), found.single, reached=found.given)
        return fitted.model_copy(update={"calibration": facts})

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        own, labels, cost = self._given, candidates.labels, candidates.cost
        if not own.given:
            return own.statement
        best = labels[own.single]
        if own.single not in candidates.columns:
            return f"the guarantee is against {best}, which may not be chosen here, so every prompt goes to one model"
        words = f"within {own.epsilon:g} of {best}"
        if chosen == own.single:
            return f"no cheaper model is predicted well enough to stay {words}"
        share, saved = f"{1 - own.alpha:.4g} of all prompts", 1 - cost[chosen] / cost[own.single]
        # The calibration speaks of the choice among all models.
        whole = len(candidates.columns) == len(labels)
        sure = "calibrated" if whole else "calibrated, though for all models together,"
        return f"the cheapest that is {sure} to stay {words} on {share}, for {saved:.0%} less"

    def summary(self, labels: Sequence[str]) -> str:
        own = self._given
        return f"{self.name}, against {labels[own.single]}: {own.statement}"

    def describe(self, models: Sequence[str]) -> Plain:
        own = self._given
        facts = {
            "given": own.given,
            "epsilon": own.epsilon,
            "alpha": own.alpha,
            "against": models[own.single],
            "statement": own.statement,
        }
        return {**super().describe(models), "guarantee": facts}

    def notes(self, labels: Sequence[str]) -> list[str]:
        own = self._given
        model = labels[own.single]
        text = f"Guarantee, against {model}: {own.statement}."
        if own.given:
            text += (
                f" A cheaper model is taken where it is predicted more than {own.threshold:+.4g} above {model}. "
                f"On the calibration prompts at most {own.risk:.2%} fell shorter than allowed. It comes from "
                "conformal risk control (arXiv 2208.02814), so it holds on average over prompts like the training "
                "prompts: not for each prompt, for each kind of prompt, or for a choice among some of the models. "
                "Where the predictor learnt from the calibration prompts too (`kernel`), its leave-one-out "
                "predictions stand in for those of a fit without them, and the guarantee is approximate."
            )
        return [text]
