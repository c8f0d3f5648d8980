"""Read back and check what `evaluate` wrote: evaluate.json and the tables of the plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from promptroute.core.errors import UserError
from promptroute.core.parsing import parse
from promptroute.core.plain import Section
from promptroute.evaluation.origin import difference
from promptroute.io.delimited import read_delimited
from promptroute.io.files import read_json
from promptroute.report.format import percent, quality_at_cost

_AGAIN = "evaluate the router again"
LARGEST_SHARE = 10.0
"""Of the oracle gap, either way; beyond it there is hardly a gap, and a share of it says nothing."""


class Values(BaseModel):
    """A part of a file of metrics; what the report does not show is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Interval(Values):
    """An estimate with the ends of its 95 % bootstrap interval over prompts; None where undefined."""

    estimate: float | None
    low: float | None
    high: float | None

    @property
    def holds_zero(self) -> bool:
        """Tell whether zero lies in the interval, or there is none, so that chance alone may explain the estimate."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high

    def bounded(self, limit: float) -> "Interval":
        """Return the interval with what lies beyond ± `limit` undefined."""
        return Interval(
            **{name: None if value is None or abs(value) > limit else value for name, value in self}
        )


class Row(Values):
    """A row of the cost table: means over the prompts.

    Attributes:
        quality: mean observed quality, higher is better.
        cost: dollars per image; of a search, of all images that a prompt took, with their looks.
        share: model → fraction of the prompts that it gets.
        fresh_quality: of a search: quality of images that it did not look at, by the models that it kept.
    """

    model_config = ConfigDict(frozen=True, extra="allow")  # each score's mean stands under its full name
    quality: float
    cost: float
    share: dict[str, float]
    fresh_quality: float | None = None

    def score(self, name: str) -> float | None:
        """Return the mean of a score by its full name, in its own unit; None where the row has none."""
        value = (self.model_extra or {}).get(name)
        return float(value) if isinstance(value, int | float) else None


class Frontier(Values):
    """What is read off the frontier on the test prompts themselves: no operating point was set beforehand."""

    iso_quality_cost: Interval
    oracle_gap_closed: Interval


class Paired(Values):
    """A policy's figures less another's on the same prompts; `cost_change` is relative to the other's cost."""

    quality_gain: Interval
    cost_change: Interval


class AtOperatingPoint(Paired):
    """The router's own choices, at the operating point that was set on other prompts; against the best single model."""

    quality: Interval
    cost: Interval

    @property
    def certainty(self) -> str:
        """Say in a sentence whether the differences from the best single model are beyond chance; empty without intervals."""
        cost, quality = self.cost_change, self.quality_gain
        if cost.low is None and quality.low is None:
            return ""
        if cost.holds_zero == quality.holds_zero:
            both = "Neither difference is beyond chance: both intervals hold zero"
            return f"{both if cost.holds_zero else 'Both differences are beyond chance: no interval holds zero'}."
        sure, unsure = ("quality", "cost") if cost.holds_zero else ("cost", "quality")
        return f"The difference in {sure} is beyond chance; that in {unsure} is not: its interval holds zero."


class SearchFrontier(Frontier):
    """What is read off the search's own frontier; `fresh`: judged by images that it did not look at, if there are any."""

    fresh: Frontier | None = None


class Searched(Values):
    """What a search took at its operating point.

    Attributes:
        look: dollars for scoring an image; None where it looks at none.
        images: "1", "2", … → share of the prompts that took so many.
        seconds: mean, p50 and p95 of a prompt, one image after the other; None: not known.
        coverage: "0", "1", "2" → share of scores within the belief's 90 % intervals after so many images.
        fresh: as the router's own figures, judged by images that it did not look at; None: there are none.
    """

    look: float | None
    images: dict[str, float]
    seconds: dict[str, float] | None
    coverage: dict[str, float]
    fresh: AtOperatingPoint | None

    @property
    def mean_images(self) -> float:
        """Return the mean number of images a prompt."""
        return sum(int(many) * share for many, share in self.images.items())


