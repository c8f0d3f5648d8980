"""Files of answers: nothing lost at a kill, nothing of another study taken in."""

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.core.votes import Answer, Marks, Subject
from promptroute.io.votes import (
    Asked,
    Votes,
    add_all,
    plain,
    read_exported,
    read_key,
    read_label_studio,
    write_key,
    write_label_studio,
)

TIME = "2026-01-01T00:00:00Z"
SUBJECTS = [Subject("p1", ("a", "b"), (0, 1)), Subject("p2", ("a", "b"), (0, 1))]
TASKS = {subject.task("s"): subject for subject in SUBJECTS}
FIRST, SECOND = TASKS


def asked(study: str = "s", mode: str = "pairs", question: str = "which?") -> Asked:
    return Asked(
        study, mode, question, 0, {"p1": "a red car", "p2": "two sheep"}, TASKS, {"a": {"label": "A"}}
    )  # type: ignore[arg-type]


def vote(task: str = FIRST, rater: str = "ann", value: str = "left", swapped: bool = False) -> Answer:
    return Answer(task, rater, value, swapped, 900, TIME)


def exported(**changes: object) -> Plain:
    answer = {"task": FIRST, "value": "left", "swapped": True, "milliseconds": 5, "time": TIME}
    return {**asked().about(), "rater": "ann", "answers": [answer], **changes}


def annotated(**changes: object) -> Plain:
    annotation = {"result": [], "created_at": TIME, "completed_by": 11, **changes}
    return {"data": {"prompt_id": "p1", "left": "a", "right": "b"}, "annotations": [annotation]}


class TestStore:
    def test_comes_back(self, tmp_path: Path) -> None:
        with Votes(tmp_path / "v.sqlite", asked()) as votes:
            assert votes.add(vote()) and votes.add(vote(rater="bob", value="tie"))
        with Votes(tmp_path / "v.sqlite") as votes:
            assert [answer for answer, _ in votes.answers()] == [vote(), vote(rater="bob", value="tie")]
            assert {subject for _, subject in votes.answers()} == {SUBJECTS[0]} and votes.mode == "pairs"

    def test_first_answer_stays(self, tmp_path: Path) -> None:
        with Votes(tmp_path / "v.sqlite", asked()) as votes:
            votes.add(vote())
            assert not votes.add(vote(value="right")) and votes.count() == 1

    def test_undo_is_the_raters_own(self, tmp_path: Path) -> None:
        with Votes(tmp_path / "v.sqlite", asked()) as votes:
            votes.add(vote())
            votes.add(vote(rater="bob"))
            assert votes.undo("ann") == FIRST and votes.undo("ann") is None
            assert list(votes.tasks_of("bob")) == [FIRST]

    def test_marks_come_back(self, tmp_path: Path) -> None:
        marks = Answer(FIRST, "ann", Marks(((0.25, 0.5),), (1,)), False, 1, TIME)
        with Votes(tmp_path / "v.sqlite", asked(mode="marks")) as votes:
            votes.add(marks)
            assert votes.answers()[0][0] == marks

    def test_repetition_shows_the_same(self, tmp_path: Path) -> None:
        with Votes(tmp_path / "v.sqlite", asked()) as votes:
            votes.add(vote(f"{FIRST}-again"))
            assert votes.answers()[0][1] == SUBJECTS[0]

    def test_kill_loses_nothing(self, tmp_path: Path) -> None:
        """Kill a process that keeps voting; what it said it had kept is there."""
        code = (
            "import sys; sys.path.insert(0, sys.argv[2])\n"
            "from pathlib import Path\n"
            "from tests.io.test_votes import Votes, asked, vote\n"
            "votes = Votes(Path(sys.argv[1]), asked())\n"
            "for number in range(10**6):\n"
            "    votes.add(vote(rater=f'r{number}'))\n"
            "    print(number, flush=True)\n"
        )
        root = str(Path(__file__).parents[2])
        path = tmp_path / "v.sqlite"
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path), root], stdout=subprocess.PIPE, text=True, cwd=root
        ) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(20)]
            process.send_signal(signal.SIGKILL)
            said += process.stdout.readlines()
        told = max(int(line) for line in said if line.endswith("\n"))
        with Votes(path) as votes:
            raters = {answer.rater for answer, _ in votes.answers()}
        assert {f"r{number}" for number in range(told + 1)} <= raters

    @pytest.mark.parametrize("other", [{"study": "t"}, {"mode": "ratings"}, {"question": "why?"}])
    def test_another_study(self, tmp_path: Path, other: dict[str, str]) -> None:
        Votes(tmp_path / "v.sqlite", asked()).__exit__()
        with pytest.raises(UserError, match="votes of another study"):
            Votes(tmp_path / "v.sqlite", asked(**other))

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such file"):
            Votes(tmp_path / "v.sqlite")

    def test_not_sqlite(self, tmp_path: Path) -> None:
        (tmp_path / "v.sqlite").write_text("prompt,choice\n" * 100)
        with pytest.raises(UserError, match="not a file of votes"):
            Votes(tmp_path / "v.sqlite")

    def test_another_sqlite(self, tmp_path: Path) -> None:
        import sqlite3

        file = sqlite3.connect(tmp_path / "v.sqlite")
        file.execute("CREATE TABLE other (x)")
        file.close()
        with pytest.raises(UserError, match="not a file of votes"):
            Votes(tmp_path / "v.sqlite")


