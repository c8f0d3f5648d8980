"""What a scorer gives: named scores of an image, maps over it, marks on the words of its prompt."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from promptroute.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

OUTPUT_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class Output:
    """One output of a scorer; its full name is SCORER.OUTPUT, as `nima.mean`.

    Attributes:
        name: key of what `Scorer.score` returns, `[a-z0-9_]+`.
        label: how people write it.
        low, high: range that every value must lie in, ends included; infinite where there is no bound.
        higher_is_better: direction; quality is the score, or minus the score.
        kind: `score`, one number an image (or a prompt); `map`, numbers [height, width] over the image; `marks`,
            one number a word of the prompt (see `words`), which counts as
            marked from 0.5 on.
    """

    name: str
    label: str
    low: float = -math.inf
    high: float = math.inf
    higher_is_better: bool = True
    kind: Literal["score", "map", "marks"] = "score"

    def __post_init__(self) -> None:
        if not OUTPUT_NAME.fullmatch(self.name):
            raise ValueError(f"output {self.name!r}: a name must match {OUTPUT_NAME.pattern}")
        if not self.low < self.high:
            raise ValueError(
                f"output {self.name}: low is {self.low} and high {self.high}; expected low < high"
            )


def words(prompt: str) -> list[str]:
    """Return the words of a prompt that marks stand on: what white space separates, in order."""
    return prompt.split()


def full_name(scorer: str, output: str) -> str:
    """Return a score's name in tables, metrics and settings."""
    return f"{scorer}.{output}"


def check_ranges(scores: "pd.DataFrame", outputs: Mapping[str, Output], where: str) -> None:
    """Refuse scores that a scorer does not declare, or that lie outside the range that it declares.

    Args:
        scores: `Score` rows.
        outputs: what the scorer declares, by name.
        where: the file or scorer, for the message.

    Raises:
        UserError: names the first such prompt, its value and the range; or the output that is unknown or lacking.
    """
    declared = [name for name, output in outputs.items() if output.kind == "score"]
    present = set(scores["output"])
    if unknown := sorted(present - set(declared)):
        raise UserError(
            f"{where}: holds the output {unknown[0]!r}; the scorer declares {', '.join(declared)}"
        )
    if len(scores) and (absent := [name for name in declared if name not in present]):
        raise UserError(f"{where}: has no output {absent[0]!r}, which the scorer declares; score it again")
    for name in declared:
        low, high = outputs[name].low, outputs[name].high
        rows = scores[scores["output"] == name]
        outside = rows[~rows["value"].between(low, high)]
        if len(outside):
            row = outside.iloc[0]
            raise UserError(
                f"{where}: {name} of prompt {row['prompt_id']} is {row['value']:g}, outside of the declared {low:g} to "
                f"{high:g} ({len(outside)} such row(s)); correct the range that the class declares, or the scores"
            )
