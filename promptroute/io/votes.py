"""Answers of people: an SQLite file while they vote, JSON from a page without a server, Label Studio's pairs."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from promptroute.core.errors import UserError
from promptroute.core.outputs import words
from promptroute.core.plain import Plain, Section
from promptroute.core.text import short
from promptroute.core.votes import (
    CHOICES,
    SKIP,
    Answer,
    Marks,
    Mode,
    Subject,
    check_milliseconds,
    check_rater,
    check_time,
    check_value,
)
from promptroute.io.files import read_json, write_json

Kind = TypeVar("Kind")
FORMAT = 1
_ANY_WORD = 1 << 31
"""Words that a prompt may have where only its answers are known."""
_TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (task TEXT PRIMARY KEY, subject TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS prompts (prompt_id TEXT PRIMARY KEY, prompt TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS models (model TEXT PRIMARY KEY, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT, task TEXT NOT NULL, rater TEXT NOT NULL, value TEXT NOT NULL,
    swapped INTEGER NOT NULL, milliseconds INTEGER NOT NULL, time TEXT NOT NULL, UNIQUE (rater, task));
"""


@dataclass(frozen=True)
class Asked:
    """What people are asked of a study.

    Attributes:
        study: digest of the prompts and images that they see.
        mode: pairs, ratings or marks.
        question: what they read.
        seed: of orders and sides.
        prompts: prompt_id → text.
        subjects: task → what it shows.
        models: model → its label, and the profile that its price follows from, where they are known.
    """

    study: str
    mode: Mode
    question: str
    seed: int
    prompts: Mapping[str, str]
    subjects: Mapping[str, Subject]
    models: Mapping[str, Section] = field(default_factory=dict)

    def about(self) -> dict[str, str]:
        """Give what must agree between this and a file of answers."""
        return {"format": str(FORMAT), "study": self.study, "mode": self.mode, "question": self.question}

    def subject(self, task: object) -> Subject:
        """Return what a task, or its repetition, shows.

        Raises:
            UserError: the study has no such task.
        """
        found = self.subjects.get(str(task).removesuffix("-again"))
        if found is None:
            raise UserError(f"the task {short(task)} is none of this study; expected one that it gave out")
        return found

    def answer(self, given: Section) -> Answer:
        """Check what a page sent.

        Raises:
            UserError: a field is missing, or is not what it should be.
        """
        lacking = [name for name in ("task", "rater", "value", "milliseconds", "time") if name not in given]
        if lacking:
            raise UserError(
                f"an answer lacks {lacking[0]}; expected task, rater, value, milliseconds and time"
            )
        subject = self.subject(given["task"])
        swapped = given.get("swapped", False)
        if not isinstance(swapped, bool):
            raise UserError(f"swapped {short(swapped)}: expected true or false")
        return Answer(
            str(given["task"]),
            check_rater(given["rater"]),
            check_value(given["value"], self.mode, len(words(self.prompts[subject.prompt_id]))),
            swapped,
            check_milliseconds(given["milliseconds"]),
            check_time(given["time"]),
        )


def plain(answer: Answer) -> Plain:
    """Give an answer as JSON holds it."""
    value = asdict(answer.value) if isinstance(answer.value, Marks) else answer.value
    return {**asdict(answer), "value": value}


