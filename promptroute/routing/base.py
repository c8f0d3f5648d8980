"""What every policy is: predicted quality and costs in, a model for each prompt out."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from promptroute.core.component import Component, build
from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.routing import checks
from promptroute.routing.checks import Array, BoolArray, Embeddings, FloatArray, IntArray

Rule = Callable[[FloatArray, FloatArray], IntArray]

OWN = "promptroute.routing."
"""Package whose policies any router folder may name."""


class Calibration(BaseModel):
    """What a policy yields on the prompts that it was calibrated on.

    `quality` and `cost` (dollars per image) are means there, as are those of the best single model, column
    `single`; `mean_quality` [m] are the models' own. `reached` tells whether an operating point met the
    target; `reason` says why in any case.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    prompts: int
    quality: float
    cost: float
    single: int
    single_quality: float
    single_cost: float
    mean_quality: list[float]
    reached: bool = True
    reason: str = ""

    @classmethod
    def of(cls, observed: FloatArray, cost: FloatArray, choice: IntArray, single: int, **more: Any) -> Self:
        """Measure a choice [n] on observed quality [n, m] at `cost` [m]; `more` fields as given."""
        return cls(
            prompts=len(observed),
            quality=float(observed[np.arange(len(observed)), choice].mean()),
            cost=float(cost[choice].mean()),
            single=single,
            single_quality=float(observed[:, single].mean()),
            single_cost=float(cost[single]),
            mean_quality=observed.mean(axis=0).tolist(),
            **more,
        )


@dataclass(frozen=True, eq=False)
class Training:
    """What may be known of a study besides the prompts that a policy is calibrated on.

    Attributes:
        models: m names, in the order of the columns.
        single: column of the best single model of the training prompts, named without a look at the
            calibration prompts; None: not known.
        train, validation: encoder → sentence embeddings [k, d] of the training and of the validation prompts.
        look: dollars for scoring an image; None: not known.
        images: observed quality of each single image [n, m, k] of the calibration prompts; None: only means are known.
    """

    models: Sequence[str] = ()
    single: int | None = None
    train: Embeddings = field(default_factory=dict)
    validation: Embeddings = field(default_factory=dict)
    look: float | None = None
    images: FloatArray | None = None


@dataclass(frozen=True)
class Candidates:
    """The models of a choice, for people: labels [m], dollars per image [m], and the columns that were allowed."""

    labels: Sequence[str]
    cost: Sequence[float]
    columns: Sequence[int]


class OperatingPoint(NamedTuple):
    """What a policy's one free number is: the setting that holds it, its sign and its unit."""

    setting: str
    sign: str
    unit: str


