"""Write the report: one HTML page that needs nothing else, with every text from outside escaped."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from promptroute.core.plain import Plain
from promptroute.report.examples import GROUPS, Example
from promptroute.report.figures import Figure
from promptroute.report.format import Cells, estimate_and_ends, interval, number, percent, visible
from promptroute.report.images import ExampleImage, Images
from promptroute.report.recovery import Back, Trip, Trips
from promptroute.report.result import LARGEST_SHARE, Interval, Measured, Paired, Result, Row
from promptroute.report.search import Shot, ending, searched_lines, shots

_HERE = Path(__file__).parent
# More models than this, and an example's card shows the images of those that play a part in it alone.
_MANY = 6


def page(
    result: Result,
    figures: Mapping[str, Figure],
    examples: Sequence[Example],
    images: Images,
    note: str = "",
    lengths: str = "",
    people: Cells | None = None,
    back: Back | None = None,
) -> str:
    """Write the page as HTML; the same arguments give the same text.

    Args:
        result: what was measured.
        figures: file name → figure.
        examples: prompts to show.
        images: of the examples; empty where none were generated.
        note: what readers must know about the data before anything else, as that it is synthetic.
        lengths: which prompts were read only in part.
        people: what people said, from `promptroute.report.people.people_cells`; None: nothing.
        back: the way from images back to prompts; None: nobody went it.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    css = (_HERE / "page.css").read_text(encoding="utf-8")
    layout: Plain = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = Environment(autoescape=True, undefined=StrictUndefined, **layout)
    template = environment.from_string((_HERE / "page.html").read_text(encoding="utf-8"))
    digest = _base64(hashlib.sha256(css.encode()).digest())
    return template.render(
        css=Markup(css),
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        subtitle=visible(result.subtitle.replace(f" ({note})", "")),
        note=visible(note),
        headline=[visible(line) for line in headline(result)],
        lengths=visible(lengths),
        scores=[visible(result.scores[name]) for name in _scores(result)],
        rows=_cost_table(result),
        sets=_sets(result),
        people=people,
        recovery=None if back is None else back.cells,
        searches=result.strips is not None,
        fresh=result.values.searched is not None and result.values.searched.fresh is not None,
        figures=[_figure(figure) for figure in figures.values()],
        veils=[visible("{2} ({0})".format(*name.partition("."))) for name in _veils(images)],
        more=any(_score_lines(result, image)[1] for found in images.values() for image in found),
        groups=_groups(result, examples, images, {} if back is None else back.trips),
    )


def _figure(figure: Figure) -> Cells:
    texts = {"title": visible(figure.title), "alt": visible(figure.alt)}
    return {**texts, "data": _base64(figure.png), "size": _size(figure.png)}


def _groups(
    result: Result, examples: Sequence[Example], images: Images, trips: Trips
) -> list[tuple[str, str, list[Cells]]]:
    """Return heading, reason and cards of each group of examples that has any."""
    groups = [
        (*words, [_example(result, shown, images, trips) for shown in examples if shown.group == group])
        for group, words in GROUPS.items()
    ]
    return [group for group in groups if group[2]]


def headline(result: Result) -> list[str]:
    """Return what came out, in sentences with 95 % intervals: first at the operating point set beforehand."""
    router, frontier = result.values.router, result.values.frontier
    few = [f"Beware: {result.values.few}."] if result.values.few else []
    before = (
        f"cost at the best single model's quality "
        f"{interval(frontier.iso_quality_cost, 1, share=True, signed=True, missing='not reached')}; oracle gap closed "
        f"at no more than its cost {interval(frontier.oracle_gap_closed.bounded(LARGEST_SHARE), 1, share=True)}."
    )
    if result.values.searched is not None:
        return [
            *searched_lines(result),
            f"Choosing before any image is made, by the same predictions: {before}",
            *_against_per_set(result),
            *few,
        ]
    return [
        f"Against {result.labels[result.best_single]}, the best single model, {_changes(router)}. {router.certainty}",
        f"Its choices on these {result.values.prompts:,} test prompts: {result.values.sent(result.values.labels)}. "
        f"Its operating point was set beforehand on other prompts.",
        *_against_per_set(result),
        f"Read off the frontier on these test prompts, so without an operating point set beforehand: {before}",
        *few,
    ]