class Votes:
    """Answers in one SQLite file; each is on the disk before its page is told so.

    Several processes and threads may write at once.

    Args:
        path: the file; made where it is absent.
        asked: what it must be about; None: whatever it is about.

    Raises:
        UserError: the file is no such file, or about another study, mode or question.
    """

    def __init__(self, path: Path, asked: Asked | None = None) -> None:
        self._path, self._lock = path, threading.Lock()
        if asked is None and not path.is_file():
            raise UserError(f"{path}: no such file; give the file that `promptroute annotate` wrote")
        try:
            self._file = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            self._file.execute("PRAGMA synchronous = FULL")
            if asked is not None:
                self._file.executescript(_TABLES)
            self._check(asked)
        except sqlite3.Error as error:
            raise UserError(f"{path}: not a file of votes ({error}); name another file") from error

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Use the file alone; say in a sentence where it is corrupt, or can't be written.

        Raises:
            UserError: naming it.
        """
        try:
            with self._lock:
                yield self._file
        except sqlite3.Error as error:
            raise UserError(
                f"{self._path}: can't be used ({error}); see that the disk has room and the file may be written, or "
                f"take a copy of it that is whole"
            ) from error

    def _check(self, asked: Asked | None) -> None:
        if asked is not None and not self._facts():
            self._file.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", asked.about().items())
        facts = self._facts()
        for name, expected in (asked.about() if asked is not None else {"format": str(FORMAT)}).items():
            if facts.get(name) != expected:
                raise UserError(
                    f"{self._path}: its {name} is {short(facts.get(name))}, expected {short(expected)}: "
                    f"these are votes of another study; name another file"
                )
        if asked is not None:
            rows = [(task, json.dumps(asdict(subject))) for task, subject in asked.subjects.items()]
            with self._file:
                self._file.execute("BEGIN")
                self._file.executemany("INSERT OR IGNORE INTO tasks VALUES (?, ?)", rows)
                self._file.executemany("INSERT OR IGNORE INTO prompts VALUES (?, ?)", asked.prompts.items())
                models = [(model, json.dumps(facts)) for model, facts in asked.models.items()]
                self._file.executemany("INSERT OR REPLACE INTO models VALUES (?, ?)", models)
                self._file.execute("COMMIT")

    def _facts(self) -> dict[str, str]:
        return dict(self._file.execute("SELECT key, value FROM about").fetchall())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def mode(self) -> Mode:
        """Return whether it holds pairs, ratings or marks."""
        return self._facts()["mode"]  # type: ignore[return-value]

    @property
    def prompts(self) -> dict[str, str]:
        """Return the texts of the study's prompts by id."""
        return self._known("prompts")

    @property
    def models(self) -> dict[str, Plain]:
        """Return what is known of the study's models, in its order; see `Asked.models`."""
        return {model: json.loads(facts) for model, facts in self._known("models").items()}

    def _known(self, table: str) -> dict[str, str]:
        try:
            return dict(self._file.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall())
        except sqlite3.OperationalError:  # written before these tables were
            return {}

    def add(self, answer: Answer) -> bool:
        """Keep an answer; return False where this rater has answered the task already, whose first answer stays."""
        value = plain(answer)["value"]
        row = (
            answer.task,
            answer.rater,
            json.dumps(value),
            answer.swapped,
            answer.milliseconds,
            answer.time,
        )
        with self._using() as file:
            done = file.execute(
                "INSERT OR IGNORE INTO answers (task, rater, value, swapped, milliseconds, time) VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
        return done.rowcount == 1

    def undo(self, rater: str) -> str | None:
        """Take a rater's last answer back; return its task, None where there is none."""
        with self._using() as file:
            last = file.execute(
                "DELETE FROM answers WHERE number = (SELECT max(number) FROM answers WHERE rater = ?) RETURNING task",
                (rater,),
            ).fetchone()
        return None if last is None else str(last[0])

    def tasks_of(self, rater: str) -> dict[str, None]:
        """Return the tasks that a rater has answered or skipped, in order of time."""
        with self._using() as file:
            rows = file.execute(
                "SELECT task FROM answers WHERE rater = ? ORDER BY number", (rater,)
            ).fetchall()
        return {str(task): None for (task,) in rows}

    def count(self) -> int:
        """Return how many answers there are."""
        with self._using() as file:
            return int(file.execute("SELECT count(*) FROM answers").fetchone()[0])

    def answers(self) -> list[tuple[Answer, Subject]]:
        """Return every answer, the oldest first, and what its task shows.

        Raises:
            UserError: the file is corrupt, or holds what was no answer when it was given.
        """
        with self._using() as file:
            rows = file.execute(
                "SELECT answers.task, rater, value, swapped, milliseconds, time, subject FROM answers "
                "JOIN tasks ON tasks.task = replace(answers.task, '-again', '') ORDER BY number"
            ).fetchall()
        return [(self._answer(*row[:-1]), self._subject(row[-1])) for row in rows]

    def _answer(
        self, task: str, rater: str, value: str, swapped: int, milliseconds: int, time: str
    ) -> Answer:
        try:
            return Answer(
                task,
                check_rater(rater),
                check_value(json.loads(value), self.mode, _ANY_WORD),
                bool(swapped),
                check_milliseconds(milliseconds),
                check_time(time),
            )
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{self._path}: an answer to {short(task)} is none ({error}); take a copy of the file that is whole"
            ) from error

    def _subject(self, text: str) -> Subject:
        try:
            return _checked(Subject, text)
        except ValueError as error:
            raise UserError(
                f"{self._path}: a task is none ({error}); take a copy of the file that is whole"
            ) from error


