"""The stage that reads people's votes."""

import json
from pathlib import Path

import pandas as pd

from promptroute.core.votes import Answer, Subject
from promptroute.io.votes import Asked, Votes
from tests.stages.small import params, run

TIME = "2026-01-01T00:00:00Z"


def vote(path: Path, prompts: list[str], models: tuple[str, str] = ("sdxl-turbo", "sd-turbo")) -> None:
    """Let one person prefer the first model's images everywhere."""
    subjects = [Subject(prompt, models, (0,)) for prompt in prompts]
    tasks = {subject.task("s"): subject for subject in subjects}
    asked = Asked("s", "pairs", "which?", 0, dict.fromkeys(prompts, "a car"), tasks)
    with Votes(path, asked) as votes:
        for task in tasks:
            votes.add(Answer(task, "ann", "left", False, 800, TIME))


def test_without_votes(study: Path) -> None:
    ran = run(study, "agreement")
    assert ran.status == 0 and "no votes" in ran.out
    assert json.loads((study / "metrics/agreement.json").read_text()) == {"answers": 0}


def test_votes(study: Path) -> None:
    ids = pd.read_parquet(study / "data/prompts.parquet")["prompt_id"].tolist()
    vote(study / "votes.sqlite", ids[:20])
    params(study, f"agreement.votes={study / 'votes.sqlite'}")
    ran = run(study, "agreement")
    assert ran.status == 0, ran.err
    found = json.loads((study / "metrics/agreement.json").read_text())
    assert found["answers"] == 20 and found["models"]["sdxl-turbo"]["rank"] == 1
    assert set(found["scores"]) == {"nima.mean", "clip.score"}


def test_of_another_study(study: Path) -> None:
    vote(study / "votes.sqlite", ["nowhere"])
    params(study, f"agreement.votes={study / 'votes.sqlite'}")
    ran = run(study, "agreement")
    assert ran.status == 1 and "which the study lacks" in ran.err and ran.err.count("\n") == 1


def test_no_such_file(study: Path) -> None:
    params(study, "agreement.votes=nowhere.sqlite")
    ran = run(study, "agreement")
    assert ran.status == 1 and "nowhere.sqlite: no such file" in ran.err