def _changes(paired: Paired) -> str:
    cost, gain = paired.cost_change, paired.quality_gain
    return (
        f"the router's cost changes by {interval(cost, 1, share=True, signed=True)} and its mean quality by "
        f"{interval(gain, 3, signed=True)}"
    )


def _against_per_set(result: Result) -> list[str]:
    """Say what the router, and choosing at no more than its cost, gain on the best model per prompt set."""
    rows = [_changes(paired) for paired in result.values.against_best_per_set.values()]
    if not rows:
        return []
    found = "; held beforehand to what that costs, ".join(rows)
    return [
        f"Against each prompt set's own best model, learnt on the training prompts, {found}. The router isn't told the set."
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
            "note": visible("; ".join(filter(None, (result.description(name), _left(row, base))))),
            "quality": number(row.quality, 4),
            "gain": number(row.quality - base.quality, 4, signed=True),
            "scores": [number(row.score(score), 3) for score in _scores(result)],
            "cost": number(1000 * row.cost, 4),
            "change": percent(row.cost / base.cost - 1, 1, signed=True),
        }
        for name, row in rows
    ]


def _left(row: Row, base: Row) -> str:
    """Say what is left of a search's quality on fresh images, if it is known."""
    if row.fresh_quality is None:
        return ""
    gain = number(row.fresh_quality - base.quality, 4, signed=True)
    return f"on fresh images {number(row.fresh_quality, 4)} ({gain})"


def _sets(result: Result) -> list[Cells]:
    """Return the rows of the table by prompt set; of a search with what is left on fresh images."""
    return [
        {
            "name": visible(name),
            "prompts": f"{values.prompts:,}",
            "single": visible(result.values.labels[values.best_single]),
            "sent": visible(values.sent(result.values.labels)),
            "figures": _set_figures(values),
            "accuracy": percent(values.choice["router"].accuracy, 1),
        }
        for name, values in {"all prompts": result.values, **result.values.sets}.items()
    ]


def _set_figures(values: Measured) -> list[tuple[str, str, str]]:
    """Return estimate, ends, and what is left of it on fresh images: of quality gained, cost changed, and the frontier."""

    def cell(
        ends: Interval, fresh: Interval | None, digits: int = 1, share: bool = True
    ) -> tuple[str, str, str]:
        form: Plain = {"digits": digits, "share": share, "signed": True, "missing": "not reached"}
        left = "" if fresh is None else f"fresh {estimate_and_ends(fresh, **form)[0]}"
        return *estimate_and_ends(ends, **form), left

    own, frontier = values.router, values.search or values.frontier
    at_point = None if values.searched is None else values.searched.fresh
    left = None if values.search is None else values.search.fresh
    gap = estimate_and_ends(frontier.oracle_gap_closed.bounded(LARGEST_SHARE), 1, share=True)
    fresh_gap = "" if left is None else percent(left.oracle_gap_closed.bounded(LARGEST_SHARE).estimate, 1)
    return [
        cell(own.quality_gain, None if at_point is None else at_point.quality_gain, 3, share=False),
        cell(own.cost_change, None),
        cell(frontier.iso_quality_cost, None if left is None else left.iso_quality_cost),
        (*gap, f"fresh {fresh_gap}" if fresh_gap else ""),
    ]


def _example(result: Result, example: Example, images: Images, trips: Trips) -> Cells:
    """Return an example's card: the models that are shown at once, and the others."""
    digits = 2 if max(abs(value) for value in example.observed) >= 1 else 3
    columns = list(range(len(result.names)))
    parts = {example.chosen, example.best, result.best_single, int(np.argmin(result.cost))}
    steps = shots(result, example.prompt_id)
    parts |= {shot.model for shot in steps if shot.score is not None}
    shown = columns if len(columns) <= _MANY else [k for k in columns if k in parts]
    cells = {
        k: _model(result, example, k, digits, *((images, trips) if k in shown else ({}, {}))) for k in columns
    }
    return {
        "id": visible(example.prompt_id),
        "set": visible(example.set),
        "prompt": visible(example.prompt),
        "gain": number(example.gain, digits, signed=True),
        "saving": percent(example.saving, 0, signed=True),
        "strip": [_shot(result, example, shot, digits, images) for shot in steps if shot.score is not None],
        "ending": visible(ending(result, steps)) if steps else "",
        "models": [cells[k] for k in (columns if steps else shown)],
        "folded": f"all {len(columns)} models, for comparison" if steps else "",
        "others": [] if steps else [cells[k] for k in columns if k not in shown],
    }


