"""How a router shall decide, as people set it: the section `policy` of the parameters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from promptroute.core.errors import UserError
from promptroute.routing.calibrate import Target
from promptroute.routing.steps import Policy

KNOBS: tuple[Policy, ...] = ("cost_aware", "cheapest_within")
"""Policies whose knob is chosen on validation."""
POLICIES = (*KNOBS, "best_predicted", "guaranteed")
TARGETS: tuple[Target, ...] = ("quality", "cost")


def check_policy(policy: str, target: str, where: str) -> None:
    """Refuse a policy or target that the router doesn't know.

    Raises:
        UserError: naming `where` and the legal values.
    """
    for name, value, allowed in (("policy", policy, POLICIES), ("target", target, TARGETS)):
        if value not in allowed:
            raise UserError(f"{where}: {name} {value!r} is unknown; expected one of {', '.join(allowed)}")


@dataclass(frozen=True)
class Settings:
    """What decides, and how carefully.

    Attributes:
        name: one of `POLICIES`.
        target: one of `TARGETS`, what the knob is chosen for; `best_predicted` and `guaranteed` have none.
        margin: `KNOBS` leave the best single model only for a predicted gain above it; units of quality, 0 or
            more.
        fallback: share (0 to 1) of the validation prompts, those least like the training prompts, that
            would go to the best single model whatever is predicted; None: no such fallback.
        epsilon: `guaranteed`: within how much of the best single model's quality; units of quality, 0 or more.
        alpha: `guaranteed`: the probability of falling shorter than that, above 0 and below 1.
    """

    name: Policy | Literal["best_predicted", "guaranteed"]
    target: Target = "quality"
    margin: float = 0.0
    fallback: float | None = None
    epsilon: float | None = None
    alpha: float | None = None

    @classmethod
    def read(cls, section: Mapping[str, Any], where: str) -> Self:
        """Check a section, and take it.

        Raises:
            UserError: a setting is unknown, missing or out of range; names `where`.
        """
        known = [one.name for one in fields(cls)]
        if strange := [key for key in section if key not in known]:
            raise UserError(
                f"{where}: there is no setting {strange[0]!r}; expected some of {', '.join(known)}"
            )
        if "name" not in section:
            raise UserError(f"{where} has no name; give policy.name one of {', '.join(POLICIES)}")
        settings = cls(**section)
        check_policy(settings.name, settings.target, where)
        settings._check(where)
        return settings

    @property
    def promise(self) -> tuple[float, float] | None:
        """Epsilon and alpha of `guaranteed`; None for other policies."""
        if self.name != "guaranteed" or self.epsilon is None or self.alpha is None:
            return None
        return self.epsilon, self.alpha

    def _check(self, where: str) -> None:
        def number(name: str, expected: str, fits: Any) -> None:
            value = getattr(self, name)
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            if not (plain and math.isfinite(value) and fits(value)):
                raise UserError(f"{where}.{name} is {value!r}; give {expected}")

        number("margin", "a number of 0 or more, in units of quality", lambda value: value >= 0)
        if self.margin and self.name not in KNOBS:
            raise UserError(f"{where}.margin is {self.margin}, but {self.name} takes none; set it to 0")
        if self.fallback is not None:
            number(
                "fallback",
                "null for none, or a share of the prompts from 0 to 1, as 0.05",
                lambda value: 0 <= value <= 1,
            )
        if self.name != "guaranteed":
            return
        if lost := [name for name in ("epsilon", "alpha") if getattr(self, name) is None]:
            raise UserError(f"{where} has no {lost[0]}, which 'guaranteed' needs; choose policy=guaranteed")
        number("epsilon", "a number of 0 or more, in units of quality", lambda value: value >= 0)
        number("alpha", "a probability above 0 and below 1, as 0.1", lambda value: 0 < value < 1)
