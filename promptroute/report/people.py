"""What people said of the images, for the page: read back from metrics/agreement.json and checked."""

from collections.abc import Mapping
from pathlib import Path

from promptroute.core.parsing import parse
from promptroute.io.files import read_json
from promptroute.report.format import Cells, interval, percent, visible
from promptroute.report.result import Interval, Values


class _Place(Values):
    rank: int
    rank_low: int
    rank_high: int
    share: Interval


class _Pair(Values):
    wins: int
    losses: int
    ties: int
    votes_until_apart: int | None

    @property
    def more(self) -> str:
        """Say how many more votes tell the two apart."""
        if self.votes_until_apart is None:
            return "no lead yet"
        return f"about {self.votes_until_apart:,} more" if self.votes_until_apart else "apart"


class _Agreed(Values):
    pairs: int
    agreement: Interval


class _Raters(Values):
    figures: Mapping[str, Interval]


class People(Values):
    """Votes on pairs of models, measured; `answers` is 0 where there are none."""

    answers: int
    mode: str = "pairs"
    raters: int = 0
    models: Mapping[str, _Place] = {}
    pairs: Mapping[str, _Pair] = {}
    scores: Mapping[str, _Agreed] = {}
    raters_agree: _Raters = _Raters(figures={})


def read_people(path: Path) -> People | None:
    """Read what the stage `agreement` wrote; None where nobody voted on pairs.

    Raises:
        UserError: the file is absent, or not such a file.
    """
    found = read_json(path)
    if not isinstance(found, dict) or found.get("mode", "pairs") != "pairs":
        return None
    people = parse(People, found, path, "measure the votes again")
    return people if people.answers and people.models else None


def people_cells(people: People | None, labels: Mapping[str, str], scores: Mapping[str, str]) -> Cells | None:
    """Lay out what people said as the page's template takes it.

    Args:
        people: what `read_people` gave.
        labels: model → label.
        scores: full name → label of each score.
    """
    if people is None:
        return None
    agree = [
        f"{name.replace('_', ' ').replace('alpha', 'Krippendorff’s α,').replace('fleiss kappa', 'Fleiss’ κ')} "
        f"{interval(figure, 2)}"
        for name, figure in people.raters_agree.figures.items()
        if figure.estimate is not None  # there is none of one person
    ]
    who = "1 person" if people.raters == 1 else f"{people.raters} people"
    among = f" Among them: {'; '.join(agree)}." if agree else ""
    return {
        "about": f"{people.answers:,} votes by {who} on blind pairs.{among}",
        "models": [
            {
                "name": visible(labels.get(name, name)),
                "rank": f"{place.rank} ({place.rank_low}–{place.rank_high})",
                "share": interval(place.share, 1, share=True),
            }
            for name, place in sorted(people.models.items(), key=lambda item: item[1].rank)
        ],
        "pairs": [
            {
                "names": [visible(labels.get(name, name)) for name in names.split(" / ")],
                "counts": [f"{count:,}" for count in (pair.wins, pair.ties, pair.losses)],
                "more": pair.more,
            }
            for names, pair in people.pairs.items()
        ],
        "scores": [
            {
                "name": visible(scores.get(name, name)),
                "pairs": f"{agreed.pairs:,}",
                "agreement": interval(agreed.agreement, 1, share=True) if agreed.pairs else percent(None, 1),
            }
            for name, agreed in people.scores.items()
        ],
    }