def _shot(result: Result, example: Example, shot: Shot, digits: int, images: Images) -> Cells:
    """Return an image of an example's strip."""
    label = result.labels[shot.model]
    made = images.get((example.prompt_id, result.names[shot.model]), ())
    image = made[shot.image] if shot.image < len(made) else None
    return {
        "name": visible(label),
        "score": number(shot.score, digits),
        "reservation": number(shot.reservation, digits, missing="no limit"),
        "kept": shot.kept,
        "source": _source(image),
        "alt": visible(f"{label}, seed {image.seed}") if image else "",
    }


def _source(image: ExampleImage | None) -> str:
    """Return an image as a data address; empty where there is none."""
    if image is None or image.data is None:
        return ""
    return f"data:image/{image.kind};base64,{_base64(image.data)}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _model(result: Result, example: Example, model: int, digits: int, images: Images, trips: Trips) -> Cells:
    """Return a model's row in an example's card, with its images, and the way back from them."""
    label = result.labels[model]
    shown = []
    for image in images.get((example.prompt_id, result.names[model]), ()):
        lines, more = _score_lines(result, image)
        if image.data is None:
            lines, more = [f"failed: {image.reason}"], []
        cell: Cells = {"source": _source(image), "alt": visible(f"{label}, seed {image.seed}")}
        cell |= {"lines": [visible(line) for line in lines], "more": [visible(line) for line in more]}
        shown.append(cell | _feedback(image, _veils(images)))
    return {
        "name": visible(label),
        "predicted": number(example.predicted[model], digits),
        "observed": number(example.observed[model], digits),
        "cost": number(1000 * float(result.cost[model]), 4),
        "chosen": model == example.chosen,
        "best": model == example.best,
        "tag": "chosen" if result.strips is None else "kept",
        "images": shown,
        "back": _trip(trips.get((example.prompt_id, result.names[model])), label),
    }


def _score_lines(result: Result, image: ExampleImage) -> tuple[list[str], list[str]]:
    """Return an image's scores that quality is made of, and its others; where it has none of the former, all and none."""
    lines = {
        name: f"{result.scores.get(name, name)} {number(score, 2)}" for name, score in image.scores.items()
    }
    own = [line for name, line in lines.items() if name in result.values.score.split(" + ")]
    return (own, [line for line in lines.values() if line not in own]) if own else ([*lines.values()], [])


def _trip(trip: Trip | None, label: str) -> Cells | None:
    """Return the prompt that was read back from a model's images, and its image."""
    if trip is None:
        return None
    return {
        "prompt": visible(trip.prompt),
        "source": _source(trip.image),
        "alt": visible(f"{label} of the recovered prompt, seed {trip.image.seed}"),
        "failed": visible(f"failed: {trip.image.reason}") if trip.image.data is None else "",
    }


MARKED = 0.5
"""From this value on a word is struck through."""


def _veils(images: Images) -> list[str]:
    """List the maps and marks of the images, by full name, maps first: what may be shown on demand."""
    every = [image for found in images.values() for image in found]
    return sorted({name for one in every for name in one.maps}) + sorted(
        {name for one in every for name in one.marks}
    )


def _feedback(image: ExampleImage, names: Sequence[str]) -> Cells:
    """Return an image's maps and marks, each with its number among `names`."""
    return {
        "maps": [
            {"number": names.index(name), "source": f"data:image/png;base64,{_base64(png)}"}
            for name, png in image.maps.items()
        ],
        "marks": [
            {
                "number": names.index(name),
                "words": [(visible(word), value >= MARKED, number(value, 2)) for word, value in words],
            }
            for name, words in image.marks.items()
        ],
    }


def _size(png: bytes) -> tuple[int, int]:
    """Read width and height in pixels from a PNG's header."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
