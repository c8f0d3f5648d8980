"""Cost rules: what one image costs under each model, in dollars.

A rule is a frozen dataclass that a configuration builds (`_target_`), called with the models' facts:
an ordered mapping, model name -> mapping of facts (`seconds` per image, `memory_gb` in GB, and
`measured_seconds` per image where a profile was taken). It returns float64 [m] in the mapping's order.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from promptroute.core.errors import UserError
from promptroute.routing.checks import FloatArray

PRICE_PER_GB_SECOND = 0.0000166667

Facts = Mapping[str, Mapping[str, Any]]


def serverless_cost(
    seconds: npt.ArrayLike, memory_gb: npt.ArrayLike, price_per_gb_second: float = PRICE_PER_GB_SECOND
) -> FloatArray:
    """Dollars per image on a serverless platform: seconds * ceil(memory in GB) * price.

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


@dataclass(frozen=True)
class Serverless:
    """Serverless pricing, equation (4) of Lee & Lee, CIKM '24; see `serverless_cost`.

    `seconds` picks the time: "profile" is each model's fact `seconds` (as stated in its configuration),
    "measured" its fact `measured_seconds` (as timed on this machine or given by a published table).
    `price_per_gb_second` is in dollars.
    """

    price_per_gb_second: float = PRICE_PER_GB_SECOND
    seconds: Literal["profile", "measured"] = "profile"

    def __post_init__(self) -> None:
        _positive(self.price_per_gb_second, "cost rule serverless: price_per_gb_second")
        if self.seconds not in ("profile", "measured"):
            raise UserError(
                f"cost rule serverless: seconds is {self.seconds!r}; expected 'profile' or 'measured'"
            )

    def __call__(self, facts: Facts) -> FloatArray:
        """Return dollars per image [m] in the order of `facts`; UserError where a fact is missing or bad."""
        _some_model(facts)
        key = "seconds" if self.seconds == "profile" else "measured_seconds"
        seconds = [_fact(facts, model, key) for model in facts]
        memory = [_fact(facts, model, "memory_gb") for model in facts]
        return serverless_cost(seconds, memory, self.price_per_gb_second)


@dataclass(frozen=True)
class Flops:
    """A price for the work itself: each model's fact `gflops` (10⁹ operations per image), whatever the machine.

    `price_per_petaflop` is in dollars for 10¹⁵ operations.
    """

    price_per_petaflop: float

    def __post_init__(self) -> None:
        _positive(self.price_per_petaflop, "cost rule flops: price_per_petaflop")

    def __call__(self, facts: Facts) -> FloatArray:
        """Return dollars per image [m] in the order of `facts`; UserError where a fact is missing or bad."""
        _some_model(facts)
        gflops = np.array([_fact(facts, model, "gflops") for model in facts])
        return gflops * (self.price_per_petaflop / 1e6)


@dataclass(frozen=True)
class PricePerImage:
    """A fixed price per image, as image APIs charge: `prices` maps model name -> dollars, above 0."""

    prices: Mapping[str, float]

    def __post_init__(self) -> None:
        if not isinstance(self.prices, Mapping):
            raise UserError(
                f"cost rule price per image: prices is {self.prices!r}; expected model name: dollars"
            )
        for model, price in self.prices.items():
            _positive(price, f"cost rule price per image: the price of {model}")

    def __call__(self, facts: Facts) -> FloatArray:
        """Return dollars per image [m] in the order of `facts`.

        Raises UserError where a model has no price, or a price names no model of the study.
        """
        _some_model(facts)
        missing = [model for model in facts if model not in self.prices]
        if missing:
            raise UserError(
                f"cost rule price per image: no price for {', '.join(missing)}; give each with -S +cost.prices.MODEL=DOLLARS"
            )
        unknown = [model for model in self.prices if model not in facts]
        if unknown:
            raise UserError(
                f"cost rule price per image: prices names {', '.join(unknown)}, which this study lacks; "
                f"take it out, the models are {', '.join(facts)}"
            )
        return np.array([float(self.prices[model]) for model in facts])


_HOW = {
    "seconds": "state the seconds per image in its model file, or use measured times (seconds: measured)",
    "measured_seconds": "profile the model, give a table with times, or use stated times (seconds: profile)",
    "gflops": "count them (python -m stages.profile MODEL) and state them in its model file",
    "memory_gb": "state the memory in GB in its model file",
}


def _some_model(facts: Facts) -> None:
    if not facts:
        raise UserError("a cost rule was given no model; give it at least one")


def _fact(facts: Facts, model: str, key: str) -> float:
    value = facts[model].get(key)
    if value is None:
        rule = "flops" if key == "gflops" else "serverless"
        raise UserError(f"model {model} has no {key}, which its {rule} cost needs; {_HOW[key]}")
    return _positive(value, f"model {model}: {key}")


def _positive(value: Any, what: str) -> float:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise UserError(f"{what} is {value!r}; expected a finite number above 0")
    return float(value)
