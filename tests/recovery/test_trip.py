"""The stage `trip`: from an example's images to a prompt, and back to an image."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from promptroute.generators.base import LocalGenerator
from promptroute.io.images import read_shard
from promptroute.recovery import Recovery
from promptroute.recovery.study import StudyImages, write_predicted
from promptroute.runtime.batching import Failure
from stages.trip import main
from tests.recovery.test_recovered import COLOURS, Hues, Named, trained
from tests.report.conftest import write_result

__all__ = ["trained"]
MODEL = "m1"
TEXTS = [f"{name} {thing}" for thing in ("wall", "hat", "door", "sky", "boat", "tree") for name in COLOURS]


class Painter(LocalGenerator):
    """Paints the colour that a prompt names, with a darker corner."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray | bytes | Failure]:
        return [self._paint(prompt) for prompt in prompts]

    @staticmethod
    def _paint(prompt: str) -> np.ndarray | Failure:
        named = [name for name in COLOURS if name in prompt]
        if named == ["white"]:
            return Failure("no white paint")
        image = np.tile(np.float32(COLOURS[named[0]]) / 255, (8, 8, 1))
        image[0, 0] = 0
        return image


@pytest.fixture
def study(tmp_path: Path, trained: Recovery, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A result, a recovery whose bank holds half of the examples, and its predictions of their images."""
    write_result(tmp_path, n=len(TEXTS), texts=TEXTS)
    bank = trained.bank.texts
    assert len(bank) == 4
    trained.save(tmp_path / "data/recovery")
    ids = pd.read_parquet(tmp_path / "data/prompts.parquet")["prompt_id"].tolist()
    text = Named()
    seen = text.encode([one for one in TEXTS[1:] for _ in (0, 2)])  # of the first prompt all images failed
    images = StudyImages(
        np.array([MODEL] * len(seen)), np.repeat(ids[1:], 2), np.tile([0, 2], len(ids) - 1), {"hues": seen}
    )
    write_predicted(tmp_path / "data/recovery/predicted", images, seen, ids, text.encode(TEXTS), {})
    params = {
        "models": {MODEL: {"generator": {"_target_": Painter.class_path(), "batch_size": 4}}},
        "recovery": {"views": [Hues.class_path()], "text": {"_target_": Named.class_path()}, "x": {"_target_": Hues.class_path()}},
        "generation": {"seeds": [0, 2]}, "compute": {"device": "cpu"},
    }  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def test_there_and_back(study: Path) -> None:
    said = main(MODEL)
    rows = read_shard(study / "data/trips" / MODEL / "part-00000.parquet")
    prompts = pd.read_parquet(study / "data/prompts.parquet").set_index("prompt_id")["prompt"]
    assert len(rows) == 20 - (prompts.index[0] not in {row.prompt_id for row in rows})
    for row in rows:
        colour = prompts[row.prompt_id].split()[0]
        assert colour in row.prompt and row.seed == 1, "the study's are 0 and 2"
        if colour == "white":
            assert row.reason == "no white paint" and row.image is None
        else:
            assert row.image is not None
            assert Image.open(io.BytesIO(row.image)).convert("RGB").getpixel((5, 5)) == COLOURS[colour]
    failed = {row.prompt for row in rows if row.status == "failed"}
    assert (
        failed
        and said == f"trip: {len(rows)} recovered prompts of {MODEL} generated again, {len(failed)} failed"
    )
    before = (study / "data/trips" / MODEL / "part-00000.parquet").read_bytes()
    main(MODEL)
    assert (study / "data/trips" / MODEL / "part-00000.parquet").read_bytes() == before


def test_never_its_own_prompt(study: Path, trained: Recovery) -> None:
    """A prompt that the bank holds isn't retrieved for its own images."""
    from promptroute.evaluation.recovery import recover_prompts

    ids = pd.read_parquet(study / "data/prompts.parquet")["prompt_id"].tolist()
    retrieving = replace(trained, phrases={"useless": ["hm"]})

    def found(prompts: dict[str, str]) -> dict[str, str]:
        texts = recover_prompts(retrieving, study / "data/recovery/predicted", MODEL, prompts)
        return {prompt: one.text for prompt, one in texts.items()}

    assert found({ids[1]: TEXTS[1]}) == {ids[1]: "green paper"}
    assert found({ids[1]: "Green paper"})[ids[1]] != "green paper"
    assert found({ids[0]: TEXTS[0]}) == {}, "all of its images failed"