class Choice(Values):
    """How often the chosen model is the prompt's best."""

    accuracy: float


class PolicyText(Values):
    """How a policy presents itself."""

    title: str
    description: str = ""


class Measured(Values):
    """What was measured on a set of test prompts.

    Attributes:
        few: a warning, where the prompts are too few to tell much by.
        best_single: the model with the highest mean observed quality on them.
        searched, search, search_two_draws: of a router that looks at images; None of another.
        against_best_per_set: row → its figures against the best model per prompt set; empty where that is not known.
    """

    searched: Searched | None = None
    search: SearchFrontier | None = None
    search_two_draws: SearchFrontier | None = None
    against_best_per_set: dict[str, Paired] = Field(default_factory=dict)
    few: str = ""
    prompts: int
    best_single: str
    frontier: Frontier
    router: AtOperatingPoint
    choice: dict[str, Choice]
    strategies: dict[str, Row]

    def sent(self, labels: Mapping[str, str], most: int = 3) -> str:
        """List the models that get most prompts from the router, each with its share; `most` of them by name."""
        shares = sorted(self.strategies["router"].share.items(), key=lambda item: -item[1])
        taken = [(percent(share, 0), labels.get(name, name)) for name, share in shares if share > 0]
        if len(taken) > most + 1:
            rest = sum(share for _, share in shares[most:])
            taken[most:] = [(percent(rest, 0), f"{len(taken) - most} others")]
        return ", ".join(f"{share} {label}" for share, label in taken)


