"""What `evaluate` wrote, read back and checked: metrics/evaluate.json and the tables in metrics/plots/."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from promptroute.core.errors import UserError
from promptroute.io.delimited import read_delimited
from promptroute.io.files import read_json

_AGAIN = "run `dvc repro evaluate`"
_KEYS = ("labels", "score", "prompts", "best_single", "frontier", "router", "choice", "strategies", "sets")
_STRATEGIES = ("oracle", "random", "best_predicted", "router")


@dataclass(frozen=True, eq=False)
class Result:
    """A router measured on n prompts, m models.

    Attributes:
        values: metrics/evaluate.json.
        score: what quality is, for people; higher is better.
        data: where the true quality comes from, for people.
        frontier, hull: columns cost (dollars per image) and quality, in order of cost.
        predicted, true: quality [n, m]; NaN only where the predictor gave none.
        prompt_ids: [n].
        best, chosen: column of each prompt's best model and of the router's choice [n].
    """

    values: dict[str, Any]
    score: str
    data: str
    frontier: pd.DataFrame
    hull: pd.DataFrame
    prompt_ids: np.ndarray
    predicted: np.ndarray
    true: np.ndarray
    best: np.ndarray
    chosen: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """Keys of the m models, in the order of the columns."""
        return tuple(self.values["labels"])

    @property
    def labels(self) -> tuple[str, ...]:
        """The m models as people write them."""
        return tuple(self.values["labels"].values())

    @property
    def strategies(self) -> dict[str, dict[str, Any]]:
        """The cost table: strategy → quality, cost in dollars per image, share per model."""
        return dict(self.values["strategies"])

    @property
    def best_single(self) -> int:
        """Column of the best single model."""
        return self.names.index(self.values["best_single"])

    @property
    def cost(self) -> np.ndarray:
        """Dollars per image of each model [m]."""
        return np.array([self.strategies[f"single_{name}"]["cost"] for name in self.names])

    @property
    def subtitle(self) -> str:
        """Score, direction, number of prompts and data, in a line."""
        return (
            f"Quality: {self.score}, higher is better · {self.data}, {self.values['prompts']:,} test prompts"
        )


def read_result(folder: Path | str, *, scores: dict[str, str] | None = None, data: str = "") -> Result:
    """Read a result from the folder `metrics`.

    Args:
        folder: holds evaluate.json and plots/{frontier,hull,confusion,predicted}.csv.
        scores: score name → how people write it.
        data: where the true quality comes from, for people.

    Raises:
        UserError: a file is missing, torn or of another layout; names the file, the line and the fix.
    """
    folder = Path(folder)
    values = _values(folder / "evaluate.json")
    labels = list(values["labels"].values())
    plots = folder / "plots"
    frontier = _table(plots / "frontier.csv", numbers=["cost", "quality"])
    hull = _table(plots / "hull.csv", numbers=["cost", "quality"])
    choices = _table(plots / "confusion.csv", models={"best": labels, "chosen": labels})
    pairs = _table(plots / "predicted.csv", numbers=["predicted", "true"], models={"model": labels})
    ids = choices["prompt_id"].to_numpy()
    found = {
        name: _matrix(pairs, name, ids, labels, plots / "predicted.csv") for name in ("predicted", "true")
    }
    if len(ids) != values["prompts"]:
        raise UserError(
            f"{plots / 'confusion.csv'}: {len(ids)} prompts, but {folder / 'evaluate.json'} has "
            f"{values['prompts']}: they come from different runs; {_AGAIN}"
        )
    return Result(
        values=values,
        score=" + ".join((scores or {}).get(name, name) for name in values["score"].split(" + ")),
        data=data or "scores",
        frontier=frontier,
        hull=hull,
        prompt_ids=ids,
        **found,
        best=np.array([labels.index(label) for label in choices["best"]]),
        chosen=np.array([labels.index(label) for label in choices["chosen"]]),
    )


def _values(path: Path) -> dict[str, Any]:
    values = read_json(path)
    lost = [key for key in _KEYS if not isinstance(values, dict) or key not in values]
    if lost:
        raise UserError(f"{path}: no {', '.join(lost)}, so it is no result of this version; {_AGAIN}")
    wanted = [*_STRATEGIES, *(f"single_{name}" for name in values["labels"])]
    if lost := [name for name in wanted if name not in values["strategies"]]:
        raise UserError(f"{path}: no strategy {', '.join(lost)}; {_AGAIN}")
    labels = list(values["labels"].values())
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UserError(
            f"{path}: several models are called {', '.join(twice)}; give each a label of its own in conf/"
        )
    return dict(values)


def _table(
    path: Path, numbers: Sequence[str] = (), models: dict[str, list[str]] | None = None
) -> pd.DataFrame:
    """Read one of evaluate's tables: `numbers` as float64, the columns in `models` checked for known labels."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_AGAIN}")
    wanted = [*(["prompt_id"] if models else []), *numbers, *(models or {})]
    table = read_delimited(path.read_bytes(), str(path), wanted, closed=True)[wanted]
    for name in numbers:
        values = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
        bad = values.isna() | values.isin([np.inf, -np.inf])
        if name == "predicted":  # a predictor may give none; everything else is measured
            bad &= table[name] != ""
        if bad.any():
            line = table.index[bad.to_numpy()][0]
            raise UserError(f"{path}: line {line}: {name} {table.at[line, name]!r} is not a number; {_AGAIN}")
        table[name] = values
    for name, labels in (models or {}).items():
        bad = ~table[name].isin(labels)
        if bad.any():
            line = table.index[bad.to_numpy()][0]
            raise UserError(
                f"{path}: line {line}: {name} {table.at[line, name]!r} is none of {', '.join(labels)}; {_AGAIN}"
            )
    return table


def _matrix(pairs: pd.DataFrame, value: str, ids: np.ndarray, labels: list[str], path: Path) -> np.ndarray:
    """One value of every (prompt, model) as float64 [n, m]."""
    if pairs.duplicated(["prompt_id", "model"]).any() or len(pairs) != len(ids) * len(labels):
        raise UserError(
            f"{path}: {len(pairs)} rows, expected one for each of {len(ids)} prompts and {len(labels)} models; "
            + _AGAIN
        )
    table = pairs.pivot(index="prompt_id", columns="model", values=value)
    if lost := sorted(set(ids) - set(table.index)):
        raise UserError(f"{path}: no row of prompt {lost[0]}; {_AGAIN}")
    return table.reindex(index=ids, columns=labels).to_numpy(dtype=np.float64)
