"""Write the report: one HTML page that needs nothing else, with every text from outside escaped."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from promptroute.report.examples import GROUPS, Example
from promptroute.report.figures import Figure
from promptroute.report.format import estimate_and_ends, interval, number, percent, visible
from promptroute.report.images import Images
from promptroute.report.result import LARGEST_SHARE, Interval, Result

Cells = dict[str, object]
"""What the template writes of a row, an example, a figure: texts, flags, and lists of the same."""

_HERE = Path(__file__).parent
_MANY = (
    6  # more models than this, and an example's card shows the images of those that play a part in it alone
)


def page(
    result: Result,
    figures: Mapping[str, Figure],
    examples: Sequence[Example],
    images: Images,
    note: str = "",
    lengths: str = "",
) -> str:
    """Write the page as HTML; the same arguments give the same text.

    Args:
        result: what was measured.
        figures: file name → figure.
        examples: prompts to show.
        images: of the examples; empty where none were generated.
        note: what readers must know about the data before anything else, as that it is synthetic.
        lengths: which prompts were read only in part.
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
        note=visible(note),
        headline=[visible(line) for line in headline(result)],
        lengths=visible(lengths),
        scores=[visible(result.scores[name]) for name in _scores(result)],
        rows=_cost_table(result),
        sets=_sets(result),
        figures=[
            {
                "title": visible(figure.title),
                "alt": visible(figure.alt),
                "data": base64.b64encode(figure.png).decode(),
                "size": _size(figure.png),
            }
            for figure in figures.values()
        ],
        groups=[
            (heading, why, [_example(result, shown, images) for shown in examples if shown.group == group])
            for group, (heading, why) in GROUPS.items()
            if any(shown.group == group for shown in examples)
        ],
    )


def headline(result: Result) -> list[str]:
    """Return what came out, in sentences with 95 % intervals: first at the operating point set beforehand."""
    router, frontier = result.values.router, result.values.frontier
    few = [f"Beware: {result.values.few}."] if result.values.few else []
    return [
        f"Against {result.labels[result.best_single]}, the best single model, the router's cost changes by "
        f"{interval(router.cost_change, 1, share=True, signed=True)} and its mean quality by "
        f"{interval(router.quality_gain, 3, signed=True)}, at the operating point that was set beforehand on other "
        f"prompts.",
        f"Read off the frontier on these test prompts, so without an operating point set beforehand: cost at the best "
        f"single model's quality "
        f"{interval(frontier.iso_quality_cost, 1, share=True, signed=True, missing='not reached')}; oracle gap closed "
        f"at no more than its cost {interval(frontier.oracle_gap_closed.bounded(LARGEST_SHARE), 1, share=True)}.",
        *few,
    ]


def _scores(result: Result) -> list[str]:
    """Return the full names of the scores in the cost table: all but what quality itself is."""
    oracle = result.values.strategies["oracle"]
    return [name for name in result.scores if name != result.values.score and oracle.score(name) is not None]


def _cost_table(result: Result) -> list[Cells]:
    """Return the rows of the cost table: the router first, then as measured."""
    best = f"single_{result.values.best_single}"
    base = result.values.strategies[best]
    rows = sorted(result.values.strategies.items(), key=lambda item: item[0] != "router")
    return [
        {
            "kind": "router" if name == "router" else "base" if name == best else "",
            "title": visible(result.title(name)),
            "note": visible(result.description(name)),
            "quality": number(row.quality, 4),
            "gain": number(row.quality - base.quality, 4, signed=True),
            "scores": [number(row.score(score), 3) for score in _scores(result)],
            "cost": number(1000 * row.cost, 4),
            "change": percent(row.cost / base.cost - 1, 1, signed=True),
        }
        for name, row in rows
    ]


def _sets(result: Result) -> list[Cells]:
    """Return the rows of the table by prompt set."""

    def relative(ends: Interval) -> tuple[str, str]:
        return estimate_and_ends(ends, 1, share=True, signed=True, missing="not reached")

    return [
        {
            "name": visible(name),
            "prompts": f"{values.prompts:,}",
            "single": visible(result.values.labels[values.best_single]),
            "figures": [
                estimate_and_ends(values.router.quality_gain, 3, signed=True),
                relative(values.router.cost_change),
                relative(values.frontier.iso_quality_cost),
                estimate_and_ends(values.frontier.oracle_gap_closed.bounded(LARGEST_SHARE), 1, share=True),
            ],
            "accuracy": percent(values.choice["router"].accuracy, 1),
        }
        for name, values in {"all prompts": result.values, **result.values.sets}.items()
    ]


def _example(result: Result, example: Example, images: Images) -> Cells:
    """Return an example's card: the models that are shown at once, and the others."""
    digits = 2 if max(abs(value) for value in example.observed) >= 1 else 3
    columns = list(range(len(result.names)))
    parts = {example.chosen, example.best, result.best_single, int(np.argmin(result.cost))}
    shown = columns if len(columns) <= _MANY else [k for k in columns if k in parts]
    cells = {k: _model(result, example, k, digits, images if k in shown else {}) for k in columns}
    return {
        "id": visible(example.prompt_id),
        "set": visible(example.set),
        "prompt": visible(example.prompt),
        "gain": number(example.gain, digits, signed=True),
        "saving": percent(example.saving, 0, signed=True),
        "models": [cells[k] for k in shown],
        "others": [cells[k] for k in columns if k not in shown],
    }


def _model(result: Result, example: Example, model: int, digits: int, images: Images) -> Cells:
    """Return a model's row in an example's card, with its images."""
    label = result.labels[model]
    shown = []
    for image in images.get((example.prompt_id, result.names[model]), ()):
        lines = [
            f"{result.scores.get(name, name)} {number(score, 2)}" for name, score in image.scores.items()
        ]
        source = ""
        if image.data is not None:
            source = f"data:image/{image.kind};base64,{base64.b64encode(image.data).decode()}"
        lines = [f"failed: {image.reason}"] if image.data is None else lines
        alt = visible(f"{label}, seed {image.seed}")
        shown.append({"source": source, "alt": alt, "lines": [visible(line) for line in lines]})
    return {
        "name": visible(label),
        "predicted": number(example.predicted[model], digits),
        "observed": number(example.observed[model], digits),
        "cost": number(1000 * float(result.cost[model]), 4),
        "chosen": model == example.chosen,
        "best": model == example.best,
        "images": shown,
    }


def _size(png: bytes) -> tuple[int, int]:
    """Read width and height in pixels from a PNG's header."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
