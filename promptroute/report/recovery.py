"""The way from images back to prompts, for the page: figures of metrics/recovery.json, and the examples there and back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptroute.core.errors import UserError
from promptroute.core.parsing import parse
from promptroute.io.files import read_json
from promptroute.io.images import images_of
from promptroute.report.format import Cells, estimate_and_ends, visible
from promptroute.report.images import ExampleImage, small
from promptroute.report.result import Interval, Values


@dataclass(frozen=True)
class Trip:
    """A prompt that was recovered from an example's images, and the image that its model generates from that.

    Attributes:
        prompt: as it came: a bank's prompts are other people's.
        image: without scores.
    """

    prompt: str
    image: ExampleImage


Trips = Mapping[tuple[str, str], Trip]
"""(prompt_id, model) → there and back."""


class _Learner(Values):
    all: Mapping[str, Interval]


class _Figures(Values):
    learner: str
    learners: Mapping[str, _Learner]
    differences: Mapping[str, Interval]
    prompts: Mapping[str, int]


SHOWN = ("cosine", "share", "recall@1", "recall@5", "mrr")
"""Figures of a learner."""


@dataclass(frozen=True)
class Back:
    """What the page shows of a recovery.

    Attributes:
        cells: the section of its figures, as the template takes it.
        trips: of the examples.
    """

    cells: Cells
    trips: Trips


def read_recovery(figures: Path, trips: Path, models: Sequence[str], prompt_ids: Collection[str]) -> Back:
    """Read what the stages `recover` and `trip` wrote.

    Args:
        figures: metrics/recovery.json.
        trips: data/trips.
        models: that generate images.
        prompt_ids: the examples'.

    Raises:
        UserError: a file is absent, corrupt, or of another layout.
    """
    again = "recover the prompts again"
    values = parse(_Figures, read_json(figures), figures, again)
    try:
        cells = recovery_cells(values)
    except KeyError as error:
        raise UserError(f"{figures}: {error} is missing; {again}") from error
    found: dict[tuple[str, str], Trip] = {}
    for model in models:
        if not any((trips / model).glob("*.parquet")):  # no example has an image of it
            continue
        for prompt_id, rows in images_of(trips / model, prompt_ids).items():
            kind, data = small(rows[0]) if rows[0].image else ("png", None)
            image = ExampleImage(rows[0].seed, kind, data, rows[0].reason, {})
            found[prompt_id, model] = Trip(rows[0].prompt, image)
    return Back(cells, found)


def recovery_cells(values: _Figures) -> Cells:
    """Lay the learners' figures out as the page's template takes them, the best mean cosine first."""
    own = values.learner
    behind = {name.removeprefix(f"{own} - "): found for name, found in values.differences.items()}
    order = sorted(values.learners.items(), key=lambda item: -(item[1].all["cosine"].estimate or 0.0))
    return {
        "prompts": {name: f"{values.prompts[name]:,}" for name in ("train", "validation", "test")},
        "learner": visible(own),
        "learners": [
            {
                "name": visible(name),
                "own": name == own,
                "figures": [
                    *(estimate_and_ends(found.all[figure], 3) for figure in SHOWN),
                    estimate_and_ends(behind[name], 3, signed=True) if name in behind else ("", ""),
                ],
            }
            for name, found in order
        ],
    }
