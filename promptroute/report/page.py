"""The report: one page that needs nothing else, with every text of other people escaped."""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from promptroute.report.examples import GROUPS, Example
from promptroute.report.figures import Painted
from promptroute.report.format import interval, number, percent, strategy_does, strategy_name, way
from promptroute.report.images import Drawn
from promptroute.report.result import Result

_HERE = Path(__file__).parent
# Characters that turn the direction of what follows: shown by name, or a prompt could read as another one.
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """A text without characters that a page can't hold or that hide or reorder others: they show as ‹U+202E›.

    Line ends and tabs stay. The result is not HTML: it still has to be escaped.
    """

    def name(match: "re.Match[str]") -> str:
        return f"‹U+{ord(match[0]):04X}›"

    shown = _TURNING.sub(name, text)
    return "".join(
        f"‹U+{ord(c):04X}›" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c
        for c in shown
    )


def page(
    result: Result,
    pictures: Mapping[str, Painted],
    examples: Sequence[Example],
    drawn: Drawn,
    about: Mapping[str, str],
) -> str:
    """The whole page as HTML; the same arguments give the same text.

    Args:
        result: what was measured.
        pictures: file name → picture.
        examples: prompts to show.
        drawn: their images; empty where none were drawn.
        about: score name → how people write it.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    css = (_HERE / "page.css").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.from_string((_HERE / "page.html").read_text(encoding="utf-8"))
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return template.render(
        css=Markup(css),
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        subtitle=visible(result.subtitle),
        headline=[visible(line) for line in headline(result)],
        strategies=_strategies(result),
        scores=_scores(result),
        sets=_sets(result),
        figures=[
            {
                "name": name,
                "title": visible(painted.title),
                "alt": visible(painted.alt),
                "data": base64.b64encode(painted.png).decode(),
                "size": _size(painted.png),
            }
            for name, painted in pictures.items()
        ],
        groups=[
            (title, why, [_example(result, one, drawn, about) for one in examples if one.group == group])
            for group, (title, why) in GROUPS.items()
            if any(one.group == group for one in examples)
        ],
    )


def headline(result: Result) -> list[str]:
    """What came out, in sentences with 95 % intervals."""
    router, frontier = result.values["router"], result.values["frontier"]
    model = result.labels[result.best_single]
    never = "not reached"
    return [
        f"The router's cost changes by {interval(router['cost_change'], 1, share=True, signed=True)} and its mean "
        f"quality by {interval(router['quality_gain'], 3, signed=True)} against {model}, the best single model, "
        f"with its knob set beforehand, on other prompts.",
        f"On the frontier read off these prompts, the best single model's quality costs "
        f"{interval(frontier['iso_quality_cost'], 1, share=True, signed=True, missing=never)}; at no more than its cost "
        f"the router goes {way(frontier['oracle_gap_closed'])} of the way "
        "from the best single model to the oracle.",
    ]


def _scores(result: Result) -> list[str]:
    """Raw scores that the quality itself isn't."""
    known = ("quality", "cost", "total_cost", "regret", "share")
    return [k for k in result.strategies["oracle"] if k not in known and k != result.values["score"]]


def _strategies(result: Result) -> list[dict[str, Any]]:
    """Rows of the cost table: the router first, then as measured."""
    base = result.strategies[f"single_{result.values['best_single']}"]
    rows = sorted(result.strategies.items(), key=lambda item: item[0] != "router")
    return [
        {
            "kind": "router" if name == "router" else "base" if row is base else "",
            "name": visible(strategy_name(result, name)),
            "does": strategy_does(name) + (": the best single model" if row is base else ""),
            "quality": number(row["quality"], 4),
            "gain": number(row["quality"] - base["quality"], 4, signed=True),
            "scores": [number(row[score], 3) for score in _scores(result)],
            "cost": number(1000 * row["cost"], 4),
            "change": percent(row["cost"] / base["cost"] - 1, 1, signed=True),
        }
        for name, row in rows
    ]


def _sets(result: Result) -> list[dict[str, Any]]:
    """Rows of the table by prompt set."""
    return [
        {
            "name": visible(name),
            "prompts": f"{values['prompts']:,}",
            "single": visible(result.values["labels"][values["best_single"]]),
            "figures": [
                _split(interval(values["router"]["quality_gain"], 3, signed=True)),
                _split(interval(values["router"]["cost_change"], 1, share=True, signed=True)),
                _split(
                    interval(
                        values["frontier"]["iso_quality_cost"],
                        1,
                        share=True,
                        signed=True,
                        missing="not reached",
                    )
                ),
                _split(way(values["frontier"]["oracle_gap_closed"])),
            ],
            "accuracy": percent(values["choice"]["router"]["accuracy"], 1),
        }
        for name, values in {"all prompts": result.values, **result.values["sets"]}.items()
    ]


def _split(figure: str) -> tuple[str, str]:
    """A figure and its interval."""
    estimate, _, ends = figure.partition(" [")
    return estimate, f"[{ends}"


def _images(
    one: Example, model: str, label: str, drawn: Drawn, about: Mapping[str, str]
) -> list[dict[str, str]]:
    """A model's images of an example, as the page shows them."""
    images = []
    for image in drawn.get((one.prompt_id, model), ()):
        scores = [f"{about[name]} {number(score, 2)}" for name, score in image.scores.items()]
        images.append(
            {
                "source": f"data:image/{image.kind};base64,{base64.b64encode(image.data).decode()}"
                if image.data
                else "",
                "alt": visible(f"{label}, seed {image.seed}"),
                "scores": visible(" · ".join(scores) if image.data else f"failed: {image.reason}"),
            }
        )
    return images


def _example(result: Result, one: Example, drawn: Drawn, about: Mapping[str, str]) -> dict[str, Any]:
    """An example as the page shows it."""
    cost = result.cost
    digits = 2 if max(abs(v) for v in one.true) >= 1 else 3
    return {
        "id": visible(one.prompt_id),
        "set": visible(one.set),
        "prompt": visible(one.prompt),
        "gain": number(one.gain, digits, signed=True),
        "saving": percent(one.saving, 0, signed=True),
        "models": [
            {
                "name": visible(label),
                "predicted": number(one.predicted[k], digits),
                "true": number(one.true[k], digits),
                "cost": number(1000 * float(cost[k]), 4),
                "chosen": k == one.chosen,
                "best": k == one.best,
                "images": _images(one, result.names[k], label, drawn, about),
            }
            for k, label in enumerate(result.labels)
        ],
    }


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the PNG's header."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
