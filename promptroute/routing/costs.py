"""Cost rules: what one image costs under each model, in dollars.

A rule is a component; to add one, write a class and a YAML.
"""

import difflib
import math
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.core.plain import Section
from promptroute.routing.checks import FloatArray

PRICE_PER_GB_SECOND = 0.0000166667
"""Dollars; Lee & Lee, CIKM '24."""


_STATED = ("seconds", "memory_gb", "gflops")


@dataclass(frozen=True)
class Facts:
    """What is known of a model's cost; None where nothing is.

    Attributes:
        seconds: per image, as stated.
        measured_seconds: per image, as timed on this machine or recorded by a published table.
        memory_gb: in GB.
        gflops: 10⁹ operations per image.
        stated: everything else that the model's profile says, for rules from elsewhere.
    """

    seconds: float | None = None
    measured_seconds: float | None = None
    memory_gb: float | None = None
    gflops: float | None = None
    stated: Section | None = None

    @classmethod
    def of(cls, profile: Section) -> Self:
        """Take the facts of a profile; what it says besides goes to `stated`.

        Raises:
            UserError: a name is that of a fact but for a slip, which would then be silently lacking.
        """
        known = {one.name for one in fields(cls)} - {"stated"}
        for name in profile.keys() - known:
            if near := difflib.get_close_matches(str(name), _STATED, 1, 0.8):
                raise UserError(
                    f"profile.{name} is none of the facts that costs are made of; did you mean {near[0]}?"
                )
        own = {name: value for name, value in profile.items() if name in known}
        return cls(**own, stated={name: value for name, value in profile.items() if name not in known})


def facts_ahead(models: Mapping[str, Section], timed: Collection[str]) -> dict[str, Facts]:
    """Return the facts that a study will have: what it measures only later counts as 1.

    Args:
        models: name → what is stated of it, as its `profile`.
        timed: those that will be profiled here.
    """
    later = dict.fromkeys(("seconds", "memory_gb", "gflops"), 1.0)
    return {
        name: Facts.of(
            {"measured_seconds": 1.0, **(model.get("profile") or {}), **(later if name in timed else {})}
        )
        for name, model in models.items()
    }


class MissingFact(UserError):
    """A cost rule needs a fact that a model's profile lacks.

    Attributes:
        model, fact, rule: their names.
    """

    def __init__(self, model: str, fact: str, rule: str) -> None:
        super().__init__(f"model {model} has no {fact}, which its cost by the rule {rule} needs")
        self.model, self.fact, self.rule = model, fact, rule


class CostRule(Component):
    """Price an image of each model.

    Attributes:
        title: how people call the rule.
    """

    title: ClassVar[str]

    @abstractmethod
    def cost(self, facts: Mapping[str, Facts]) -> FloatArray:
        """Return dollars per image, float64 [m], above 0, in the order of `facts` (model name → facts).

        Raises:
            MissingFact: a fact is missing.
            UserError: a fact is no finite number above 0, or there is no model.
        """

    def fact(self, facts: Mapping[str, Facts], name: str) -> FloatArray:
        """Return one fact of every model, float64 [m], checked."""
        if not facts:
            raise UserError("a cost rule was given no model; give it at least one")
        values = []
        for model, own in facts.items():
            value = getattr(own, name) if name in Facts.__dataclass_fields__ else (own.stated or {}).get(name)
            if value is None:
                raise MissingFact(model, name, self.title)
            values.append(_positive(value, f"model {model}: {name}"))
        return np.array(values)


def serverless_cost(
    seconds: npt.ArrayLike, memory_gb: npt.ArrayLike, price_per_gb_second: float = PRICE_PER_GB_SECOND
) -> FloatArray:
    """Return dollars per image on a serverless platform: seconds * ceil(memory in GB) * price.

    Lee & Lee, CIKM '24, equation (4): memory is billed by the whole GB.

    `seconds` per image and `memory_gb` are scalars or arrays that broadcast, above 0;
    `price_per_gb_second` is in dollars. Returns float64 of the broadcast shape.
    Raises UserError where a value is not finite or not above 0.
    """
    terms = {"seconds": seconds, "memory_gb": memory_gb, "price_per_gb_second": price_per_gb_second}
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in terms.items()}
    for name, array in arrays.items():
        if not (np.isfinite(array) & (array > 0)).all():
            raise UserError(f"{name} is {terms[name]!r}; expected finite values above 0")
    return np.asarray(arrays["seconds"] * np.ceil(arrays["memory_gb"]) * arrays["price_per_gb_second"])


class Serverless(CostRule):
    """Bill seconds and memory as a serverless platform does: equation (4) of Lee & Lee, CIKM '24.

    Settings:
        price_per_gb_second: dollars, above 0.
        seconds: "profile": the model's fact `seconds`; "measured": its fact `measured_seconds`.
    """

    title = "serverless"

    price_per_gb_second: float = Field(default=PRICE_PER_GB_SECOND, gt=0)
    seconds: Literal["profile", "measured"] = "profile"

    def cost(self, facts: Mapping[str, Facts]) -> FloatArray:
        name = "seconds" if self.seconds == "profile" else "measured_seconds"
        return serverless_cost(
            self.fact(facts, name), self.fact(facts, "memory_gb"), self.price_per_gb_second
        )


class Flops(CostRule):
    """Price the work itself, whatever the machine: the model's fact `gflops`.

    Settings:
        price_per_petaflop: dollars for 10¹⁵ operations, above 0.
    """

    title = "flops"

    price_per_petaflop: float = Field(gt=0)

    def cost(self, facts: Mapping[str, Facts]) -> FloatArray:
        return self.fact(facts, "gflops") * (self.price_per_petaflop / 1e6)


class PricePerImage(CostRule):
    """Charge a fixed price per image, as image APIs do.

    Settings:
        prices: model name → dollars, above 0; models of the study only.
        default: dollars of a model that `prices` doesn't name and whose profile states no `dollars`, above 0; None:
            each must have a price.
    """

    title = "price per image"

    prices: dict[str, float] = Field(default={})
    default: float | None = Field(default=None, gt=0)

    @field_validator("prices")
    @classmethod
    def _above_zero(cls, prices: dict[str, float]) -> dict[str, float]:
        for model, price in prices.items():
            _positive(price, f"the price of {model}")
        return prices

    def cost(self, facts: Mapping[str, Facts]) -> FloatArray:
        if not facts:
            raise UserError("a cost rule was given no model; give it at least one")
        stated = {name: (own.stated or {}).get("dollars", self.default) for name, own in facts.items()}
        prices = {**stated, **self.prices}
        if missing := [model for model in facts if prices[model] is None]:
            raise MissingFact(missing[0], "price", self.title)
        if unknown := [model for model in self.prices if model not in facts]:
            raise UserError(
                f"the rule {self.title}: prices names {', '.join(unknown)}, which this study lacks; take it out, "
                f"the models are {', '.join(facts)}"
            )
        return np.array([_positive(prices[model], f"the price of {model}") for model in facts])


def _positive(value: Any, what: str) -> float:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise UserError(f"{what} is {value!r}; expected a finite number above 0")
    return float(value)
