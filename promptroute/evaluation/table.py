"""The cost table of a result, for the terminal."""

from collections.abc import Mapping, Sequence

from promptroute.core.plain import Section


def cost_table(result: Section) -> str:
    """Return the cost table of what `evaluate` wrote, with a line for each strategy and the headline figures."""
    labels: Mapping[str, str] = result["labels"]
    frontier, router = result["frontier"], result["router"]
    about = [f"({result[key]})" for key in ("stale", "table", "about", "few", "seen") if result.get(key)]
    return "\n".join(
        [
            f"quality = {result['score']}; {result['prompts']} test prompts; best single model: "
            + labels.get(result["best_single"], result["best_single"]),
            *about,
            "",
            *_lines(result, labels),
            "",
            "router (operating point set beforehand, not on these prompts): quality "
            + _interval(router["quality_gain"], "+.4f")
            + " and cost "
            + _interval(router["cost_change"], "+.1%")
            + " against the best single model",
            "frontier on these prompts: cost at the best single model's quality "
            + _interval(frontier["iso_quality_cost"], "+.1%"),
            "                           oracle gap closed at no more cost "
            + _interval(frontier["oracle_gap_closed"], ".1%"),
            *_against_per_set(result),
            *(_searched(result) if "searched" in result else ()),
        ]
    )


def _against_per_set(result: Section) -> list[str]:
    """Return what the router, and choosing at no more than its cost, gain on the best model per prompt set."""
    return [
        f"{name} against best_per_set: quality {_interval(figures['quality_gain'], '+.4f')} and cost "
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
                told = (
                    f"cost at the best single model's quality {_interval(figures['iso_quality_cost'], '+.1%')}, oracle "
                    f"gap closed {_interval(figures['oracle_gap_closed'], '.1%')}"
                )
            lines.append(f"{words}, {judged}: {told}")
    return lines


def _lines(result: Section, labels: Mapping[str, str]) -> list[str]:
    """Return the rows, columns aligned; every score of the study but a lone score that quality is itself."""
    scores = {
        name: label
        for name, label in result["scores"].items()
        if "+" in result["score"] or name != result["score"]
    }
    base = result["strategies"][f"single_{result['best_single']}"]["cost"]
    rows: list[Sequence[str]] = [("strategy", "quality", *scores.values(), "$ per 1000", "vs best single")]
    for name, row in result["strategies"].items():
        model = name.removeprefix("single_")
        rows.append(
            (
                labels.get(model, name) if name.startswith("single_") else name,
                f"{row['quality']:.4f}",
                *(f"{row[score]:.4f}" for score in scores),
                f"{1000 * row['cost']:.4f}",
                f"{row['cost'] / base - 1:+.1%}",
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


def _interval(figure: Mapping[str, float | None], form: str) -> str:
    """Write a figure with its 95 % interval; a figure that can't be had is a dash."""
    value, low, high = (
        format(part, form) if part is not None else "–"
        for part in (figure["estimate"], figure["low"], figure["high"])
    )
    return f"{value} [{low}, {high}]"