class Policy(Component):
    """Turn predicted quality and costs into choices.

    A policy is a component: to add one, write a class and a YAML. Its settings hold its operating point, given
    by hand or set by `calibrate`; arrays that it learns lie in underscored attributes and travel by `arrays`.

    Attributes:
        title: how people call it.
        operating_point: what its operating point means; None: it has none.
        sees_observed: it chooses by observed quality, so only an evaluation can use it.
        exact: what it states holds for predictions as they are, so nothing may be added to them.
        looks: it looks at an image's score before it decides on another, so its choice is only the first image.
        calibration: what it yields on the prompts it was calibrated on; set by `calibrate`.
    """

    title: ClassVar[str]
    operating_point: ClassVar[OperatingPoint | None] = None
    sees_observed: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    looks: ClassVar[bool] = False

    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """Give the title, with what tells this policy from others of its class."""
        return self.title

    @property
    @abstractmethod
    def description(self) -> str:
        """Say what it does, in a phrase."""

    def rule(self, quality: FloatArray, cost: FloatArray) -> IntArray:
        """Return the choice [n] among all the models given, for quality [n, m] and cost [m]; `choose` asks for it."""
        raise NotImplementedError(f"{type(self).__name__} has neither rule nor choose")

    def choose(
        self, quality: Array, cost: Array, *, allowed: IntArray | None = None, ood: BoolArray | None = None
    ) -> IntArray:
        """Return the chosen column of each prompt, int64 [n]; row i depends on prompt i alone, but for a budget.

        Args:
            quality: predicted quality [n, m], higher is better.
            cost: dollars per image [m], above 0.
            allowed: ascending columns that may be chosen; None: all.
            ood: which prompts are out-of-distribution [n], from `out_of_distribution`; None: none is.

        Raises:
            ValueError: a wrong shape, a value that is not finite, or a price of 0 or less.
            UserError: it has no operating point yet.
        """
        return among(quality, cost, allowed, self.rule)

    def calibrate(
        self, predicted: Array, observed: Array, cost: Array, training: Training | None = None
    ) -> "Policy":
        """Return the policy that is fit for new prompts, its operating point set where that is still open.

        Args:
            predicted: out-of-fold predictions [n, m] for prompts that judge nothing.
            observed: their observed quality [n, m].
            cost: dollars per image [m].
            training: what else is known of the study.
        """
        guess, truth, price = checks.evaluation(predicted, observed, cost)
        return self.measured(guess, truth, price)

    def measured(self, predicted: FloatArray, observed: FloatArray, cost: FloatArray) -> Self:
        """Return the policy with its `calibration` on these prompts, the operating point as it is."""
        facts = Calibration.of(observed, cost, self.choose(predicted, cost), checks.best_single(observed))
        return self.model_copy(update={"calibration": facts})

    def out_of_distribution(self, embeddings: Embeddings) -> BoolArray | None:
        """Tell which prompts are too far from the training prompts, bool [n]; None: it doesn't look.

        Args:
            embeddings: encoder → [n, d] of the prompts.
        """
        return None

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        """Say in one sentence why a prompt with predicted quality [m] went to column `chosen`."""
        return explain_gain(predicted, chosen, candidates)

    def summary(self, labels: Sequence[str]) -> str:
        """Say what decides and with which operating point, on a line; `labels` [m] are the models'."""
        point = self.operating_point
        value = getattr(self, point.setting) if point else None
        text = (
            self.name
            if point is None or value is None
            else f"{self.name}: {point.sign} = {value:.6g} {point.unit}"
        )
        return f"{text}, {self.calibration.reason}" if self.calibration and self.calibration.reason else text

    def describe(self, models: Sequence[str]) -> Plain:
        """Say what decides, for programs, as plain values; `models` [m] are names."""
        point = self.operating_point
        value = None if point is None else {**point._asdict(), "value": getattr(self, point.setting)}
        return {"name": self.name, "description": self.description, "operating_point": value}

    def notes(self, labels: Sequence[str]) -> list[str]:
        """Give what a reader of the router's card must know of it, a paragraph each."""
        return []

    def figures(
        self, observed: FloatArray, cost: FloatArray, choice: IntArray, models: Sequence[str]
    ) -> Plain:
        """Measure what it states on n judged prompts: plain values by name; nothing where it states nothing."""
        return {}

    @property
    def needs(self) -> frozenset[str]:
        """Name the text encoders that its settings ask for."""
        return frozenset()

    def check(self, cost: FloatArray, encoders: Collection[str]) -> None:
        """Refuse what doesn't fit a router of models at `cost` [m] with these encoders.

        Raises:
            ValueError: a column is out of range, an encoder is absent, or there is no operating point.
        """
        if self.sees_observed:
            raise ValueError(
                f"{self.name} needs observed quality, which a router hasn't; choose another policy"
            )
        if self.calibration is not None:
            checks.column(self.calibration.single, len(cost), "single")
            if len(self.calibration.mean_quality) != len(cost):
                raise ValueError(
                    f"mean_quality of {len(self.calibration.mean_quality)} models, expected {len(cost)}"
                )
        self.choose(np.ones((1, len(cost))), cost)

    def arrays(self) -> dict[str, np.ndarray]:
        """Give the arrays that it has learnt, by name."""
        return {}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the policy with the arrays that `arrays` gave.

        Raises:
            ValueError: one is missing, or doesn't fit.
        """
        return self

    def safest(self, allowed: IntArray | None) -> int:
        """Return the best single model's column if it is allowed, else the best of those by mean quality.

        Raises:
            UserError: it isn't calibrated, so nothing says which that is.
        """
        if self.calibration is None:
            raise UserError(
                f"{self.name} is not calibrated, so the best single model is not known; calibrate it"
            )
        single = self.calibration.single
        if allowed is None or single in allowed:
            return single
        return int(max(allowed, key=lambda column: self.calibration.mean_quality[column]))  # type: ignore[union-attr]


def among(quality: Array, cost: Array, allowed: IntArray | None, rule: Rule) -> IntArray:
    """Apply a rule to the allowed columns; return columns of the whole."""
    matrix, price = np.asarray(quality), np.asarray(cost)
    if allowed is None:
        return rule(matrix, price)
    return allowed[rule(matrix[:, allowed], price[allowed])]


def restore(
    section: object, arrays: Mapping[str, np.ndarray], where: str, allow: Collection[str] = ()
) -> Policy:
    """Make the policy that `to_section` and `arrays` of another gave.

    Args:
        section: class and settings.
        arrays: by name.
        where: who names it, for the message.
        allow: class paths, or packages ending with a dot, besides those of this room.

    Raises:
        UserError: the class is not allowed, or refuses its settings.
        ValueError: an array is missing, or doesn't fit.
    """
    policy: Policy = build(section, where, Policy, allow=(OWN, *allow))
    return policy.with_arrays(arrays)


def explain_gain(predicted: Sequence[float], chosen: int, candidates: Candidates) -> str:
    """Say what a choice gives up in predicted quality, and what it saves."""
    labels, cost = candidates.labels, candidates.cost
    best = max(candidates.columns, key=lambda column: predicted[column])
    if predicted[chosen] == predicted[best]:
        cheaper = [labels[column] for column in candidates.columns if cost[column] < cost[chosen]]
        if not cheaper:
            return "predicted best"
        listed = " and ".join(filter(None, (", ".join(cheaper[:-1]), cheaper[-1])))
        return f"predicted best; {listed} would cost less but lose more than that saves"
    return f"{explain_loss(predicted, chosen, candidates)}, for {1 - cost[chosen] / cost[best]:.0%} less"


def explain_loss(predicted: Sequence[float], chosen: int, candidates: Candidates) -> str:
    """Say how far below the best predicted model the chosen one is predicted."""
    best = max(candidates.columns, key=lambda column: predicted[column])
    return f"predicted {predicted[best] - predicted[chosen]:.3g} below the best ({candidates.labels[best]})"
