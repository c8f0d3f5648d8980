"""Prompts are encoded in runs: the same vectors however long the runs, and wherever they are done."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.encoders import embed
from promptroute.encoders.base import ImageEncoder, TextEncoder
from promptroute.encoders.embed import embed_prompts, encode_prompts
from promptroute.io.embeddings import read_sentences
from promptroute.io.parquet import read_parquet
from promptroute.runtime.executors import Executor, InProcess, Threads

TEXTS = ["red car", "a", "red car", "blue boats", "xyz", "", "b"]
IDS = [f"P{number}" for number in range(len(TEXTS))]


class Lengths(TextEncoder):
    """A text's length, and that of the longest in its batch; fails from the `fails_at`-th batch on."""

    incidental = TextEncoder.incidental | {"fails_at"}
    fails_at: int = 10**6

    @cached_property
    def batches(self) -> list[list[str]]:
        return []

    def weights(self) -> dict[str, Any]:
        return {"dim": 2}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if len(self.batches) >= self.fails_at:
            raise UserError("the machine went away")
        self.batches.append(list(texts))
        longest = max(map(len, texts))
        return np.array([[len(text), longest] for text in texts], np.float32)

    def truncated(self, texts: Sequence[str]) -> list[int | None]:
        return [max(len(text) - 5, 0) for text in texts]


class Both(ImageEncoder):
    """Encodes a prompt to its length."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text)] for text in texts], np.float32)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


class TestRuns:
    @pytest.mark.parametrize("executor", [InProcess(), Threads(workers=2)])
    @pytest.mark.parametrize("run", [1, 3, 100])
    def test_same_batches(self, monkeypatch: pytest.MonkeyPatch, executor: Executor, run: int) -> None:
        monkeypatch.setattr(embed, "RUN", run)
        encoder = Lengths(batch_size=2)
        path = encode_prompts(encoder, IDS, TEXTS, executor)
        # The longest first, two at a time, each text once.
        assert sorted(encoder.batches) == sorted([["blue boats", "red car"], ["xyz", "a"], ["b", ""]])
        np.testing.assert_array_equal(
            read_sentences(path, 2), [[7, 10], [1, 3], [7, 10], [10, 10], [3, 3], [0, 1], [1, 1]]
        )
        rows = read_parquet(path, "rows")
        assert rows.column("prompt_id").to_pylist() == IDS
        assert rows.column("truncated").to_pylist() == [2, 0, 2, 5, 0, 0, 0]
        assert list(path.parent.iterdir()) == [path]  # the runs are tidied away

    def test_a_killed_pass_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embed, "RUN", 2)
        encoder = Lengths(batch_size=2)
        with pytest.raises(UserError, match="went away"):
            encode_prompts(Lengths(batch_size=2, fails_at=1), IDS, TEXTS)
        encode_prompts(encoder, IDS, TEXTS)
        assert encoder.batches == [["xyz", "a"], ["b", ""]]

    def test_again_from_the_cache(self) -> None:
        first = encode_prompts(Lengths(), IDS, TEXTS)
        encoder = Lengths()
        assert encode_prompts(encoder, IDS, TEXTS) == first and encoder.batches == []


def test_prompts_of_an_image_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "RUN", 2)
    path = embed_prompts(Both(batch_size=2), IDS, TEXTS, Threads(workers=2))
    assert read_sentences(path, 1).ravel().tolist() == [len(text) for text in TEXTS]
    assert read_parquet(path, "rows").column("truncated").to_pylist() == [None] * len(TEXTS)
