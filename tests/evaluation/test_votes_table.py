"""Votes as a published table."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from promptroute.core.component import TARGET, build
from promptroute.core.errors import UserError
from promptroute.core.outputs import Output
from promptroute.core.votes import Answer, Marks, Subject
from promptroute.evaluation.votes_table import VotesTable
from promptroute.io.published import ScoreTable
from promptroute.io.votes import Asked, Votes, add_all
from promptroute.prompts.published import TidyPrompts
from tests.evaluation.test_people import MODELS, PROMPTS, TIME, TRUTH, people

FACTS = {"b": {"label": "Model B", "profile": {"seconds": 3.0}}, "a": {}, "c": {"label": "C"}}


def store(path: Path, answers: list[tuple[Answer, Subject]], mode: str = "pairs") -> Path:
    """Keep answers as a study of these prompts, whose order of models is its own, does."""
    subjects = {subject.task("s"): subject for _, subject in answers}
    texts = {prompt: f"a picture of {prompt}" for prompt in PROMPTS}
    asked = Asked("s", mode, "which?", 0, texts, subjects, FACTS)  # type: ignore[arg-type]
    with Votes(path, asked) as votes:
        add_all(votes, [answer for answer, _ in answers])
    return path


@pytest.fixture
def table(tmp_path: Path) -> VotesTable:
    some = [
        (answer, subject) for answer, subject in people(0.0, raters=8) if subject.prompt_id in PROMPTS[:30]
    ]
    return VotesTable(votes=str(store(tmp_path / "v.sqlite", some)))


def one(
    value: object, model: str = "a", prompt: str = "p0", mode: str = "ratings", rater: str = "ann"
) -> tuple[Answer, Subject]:
    subject = Subject(prompt, (model,) if mode != "pairs" else ("a", "b"), (0,))
    return Answer(subject.task("s"), rater, value, False, 9, TIME), subject  # type: ignore[arg-type]


class TestPairs:
    def test_models(self, table: VotesTable) -> None:
        assert table.models() == {
            "b": {"label": "Model B", "stem": "b", "profile": {"seconds": 3.0}},
            "a": {"label": "a", "stem": "a"},
            "c": {"label": "C", "stem": "c"},
        }
        (section,) = table.scorers().values()
        assert list(table.scorers()) == ["preference"] and (section["low"], section["high"]) == (0.0, 100.0)
        assert table.label() == "v.sqlite"

    def test_scores(self, table: VotesTable) -> None:
        """Who is better on a prompt has the higher score there; the scores of a prompt average to half of the wins."""
        output = Output("score", "preference", 0.0, 100.0)
        found = np.column_stack([table.read("preference", output, model).rows["value"] for model in MODELS])
        assert found.shape == (30, 3)
        np.testing.assert_allclose(found.mean(axis=1), 50)
        assert (found.argmax(axis=1) == TRUTH[:30].argmax(axis=1)).mean() > 0.85
        overall = TRUTH[:30].mean(axis=0)
        upset = [row for row in range(30) if TRUTH[row].argmax() != overall.argmax()]
        assert upset, "shrunk to the models' own strengths, not to nothing"
        assert all(found[row].max() < found[:, overall.argmax()].max() for row in upset)

    def test_prompts(self, table: VotesTable) -> None:
        rows, (file,) = TidyPrompts(table=table).read()
        assert (
            rows["prompt_id"].tolist() == PROMPTS[:30] and file.path == "v.sqlite" and len(file.sha256) == 64
        )
        assert rows["prompt"].iloc[3] == "a picture of p3"

    def test_settings(self, table: VotesTable, tmp_path: Path) -> None:
        section = {TARGET: VotesTable.class_path(), "votes": table.votes}
        assert build(section, "it", ScoreTable) == table == build(table.to_section(), "it", ScoreTable)
        assert VotesTable.reads(section) == table.votes
        (tmp_path / "other").mkdir()
        store(tmp_path / "other" / "v.sqlite", people(0.0)[:3])
        assert len(table.at(tmp_path / "other").prompt_rows()[0]) == 1


def test_ratings(tmp_path: Path) -> None:
    """Means of images; a prompt of which a model has no rating is left out later, not made up."""
    given = [one(4), one(2, rater="bob"), one(5, "b"), one(1, "b", "p1"), one("skip", "a", "p2")]
    table = VotesTable(votes=str(store(tmp_path / "v.sqlite", given, "ratings")))
    assert list(table.models()) == ["b", "a"] and table.missing == "drop_prompt"
    read = table.read("rating", Output("score", "rating", 1.0, 5.0), "a")
    assert read.rows["value"].tolist() == [3.0] and read.gaps
    assert table.prompt_rows()[0]["prompt_id"].tolist() == ["p0", "p1"]


class TestRefuses:
    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"nowhere\.sqlite: no such file"):
            VotesTable(votes=str(tmp_path / "nowhere.sqlite")).models()

    def test_another_file(self, tmp_path: Path) -> None:
        (tmp_path / "v.sqlite").write_text("prompt,score\n")
        with pytest.raises(UserError, match="not a file of votes"):
            VotesTable(votes=str(tmp_path / "v.sqlite")).models()

    @pytest.mark.parametrize(
        ("given", "mode"), [([], "pairs"), ([one("skip", mode="pairs")], "pairs"), ([one(Marks())], "marks")]
    )
    def test_nothing_said(self, tmp_path: Path, given: list[tuple[Answer, Subject]], mode: str) -> None:
        path = store(tmp_path / "v.sqlite", given, mode)
        with pytest.raises(UserError, match=r"v\.sqlite: no (vote on pairs|text|prompt)"):
            VotesTable(votes=str(path)).models()

    def test_without_texts(self, tmp_path: Path) -> None:
        """Files of earlier versions don't hold the prompts."""
        path = store(tmp_path / "v.sqlite", people(0.0)[:3])
        with sqlite3.connect(path) as file:
            file.execute("DROP TABLE prompts")
            file.execute("DROP TABLE models")
        with pytest.raises(UserError, match=r"holds no text of prompt p0.*open it once with"):
            VotesTable(votes=str(path)).models()
