"""The cost table of a result, for the terminal."""

from collections.abc import Mapping, Sequence

from promptroute.core.plain import Section


def cost_table(result: Section, *, scores: bool = False) -> str:
    """Return the cost table of what `evaluate` wrote: a line for each strategy, and the headline figures.

    `scores`: with a column for each score that quality alone doesn't tell, so a wide table.
    """
    labels: Mapping[str, str] = result["labels"]
    frontier, router = result["frontier"], result["router"]
    about = [f"({result[key]})" for key in ("stale", "table", "about", "few", "seen") if result.get(key)]
    return "\n".join(
        [
            f"quality = {result['score']}; {result['prompts']} test prompts; gain and cost change: against the best "
            f"single model, {labels.get(result['best_single'], result['best_single'])}",
            *about,
            "",
            *_lines(result, labels, scores),
            "",
            "with 95 % intervals over prompts, where each resample has its own best single model",
            "  router, its operating point set beforehand, not on these prompts:",
            f"    gain {_interval(router['quality_gain'], '+.4f')}, cost change {_interval(router['cost_change'], '+.1%')}",
            *_against_per_set(result),
            "  frontier, read off these prompts:",
            f"    cost at the best single model's quality {_interval(frontier['iso_quality_cost'], '+.1%', 'not reached')}",
            f"    oracle gap closed at no more cost {_interval(frontier['oracle_gap_closed'], '.1%')}",
            *(_searched(result) if "searched" in result else ()),
        ]
    )


def _against_per_set(result: Section) -> list[str]:
    """Return what the router, and choosing at no more than its cost, gain on the best model per prompt set."""
    return [
        f"    {name} against best_per_set: gain {_interval(figures['quality_gain'], '+.4f')}, cost change "
        + _interval(figures["cost_change"], "+.1%")
        for name, figures in result.get("against_best_per_set", {}).items()
    ]


def _searched(result: Section) -> list[str]:
    """Return what looking brings by the score that was looked at, and what is left on images that were not."""
    lines = []
    for name, words in (("search", "search"), ("search_two_draws", "search, at most 2 images")):
        for figures, judged in (
            (result[name], "by the score looked at"),
            (result[name]["fresh"], "on fresh images"),
        ):
            told = "not known: the study has no single images"
            if figures is not None:
                cost = _interval(figures["iso_quality_cost"], "+.1%", "not reached")
                told = (
                    f"cost at the best single model's quality {cost}, oracle gap closed "
                    f"{_interval(figures['oracle_gap_closed'], '.1%')}"
                )
            lines.append(f"  {words}, {judged}: {told}")
    return lines


def _lines(result: Section, labels: Mapping[str, str], scores: bool) -> list[str]:
    """Return the rows, columns aligned; with `scores` every score of the study but a lone score that quality is itself."""
    shown = {
        name: label
        for name, label in result["scores"].items()
        if scores and ("+" in result["score"] or name != result["score"])
    }
    base = result["strategies"][f"single_{result['best_single']}"]
    rows: list[Sequence[str]] = [
        ("strategy", "quality", "gain", "$ per 1000", "cost change", *shown.values())
    ]
    for name, row in result["strategies"].items():
        model = name.removeprefix("single_")
        rows.append(
            (
                labels.get(model, name) if name.startswith("single_") else name,
                f"{row['quality']:.4f}",
                f"{row['quality'] - base['quality']:+.4f}",
                f"{1000 * row['cost']:.4f}",
                f"{row['cost'] / base['cost'] - 1:+.1%}",
                *(f"{row[score]:.4f}" for score in shown),
            )
        )
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _interval(figure: Mapping[str, float | None], form: str, missing: str = "none") -> str:
    """Write a figure with its 95 % interval; `missing` stands for what can't be had."""
    value, low, high = (
        format(part, form) if part is not None else missing
        for part in (figure["estimate"], figure["low"], figure["high"])
    )
    return f"{value} [{low}, {high}]"