class TestPageWithoutServer:
    def test_comes_back(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text(json.dumps(exported()))
        write_key(tmp_path / "key.json", asked())
        (answer,) = read_exported(tmp_path / "a.json", read_key(tmp_path / "key.json"))
        assert answer.lead == -1 and plain(answer)["rater"] == "ann"
        with Votes(tmp_path / "v.sqlite", asked()) as votes:
            assert add_all(votes, [answer, answer]) == (1, 1)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"study": "t"}, "votes of another study"),
            ({"mode": "ratings"}, "votes of another study"),
            ({"answers": None}, "no list of answers"),
            ({"answers": [3]}, "answer 1 is 3"),
            ({"answers": [{"task": FIRST}]}, "answer 1: an answer lacks value"),
            ({"answers": [{**exported()["answers"][0], "task": "ffff"}]}, "none of this study"),
            ({"answers": [{**exported()["answers"][0], "value": "up"}]}, "expected one of left"),
            ({"answers": [{**exported()["answers"][0], "swapped": "no"}]}, "expected true or false"),
            ({"rater": "\x1b[2J"}, "control character"),
            ({"rater": None}, "1 to 60 characters"),
        ],
    )
    def test_refused(self, tmp_path: Path, changes: Plain, message: str) -> None:
        (tmp_path / "a.json").write_text(json.dumps(exported(**changes)))
        with pytest.raises(UserError, match=message) as caught:
            read_exported(tmp_path / "a.json", asked())
        assert "a.json" in str(caught.value)

    def test_half_written(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text(json.dumps(exported())[:-20])
        with pytest.raises(UserError, match="not readable as JSON"):
            read_exported(tmp_path / "a.json", asked())

    @pytest.mark.parametrize(
        "changes",
        [
            {"mode": "stars"},
            {"prompts": "p1"},
            {"prompts": {}},
            {"prompts": {"p1": None, "p2": "b"}},
            {"seed": "0"},
            {"subjects": {FIRST: {"prompt_id": ["p1"], "models": ["a", "b"], "seeds": [0]}}},
            {"subjects": {FIRST: {"prompt_id": "p1", "models": "ab", "seeds": [0]}}},
            {"subjects": {FIRST: {"prompt_id": "p1", "models": ["a", "a"], "seeds": [0]}}},
            {"subjects": {FIRST: {"prompt_id": "p1", "models": ["a"], "seeds": [0]}}},
        ],
    )
    def test_key_of_other_types(self, tmp_path: Path, changes: Plain) -> None:
        path = tmp_path / "key.json"
        write_key(path, asked())
        assert read_key(path) == asked()
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        with pytest.raises(UserError, match=r"key\.json: not a key"):
            read_key(path)

    def test_answers_are_kept(self, tmp_path: Path) -> None:
        """A rater's file can't be made again by the pipeline."""
        (tmp_path / "a.json").write_text("{")
        for read in (read_exported, read_label_studio):
            for name in ("a.json", "absent.json"):
                with pytest.raises(UserError) as caught:
                    read(tmp_path / name, asked())
                assert "delete it" not in str(caught.value) and "dvc repro" not in str(caught.value)

    @pytest.mark.parametrize("text", ["[]", "{}", '{"format": "9"}', '{"format": "1", "subjects": {"a": 1}}'])
    def test_no_key(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "key.json").write_text(text)
        with pytest.raises(UserError, match=r"key\.json"):
            read_key(tmp_path / "key.json")


class TestCorrupt:
    def corrupt(self, path: Path, statement: str) -> None:
        with Votes(path, asked()) as votes:
            votes.add(vote())
        with sqlite3.connect(path) as file:
            file.execute(statement)
        file.close()

    @pytest.mark.parametrize(
        "change",
        [
            "answers SET value = 'left'",
            "answers SET value = '\"up\"'",
            "answers SET value = 'null'",
            "answers SET value = '{\"points\": 1}'",
            "answers SET milliseconds = 'x'",
            "answers SET time = 'noon'",
            "answers SET rater = char(27)",
            "tasks SET subject = '{}'",
            "tasks SET subject = '{'",
        ],
    )
    def test_what_was_never_given(self, tmp_path: Path, change: str) -> None:
        self.corrupt(tmp_path / "v.sqlite", f"UPDATE {change}")
        with Votes(tmp_path / "v.sqlite") as votes, pytest.raises(UserError, match=r"v\.sqlite: a"):
            votes.answers()

    def test_database(self, tmp_path: Path) -> None:
        """SQLite finds it out only when it reads the page."""
        self.corrupt(tmp_path / "v.sqlite", "UPDATE answers SET rater = CAST(x'72ff' AS TEXT)")
        with (
            Votes(tmp_path / "v.sqlite") as votes,
            pytest.raises(UserError, match=r"v\.sqlite: can't be used"),
        ):
            votes.answers()

    def test_read_only(self, tmp_path: Path) -> None:
        with Votes(tmp_path / "v.sqlite", asked()) as votes:
            votes._file.execute("PRAGMA query_only = ON")
            with pytest.raises(UserError, match="can't be used"):
                votes.add(vote())


class TestLabelStudio:
    def test_there_and_back(self, tmp_path: Path) -> None:
        given = [vote(), vote(SECOND, value="tie", swapped=True), vote(FIRST, "bob", "right", True)]
        write_label_studio(tmp_path / "ls.json", [(answer, TASKS[answer.task]) for answer in given])
        back = read_label_studio(tmp_path / "ls.json", asked())
        assert {(a.task, a.rater, a.lead) for a in back} == {(a.task, a.rater, a.lead) for a in given}

    def test_documented_shape(self, tmp_path: Path) -> None:
        """A task as its guide on the format of annotated tasks shows it, with the result of a Pairwise tag."""
        task = {
            "id": 1,
            "created_at": "2021-03-09T21:52:49.513742Z",
            "project": 83,
            "data": {"prompt_id": "p1", "left": "b", "right": "a"},
            "annotations": [
                {
                    "id": "1001",
                    "result": [
                        {
                            "from_name": "pw",
                            "id": "Dx_aB91ISN",
                            "to_name": "left,right",
                            "type": "pairwise",
                            "value": {"selected": "left"},
                        }
                    ],
                    "was_cancelled": False,
                    "ground_truth": False,
                    "created_at": "2021-03-09T22:16:08.728353Z",
                    "lead_time": 4.288,
                    "completed_by": 10,
                },
                {"result": [], "was_cancelled": True, "created_at": TIME, "completed_by": 11},
            ],
        }
        (tmp_path / "ls.json").write_text(json.dumps([task]))
        (answer,) = read_label_studio(tmp_path / "ls.json", asked())
        assert (answer.rater, answer.lead, answer.milliseconds, answer.task) == ("10", -1, 4288, FIRST)

    @pytest.mark.parametrize(
        ("tasks", "message"),
        [
            ({}, "expected a list"),
            ([{}], "task 1: no 'data'"),
            ([3], "task 1: not as Label Studio exports it"),
            ([annotated(lead_time="soon")], "task 1: not as Label Studio"),
            ([annotated(lead_time=float("inf"))], "task 1: not as Label Studio"),
            ([annotated(lead_time=1e300)], "whole number"),
            ([{"data": {"prompt_id": "p9", "left": "a", "right": "b"}}], "not in the study"),
        ],
    )
    def test_refused(self, tmp_path: Path, tasks: object, message: str) -> None:
        (tmp_path / "ls.json").write_text(json.dumps(tasks))
        with pytest.raises(UserError, match=message):
            read_label_studio(tmp_path / "ls.json", asked())