def _checked(kind: type[Kind], text: str | bytes) -> Kind:
    """Read JSON as a dataclass, its types checked.

    Raises:
        ValueError: the first fault, with its place.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise ValueError(f"{short(place)}: {fault['msg']}" if place else fault["msg"]) from error


def write_key(path: Path, asked: Asked) -> None:
    """Write what a page without a server keeps from its raters: which models its tasks show."""
    subjects = {task: asdict(subject) for task, subject in asked.subjects.items()}
    known = {"seed": asked.seed, "prompts": asked.prompts, "subjects": subjects, "models": asked.models}
    write_json(path, {**asked.about(), **known})


def read_key(path: Path) -> Asked:
    """Read what `write_key` wrote.

    Raises:
        UserError: the file is absent, or no such file.
    """
    fix = "give the file beside its folder, as it was written"
    found = read_json(path, fix)
    try:
        if not isinstance(found, dict) or found.get("format") != str(FORMAT):
            raise ValueError(f"it is not of format {FORMAT}")
        asked = _checked(Asked, path.read_bytes())
        sides = 2 if asked.mode == "pairs" else 1
        for task, subject in asked.subjects.items():
            if subject.prompt_id not in asked.prompts or len(set(subject.models)) != sides:
                raise ValueError(f"the task {short(task)} shows no prompt of it, or not {sides} models")
    except ValueError as error:
        raise UserError(f"{path}: not a key of a page of votes ({error}); {fix}") from error
    return asked


def read_exported(path: Path, asked: Asked) -> list[Answer]:
    """Read the JSON file that a page without a server gave its rater.

    Raises:
        UserError: the file is of another study, half-written, or an answer in it is not what it should be; names it.
    """
    found = read_json(path, "ask the rater for the file that the page saved")
    if not isinstance(found, dict) or not isinstance(found.get("answers"), list):
        raise UserError(f"{path}: holds no list of answers; give the file that the page exported")
    for name, expected in asked.about().items():
        if str(found.get(name)) != expected:
            raise UserError(
                f"{path}: its {name} is {short(found.get(name))}, expected {short(expected)}: these are votes of another study"
            )
    answers = []
    for place, given in enumerate(found["answers"]):
        if not isinstance(given, dict):
            raise UserError(f"{path}: answer {place + 1} is {short(given)}; expected an object")
        try:
            answers.append(asked.answer({"rater": found.get("rater"), **given}))
        except UserError as error:
            raise UserError(f"{path}: answer {place + 1}: {error}") from error
    return answers


def write_label_studio(path: Path, rows: Sequence[tuple[Answer, Subject]]) -> None:
    """Write choices between pairs as Label Studio's annotated tasks; a tie is an annotation without a result.

    Their shape is that of its exported JSON, with the labelling configuration
    <Pairwise name="pair" toName="left,right"/> over two objects `left` and `right`.
    """
    tasks: dict[tuple[str, bool], Plain] = {}
    for answer, subject in rows:
        if answer.value == SKIP:
            continue
        left, right = subject.models[::-1] if answer.swapped else subject.models
        task = tasks.setdefault(
            (answer.task, answer.swapped),
            {
                "id": len(tasks) + 1,
                "data": {
                    "task": answer.task,
                    "prompt_id": subject.prompt_id,
                    "left": left,
                    "right": right,
                },
                "annotations": [],
            },
        )
        choice = {
            "from_name": "pair",
            "to_name": "left,right",
            "type": "pairwise",
            "value": {"selected": answer.value},
        }
        task["annotations"].append(
            {
                "completed_by": answer.rater,
                "created_at": answer.time,
                "lead_time": answer.milliseconds / 1000,
                "was_cancelled": False,
                "result": [] if answer.value == "tie" else [choice],
            }
        )
    write_json(path, list(tasks.values()))


def read_label_studio(path: Path, asked: Asked) -> list[Answer]:
    """Read annotated pairs that Label Studio exported.

    A task's `data` names `prompt_id`, and the models as `left` and `right`; `completed_by` is a name, a number, or an
    object with `email` or `id`. An annotation without a result is a tie; one that was cancelled is left out.

    Raises:
        UserError: the file is not such an export, or names a pair that the study lacks; names the task.
    """
    pairs = {(s.prompt_id, frozenset(s.models)): (task, s) for task, s in asked.subjects.items()}
    found = read_json(path, "export it again")
    if not isinstance(found, list):
        raise UserError(f"{path}: expected a list of tasks, as Label Studio's JSON export gives")
    answers = []
    for place, task in enumerate(found, 1):
        try:
            data = task["data"]
            name, subject = pairs[data["prompt_id"], frozenset((data["left"], data["right"]))]
            for annotation in task["annotations"]:
                if not annotation.get("was_cancelled"):
                    answers.append(
                        asked.answer(_annotated(annotation, name, data["left"] != subject.models[0]))
                    )
        except KeyError as error:
            raise UserError(
                f"{path}: task {place}: no {short(error.args[0])} in it, or not in the study"
            ) from error
        except UserError as error:
            raise UserError(f"{path}: task {place}: {error}") from error
        except (TypeError, AttributeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path}: task {place}: not as Label Studio exports it ({short(str(error))}); export it again"
            ) from error
    return answers


def _annotated(annotation: Section, task: str, swapped: bool) -> Plain:
    by = annotation["completed_by"]
    by = by.get("email") or by.get("id") if isinstance(by, dict) else by
    selected = [part["value"]["selected"] for part in annotation["result"] if part["type"] == "pairwise"]
    if selected and selected[0] not in CHOICES:
        raise UserError(f"selected is {short(selected[0])}; expected left or right")
    return {
        "task": task,
        "rater": str(by),
        "value": selected[0] if selected else "tie",
        "swapped": swapped,
        "milliseconds": round(1000 * float(annotation.get("lead_time") or 0)),
        "time": annotation["created_at"],
    }


def add_all(votes: Votes, answers: Iterable[Answer]) -> tuple[int, int]:
    """Keep answers; return how many were new, and how many their raters had given already."""
    new = [votes.add(answer) for answer in answers]
    return sum(new), len(new) - sum(new)