class Evaluation(Measured):
    """The whole of evaluate.json: all test prompts, then each prompt set.

    Attributes:
        labels: model → its label, in the order of the columns.
        score: full names of the scores that quality is made of, joined by ` + `.
        policies: row of the cost table → its title and description, from the policies themselves.
    """

    labels: dict[str, str]
    score: str
    sets: dict[str, Measured]
    policies: dict[str, PolicyText] = Field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Result:
    """A router measured on n prompts, m models.

    Attributes:
        values: what metrics/evaluate.json holds.
        scores: a score's full name → its label; only these are shown.
        data: where the observed quality comes from, and what must be known about it.
        frontier, hull: of choosing before an image is made: columns cost (dollars per image) and quality, in order of cost.
        prompt_ids: str [n].
        predicted, observed: quality, float64 [n, m], higher is better; predicted is NaN where there is none.
        best, chosen: column of each prompt's best model and of the router's choice, int64 [n]; of a search, the model
            whose image it keeps.
        strips: of a search: what it did prompt by prompt, as `evaluation.strips` gives it; None of another router.
        search_frontier: of a search: columns cost, quality and fresh (NaN: not known); None of another router.
    """

    values: Evaluation
    scores: Mapping[str, str]
    data: str
    frontier: pd.DataFrame
    hull: pd.DataFrame
    prompt_ids: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    best: np.ndarray
    chosen: np.ndarray
    strips: pd.DataFrame | None = None
    search_frontier: pd.DataFrame | None = None

    @cached_property
    def got(self) -> np.ndarray:
        """Return each prompt's quality with the router, float64 [n]: of a search, the kept image's score."""
        got = self.observed[np.arange(len(self.chosen)), self.chosen]
        if self.strips is None:
            return got
        kept = self.strips[self.strips["kept"] == 1].set_index("prompt_id")["score"]
        return kept.reindex(self.prompt_ids).fillna(pd.Series(got, self.prompt_ids)).to_numpy(np.float64)

    @cached_property
    def paid(self) -> np.ndarray:
        """Return each prompt's dollars with the router, float64 [n]: of a search, of all images with their looks."""
        if self.strips is None:
            return self.cost[self.chosen]
        made = self.strips[self.strips["score"].notna()]
        return made.groupby("prompt_id")["price"].sum().reindex(self.prompt_ids).to_numpy(np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the keys of the m models, in the order of the columns."""
        return tuple(self.values.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels of the m models."""
        return tuple(self.values.labels.values())

    @property
    def best_single(self) -> int:
        """Return the column of the best single model."""
        return self.names.index(self.values.best_single)

    @cached_property
    def cost(self) -> np.ndarray:
        """Return the dollars per image of each model, float64 [m]."""
        return np.array([self.values.strategies[f"single_{name}"].cost for name in self.names])

    @property
    def quality(self) -> str:
        """Return what quality is made of, by the scores' labels."""
        return " + ".join(self.scores.get(name, name) for name in self.values.score.split(" + "))

    @property
    def subtitle(self) -> str:
        """Return score, direction, number of prompts and data, in a line."""
        return (
            f"Quality: {self.quality}, higher is better · {self.values.prompts:,} test prompts · {self.data}"
        )

    def title(self, row: str) -> str:
        """Return the title of a row of the cost table; a single model's is the model's label."""
        model = row.removeprefix("single_")
        if row.startswith("single_") and model in self.values.labels:
            return self.values.labels[model]
        text = self.values.policies.get(row)
        return row.replace("_", " ") if text is None or row == "router" else text.title

    def listed(self) -> str:
        """Return title, quality and cost of every row of the cost table, in words."""
        rows = self.values.strategies.items()
        return ", ".join(f"{self.title(name)} {quality_at_cost(row.quality, row.cost)}" for name, row in rows)

    def description(self, row: str) -> str:
        """Return what the policy of a row does, in a phrase; empty where it does not say so."""
        if row == f"single_{self.values.best_single}":
            return "best single model"
        text = self.values.policies.get(row)
        if text is None:
            return ""
        return f"{text.title}, at the operating point set beforehand" if row == "router" else text.description


def read_result(
    evaluation: Path | str,
    tables: Path | str,
    *,
    scores: Mapping[str, str],
    data: str,
    study: Section | None = None,
) -> Result:
    """Read a result.

    Args:
        evaluation: the file evaluate.json.
        tables: folder of frontier.csv, hull.csv, confusion.csv and predicted.csv.
        scores: a score's full name → its label.
        data: where the observed quality comes from.
        study: the `origin` that it must be of; None: any.

    Raises:
        UserError: a file is missing, corrupt, of another layout or of another study; names the file, the line and the fix.
    """
    plots = Path(tables)
    found = read_json(evaluation)
    values = _values(found, Path(evaluation))
    if study is not None and (note := difference(found.get("study") or {}, study)):
        raise UserError(f"{evaluation} is {note}; {_AGAIN}")
    labels = list(values.labels.values())
    frontier = _table(plots / "frontier.csv", numbers=["cost", "quality"])
    hull = _table(plots / "hull.csv", numbers=["cost", "quality"])
    choices = _table(plots / "confusion.csv", models={"best": labels, "chosen": labels})
    # A predictor may give none; everything else is measured.
    pairs = _table(plots / "predicted.csv", ["predicted", "true"], {"model": labels}, optional=["predicted"])
    ids = choices["prompt_id"].to_numpy()
    if len(ids) != values.prompts:
        raise UserError(
            f"{plots / 'confusion.csv'}: {len(ids)} prompts, but {evaluation} has "
            f"{values.prompts}: they come from different runs; {_AGAIN}"
        )
    return Result(
        values=values,
        scores=scores,
        data=data,
        frontier=frontier,
        hull=hull,
        prompt_ids=ids,
        predicted=_matrix(pairs, "predicted", ids, labels, plots / "predicted.csv"),
        observed=_matrix(pairs, "true", ids, labels, plots / "predicted.csv"),
        **_search(values, plots, labels, ids),
        best=np.array([labels.index(label) for label in choices["best"]]),
        chosen=np.array([labels.index(label) for label in choices["chosen"]]),
    )


def _search(values: Evaluation, plots: Path, labels: list[str], ids: np.ndarray) -> dict[str, pd.DataFrame]:
    """Read the tables of a search, where the router is one."""
    if values.searched is None:
        return {}
    path = plots / "search.csv"
    numbers = ["place", "image", "score", "reservation", "price", "kept"]
    strips = _table(path, numbers, {"model": labels}, optional=("score", "reservation"))
    if lost := sorted(set(ids) ^ set(strips["prompt_id"])):
        raise UserError(f"{path}: prompt {lost[0]} is not in both this file and confusion.csv; {_AGAIN}")
    frontier = _table(plots / "search_frontier.csv", ["cost", "quality", "fresh"], optional=("fresh",))
    return {"strips": strips, "search_frontier": frontier.sort_values("cost", ignore_index=True)}


def _values(found: object, path: Path) -> Evaluation:
    values = parse(Evaluation, found, path, _AGAIN)
    wanted = ["oracle", "router", *(f"single_{name}" for name in values.labels)]
    for where, measured in {
        "": values,
        **{f"sets.{name}.": part for name, part in values.sets.items()},
    }.items():
        if lost := [name for name in wanted if name not in measured.strategies]:
            raise UserError(f"{path}: {where}strategies has no {', '.join(lost)}; {_AGAIN}")
        if measured.best_single not in values.labels or "router" not in measured.choice:
            raise UserError(f"{path}: {where}best_single or {where}choice.router is missing; {_AGAIN}")
    labels = list(values.labels.values())
    if duplicates := sorted({label for label in labels if labels.count(label) > 1}):
        raise UserError(f"{path}: several models are called {', '.join(duplicates)}; give each its own label")
    return values


def _table(
    path: Path,
    numbers: Sequence[str] = (),
    models: Mapping[str, list[str]] | None = None,
    optional: Sequence[str] = (),
) -> pd.DataFrame:
    """Read a table of `evaluate`: `numbers` as float64, the columns in `models` checked for known labels.

    A number may be absent in the columns `optional` alone.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_AGAIN}")
    columns = [*(["prompt_id"] if models else []), *numbers, *(models or {})]
    table = read_delimited(path.read_bytes(), str(path), columns, closed=True)[columns]
    for name in numbers:
        values = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
        bad = values.isna() | values.isin([np.inf, -np.inf])
        if name in optional:
            bad &= table[name] != ""
        _refuse(table, name, bad, path, "is not a number")
        table[name] = values
    for name, labels in (models or {}).items():
        bad = ~table[name].isin(labels)
        _refuse(table, name, bad, path, f"is invalid; expected one of {', '.join(labels)}")
    return table


def _refuse(table: pd.DataFrame, name: str, bad: "pd.Series[bool]", path: Path, fault: str) -> None:
    if bad.any():
        line = table.index[bad.to_numpy()][0]
        raise UserError(f"{path}: line {line}: {name} {table.at[line, name]!r} {fault}; {_AGAIN}")


def _matrix(pairs: pd.DataFrame, value: str, ids: np.ndarray, labels: list[str], path: Path) -> np.ndarray:
    """Return a value of every (prompt, model) as float64 [n, m]."""
    if pairs.duplicated(["prompt_id", "model"]).any() or len(pairs) != len(ids) * len(labels):
        raise UserError(
            f"{path}: {len(pairs)} rows, expected one for each of {len(ids)} prompts and {len(labels)} models; "
            + _AGAIN
        )
    table = pairs.pivot(index="prompt_id", columns="model", values=value)
    if lost := sorted(set(ids) - set(table.index)):
        raise UserError(f"{path}: no row of prompt {lost[0]}; {_AGAIN}")
    return table.reindex(index=ids, columns=labels).to_numpy(dtype=np.float64)
