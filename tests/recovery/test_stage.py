"""The stage `recover`, and the scorer that reads what it writes, in a folder with a made-up study."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from promptroute.core.errors import UserError
from promptroute.core.rows import Prompt, SplitRow
from promptroute.io.embeddings import embeddings_table
from promptroute.io.parquet import write_parquet
from promptroute.io.tables import write_table
from promptroute.recovery import Recovery
from promptroute.runtime.executors import InProcess
from promptroute.scorers.recovery import RecoveryScore
from promptroute.scorers.run import score_model
from stages.recover import main
from tests.recovery.test_recovered import COLOURS, HERE, Hues, Named

THINGS = ("wall", "hat", "door", "sky", "boat", "tree")


class Told(Named):
    """Counts the names of colours, and a little those of things."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        things = np.array([[0.5 * text.count(thing) for thing in THINGS] for text in texts], np.float32)
        return np.hstack([super().encode(texts), things])

    def weights(self) -> dict[str, Any]:
        return {"dim": 1 + len(COLOURS) + len(THINGS)}


TEXTS = [f"a {name} {thing}" for thing in THINGS for name in COLOURS]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a study of coloured things, a view of its images, and parameters."""

    def made(**recovery: Any) -> Path:
        ids = [f"P{number:03d}" for number in range(len(TEXTS))]
        prompts = pd.DataFrame({"prompt_id": ids, "prompt": TEXTS, "set": "T", "count": 1})
        other = [*TEXTS, *(f"{name} paper" for name in COLOURS)]
        source = pd.DataFrame({"prompt_id": [f"S{n}" for n in range(len(other))], "prompt": other, "set": "T", "count": 1})  # fmt: skip
        side = np.repeat(["train", "train", "train", "validation", "test", "test"], len(COLOURS))
        write_table(tmp_path / "data/prompts.parquet", prompts, Prompt)
        write_table(tmp_path / "data/sources/t.parquet", source, Prompt)
        write_table(
            tmp_path / "data/split.parquet", pd.DataFrame({"prompt_id": ids, "split": side}), SplitRow
        )
        random = np.random.default_rng(0)
        for model in ("one", "two"):
            keys = [(name, seed) for name in ids for seed in (0, 1)]
            hues = np.array([COLOURS[text.split()[1]] for text in TEXTS for _ in (0, 1)], np.float32)
            table = embeddings_table([key[0] for key in keys], hues + random.normal(0, 9, hues.shape), [key[1] for key in keys])  # fmt: skip
            write_parquet(
                tmp_path / "data/embeddings/hues" / model / "part-00000.parquet", table, {"model": model}
            )
        params = {
            "models": {"one": {}, "two": {}}, "compute": {"device": "cpu"}, "evaluate": {"resamples": 20}, "seed": 0, "about": "made up",
            "image_encoder": {"hues": {"_target_": Hues.class_path()}}, "recovery": recovery,
        }  # fmt: skip
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DVC_ROOT", str(tmp_path))
        return tmp_path

    return made


SECTION = {
    "_target_": "promptroute.recovery.study.RecoveryStudy",
    "views": ["hues"],
    "learner": {"_target_": "promptroute.recovery.learners.ridge.Ridge", "penalty": [0.01]},
    "text": {"_target_": Told.class_path()},
    "near": 0.999,
    "folds": 2,
    "texts": 5,
}


def test_whole(study: Callable[..., Path]) -> None:
    folder = study(**SECTION)
    assert main().startswith("recover: ridge: mean cosine 0.")
    figures = json.loads((folder / "metrics/recovery.json").read_text())
    assert figures["prompts"] == {"train": 12, "validation": 4, "test": 8, "near_duplicates_moved": 0}
    own = figures["learners"]["ridge"]["all"]
    assert own["cosine"]["estimate"] > own["floor"]["estimate"] + 0.1 and figures["about"] == "made up"
    assert figures["text"]["bank"] == len(TEXTS) + len(COLOURS) - 8, "the bank holds none of the 8 that judge"
    assert len(json.loads((folder / "data/recovery/texts.json").read_text())) == 5
    allow = [HERE, f"{__name__}."]
    assert Recovery.load(folder / "data/recovery", allow=allow).bank.texts
    scores = score_model(RecoveryScore(), "recovery", "one", InProcess(), folder / "scores")
    assert len(scores) == 2 * len(TEXTS) and scores["value"].between(50, 100).all()


def test_near_duplicates_leave_a_side_empty(study: Callable[..., Path]) -> None:
    """To this encoder all things of a colour are one text, so all are on the side of the first."""
    folder = study(**{**SECTION, "text": {"_target_": Named.class_path()}})
    with pytest.raises(UserError, match="no validation prompt has an image"):
        main()
    assert not (folder / "data/recovery").exists() and not (folder / "metrics").exists(), (
        "nothing half-written"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"views": ["clip"]}, r"recovery\.views has clip, which image_encoder lacks"),
        ({"views": ["hues", "pixels"]}, r"recovery\.views has pixels"),
        ({"folds": 40}, "can't be shared out among 40 folds"),
    ],
)
def test_refuses(study: Callable[..., Path], changed: dict[str, Any], said: str) -> None:
    folder = study(**{**SECTION, **changed})
    with pytest.raises(UserError, match=said):
        main()
    assert not (folder / "data/recovery").exists()


def test_none(study: Callable[..., Path]) -> None:
    folder = study()
    assert main().startswith("recover: nothing")
    assert [path.name for path in (folder / "data/recovery").iterdir()] == ["texts.json"], (
        "DVC warns of an empty folder"
    )
    assert json.loads((folder / "metrics/recovery.json").read_text()) == {}
