"""A study of people's votes: from a file of them to a router of what people prefer."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from promptroute.core.votes import Answer, Subject
from promptroute.io.votes import Asked, Votes, add_all
from tests.stages.small import params, run

TIME = "2026-01-01T00:00:00Z"
MODELS = {
    "swift": {"label": "Swift", "profile": {"seconds": 0.1, "memory_gb": 2.0}},
    "grand": {"label": "Grand", "profile": {"seconds": 1.0, "memory_gb": 2.0}},
}
LIKED = {"a logo": "swift", "a portrait": "grand"}
"""Whose images people prefer, by kind of prompt."""


def vote(path: Path, n: int = 60) -> None:
    texts = {f"P{i:02d}": f"{kind} in style {i}" for i, kind in enumerate([*LIKED] * (n // 2))}
    subjects = {
        subject.task("s"): subject for subject in (Subject(p, ("swift", "grand"), (0, 1)) for p in texts)
    }
    asked = Asked("s", "pairs", "which?", 0, texts, subjects, MODELS)
    random = np.random.default_rng(0)
    with Votes(path, asked) as votes:
        for task, subject in subjects.items():
            liked = next(model for kind, model in LIKED.items() if texts[subject.prompt_id].startswith(kind))
            for rater in ("ann", "bob", "cy"):
                side = "left" if (liked == "swift") == (random.random() < 0.9) else "right"
                add_all(votes, [Answer(task, rater, side, False, 9, TIME)])


def test_whole_study(tmp_path: Path) -> None:
    vote(tmp_path / "votes.sqlite")
    params(tmp_path, "experiment=votes", f"published.table.votes={tmp_path}/votes.sqlite")
    named = yaml.safe_load((tmp_path / "params.yaml").read_text())
    assert named["published"]["models"]["grand"]["profile"] == MODELS["grand"]["profile"]
    assert named["score"]["weights"] == {"preference": {"score": 1.0}}
    watched = {
        named["uses"]["prompts"]["tidy"],
        *(one["table"] for one in named["uses"]["published"].values()),
    }
    assert watched == {f"{tmp_path}/votes.sqlite"}, "edited in place, it is read again"
    stages = [
        "read tidy",
        "sample",
        "split",
        "preflight",
        "published preference swift",
        "published preference grand",
    ]
    for stage in [*stages, "table", "train", "calibrate", "evaluate"]:
        ran = run(tmp_path, *stage.split())
        assert ran.status == 0, ran.err
    scores = pd.read_parquet(tmp_path / "data/performance.parquet").pivot(
        index="prompt_id", columns="model", values="mean"
    )
    assert len(scores) == 60 and (scores.sum(axis=1) - 100).abs().max() < 1e-6
    kinds = np.arange(60) % 2 == 0
    assert (
        (scores["swift"] > scores["grand"])[kinds].mean()
        > 0.9
        > 0.1
        > (scores["swift"] > scores["grand"])[~kinds].mean()
    )
    result = json.loads((tmp_path / "metrics/evaluate.json").read_text())
    assert result["labels"] == {"swift": "Swift", "grand": "Grand"}
    assert result["strategies"]["single_grand"]["cost"] > 5 * result["strategies"]["single_swift"]["cost"]
