"""What people say of images: blind choices between two models, ratings of an image, marks on it."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from promptroute.core.errors import UserError
from promptroute.core.text import short

Mode = Literal["pairs", "ratings", "marks"]
CHOICES = ("left", "right", "tie")
SKIP = "skip"
QUESTIONS = {
    "consistency": "Which side's images are more alike?",
    "preference": "Which side do you prefer for this prompt?",
    "alignment": "Which side shows better what the prompt says?",
}
"""Names of questions → what people read; any other text is asked as it is."""
RATING = "How good is this image for the prompt? 1 is bad, 5 is excellent."
MARKING = "Mark places that look wrong, and words of the prompt that the image misses."
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_LONGEST = 2**53  # milliseconds; a larger number is not the same in every reader of JSON


@dataclass(frozen=True)
class Subject:
    """What a task shows: the images of one prompt by one model, or by two.

    Attributes:
        prompt_id: whose images.
        models: one name; or two, in the order of the study.
        seeds: of the images that are shown of each.
    """

    prompt_id: str
    models: tuple[str, ...]
    seeds: tuple[int, ...]

    def task(self, study: str, again: bool = False) -> str:
        """Give the task's name, which tells a rater nothing; `again` names its repetition."""
        text = "\0".join((study, self.prompt_id, *self.models, *map(str, self.seeds)))
        return hashlib.sha256(text.encode()).hexdigest()[:16] + "-again" * again


@dataclass(frozen=True)
class Marks:
    """What looks wrong in an image.

    Attributes:
        points: (x, y) of places, each 0 to 1 from the left and from the top.
        words: positions in `promptroute.core.outputs.words(prompt)` of words that the image misses.
    """

    points: tuple[tuple[float, float], ...] = ()
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What one person said to one task.

    Attributes:
        task: its name.
        rater: who.
        value: of pairs left, right or tie; of ratings 1 to 5; of marks `Marks`; in each, "skip".
        swapped: of pairs, whether the first model stood on the right.
        milliseconds: from showing to answering, 0 or more.
        time: when, ISO 8601 with its offset.
    """

    task: str
    rater: str
    value: str | int | Marks
    swapped: bool
    milliseconds: int
    time: str

    @property
    def lead(self) -> int:
        """Return 1 where the first model was chosen, -1 the second, 0 a tie."""
        side = {"left": 1, "right": -1}.get(str(self.value), 0)
        return -side if self.swapped else side


def check_rater(name: object) -> str:
    """Return a rater's name.

    Raises:
        UserError: it is empty, longer than 60 characters, or holds a control character.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > 60:
        raise UserError(f"rater {short(name)}: expected a name of 1 to 60 characters")
    if any(unicodedata.category(character).startswith("C") for character in name):
        raise UserError(f"rater {short(name)} holds a control character; give a name that can be printed")
    return name.strip()


def check_value(value: object, mode: Mode, words: int) -> str | int | Marks:
    """Return what a person said, as a value.

    Args:
        value: from JSON; marks as {"points": [[x, y], …], "words": [position, …]}.
        mode: of the study.
        words: how many the prompt has.

    Raises:
        UserError: it is none of what the mode allows.
    """
    if value == SKIP:
        return SKIP
    if mode == "pairs" and value in CHOICES:
        return str(value)
    if mode == "ratings" and isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 5:
        return value
    if mode == "marks" and isinstance(value, dict) and set(value) <= {"points", "words"}:
        return _marks(value, words)
    expected = {
        "pairs": f"one of {', '.join(CHOICES)}",
        "ratings": "a whole number of 1 to 5",
        "marks": "{points: [[x, y], …], words: [position, …]}",
    }
    raise UserError(f"the answer {short(value)}: expected {expected[mode]}, or {SKIP}")


def _marks(value: dict[str, object], words: int) -> Marks:
    points, missing = value.get("points", []), value.get("words", [])
    if not isinstance(points, list) or not isinstance(missing, list) or len(points) > 1000:
        raise UserError("points and words of an answer: expected lists, of at most 1000 points")
    for point in points:
        if (
            not isinstance(point, list)
            or len(point) != 2
            or not all(isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1 for x in point)
        ):
            raise UserError(f"the point {short(point)}: expected [x, y], each 0 to 1")
    for word in missing:
        if not isinstance(word, int) or isinstance(word, bool) or not 0 <= word < words:
            raise UserError(f"the word {short(word)}: expected a position of 0 to {words - 1}")
    return Marks(tuple((float(x), float(y)) for x, y in points), tuple(sorted(set(missing))))


def check_time(time: object) -> str:
    """Return a time.

    Raises:
        UserError: it is not ISO 8601 with an offset, or there is no such time.
    """
    try:
        if isinstance(time, str) and _TIME.fullmatch(time) and datetime.fromisoformat(time):
            return time
    except ValueError:  # a thirteenth month
        pass
    raise UserError(f"the time {short(time)}: expected ISO 8601 with an offset, as 2026-01-31T12:00:00Z")


def check_milliseconds(value: object) -> int:
    """Return a duration in milliseconds.

    Raises:
        UserError: it is no whole number of 0 or more, or absurdly large.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LONGEST:
        raise UserError(f"milliseconds {short(value)}: expected a whole number of 0 or more")
    return value
