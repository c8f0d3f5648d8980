"""Figures and names as people write them, the same in pictures and pages."""

from collections.abc import Mapping

from promptroute.report.result import Result

NARROW = "\u00a0"  # a space that no line breaks at

# strategy → name, and what it does. Those in PREDICTED see the prediction only.
STRATEGIES = {
    "router": ("router", "the trained router, its knob set beforehand on other prompts"),
    "oracle": ("oracle", "each prompt's truly best model: the most that any router can reach"),
    "random": ("random", "a model at random"),
    "best_predicted": (
        "best predicted (CEMS)",
        "the model of the highest predicted quality, whatever it costs",
    ),
    "under_budget": (
        "under budget",
        "most predicted quality at no more than the best single model's total cost",
    ),
    "cost_aware_quality": (
        "cost-aware, to keep quality",
        "predicted quality less λ · cost; λ set to reach the best single model's quality at least cost",
    ),
    "cost_aware_cost": (
        "cost-aware, to keep cost",
        "predicted quality less λ · cost; λ set for most quality at the best single model's cost",
    ),
    "cheapest_within_quality": (
        "cheapest within, to keep quality",
        "the cheapest model within ε of the best predicted; ε set to reach the best single model's quality "
        "at least cost",
    ),
    "cheapest_within_cost": (
        "cheapest within, to keep cost",
        "the cheapest model within ε of the best predicted; ε set for most quality at the best single "
        "model's cost",
    ),
}


def strategy_name(result: Result, name: str) -> str:
    """A strategy's name for people; a single model's is the model's label."""
    model = name.removeprefix("single_")
    if name.startswith("single_") and model in result.values["labels"]:
        return str(result.values["labels"][model])
    return STRATEGIES[name][0] if name in STRATEGIES else name.replace("_", " ")


def strategy_does(name: str) -> str:
    """What a strategy does, in a phrase; empty where there is nothing to add to its name."""
    if name.startswith("single_"):
        return "this model for every prompt"
    return STRATEGIES[name][1] if name in STRATEGIES else ""


def number(value: float | None, digits: int, *, signed: bool = False, missing: str = "–") -> str:
    """A number with a true minus sign; zero has no sign; None is `missing`."""
    if value is None or value != value:
        return missing
    rounded = round(value, digits) + 0.0  # turns −0.0 into 0.0
    text = f"{abs(rounded):,.{digits}f}"
    return ("−" if rounded < 0 else "+" if signed and rounded > 0 else "") + text


def percent(value: float | None, digits: int = 1, *, signed: bool = False, missing: str = "–") -> str:
    """A share or relative change as a percentage."""
    if value is None or value != value:
        return missing
    return number(100 * value, digits, signed=signed) + f"{NARROW}%"


def interval(
    one: Mapping[str, float | None],
    digits: int,
    *,
    share: bool = False,
    signed: bool = False,
    missing: str = "–",
) -> str:
    """A figure with its 95 % interval, as `−11.8 % [−27.6 %, 3.1 %]`; an end that can't be had is `missing`."""
    form = percent if share else number
    value, low, high = (
        form(one[end], digits, signed=signed, missing=missing) for end in ("estimate", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def way(one: Mapping[str, float | None]) -> str:
    """A share of the way to the oracle with its 95 % interval.

    Where the best single model all but is the oracle there is hardly a way, and a share of it, thousands of percent, says
    nothing: beyond ± 1,000 % it is left out.
    """
    ends = {end: None if (share := one[end]) is None or abs(share) > 10 else share for end in one}
    return interval(ends, 1, share=True)


def less_or_more(change: float, digits: int = 0) -> str:
    """A relative change of cost, as `25 % less money`."""
    size = percent(abs(change), digits)
    if float(round(100 * change, digits)) == 0:
        return "the same money"
    return f"{size} {'less' if change < 0 else 'more'} money"
