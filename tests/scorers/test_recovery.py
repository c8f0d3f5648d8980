"""How much of its prompt can be read back from an image, as a score."""

from pathlib import Path

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.runtime.executors import InProcess
from promptroute.scorers.base import EmbeddingBatch, check_encoders
from promptroute.scorers.recovery import RecoveryScore
from promptroute.scorers.run import score_model


def test_by_hand() -> None:
    batch = EmbeddingBatch(np.array([[3.0, 4], [1, 0], [-1, 0]]), np.array([[3.0, 4], [1, 1], [1, 0]]))
    np.testing.assert_allclose(RecoveryScore().score(batch)["score"], [100, 100 / np.sqrt(2), 0], atol=1e-9)


def test_reads_the_recovery() -> None:
    assert RecoveryScore.reads({}) == "data/recovery/predicted" == str(RecoveryScore().folder)


def test_study_without_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="recovery takes embeddings by predicted, which image_encoder lacks"):
        check_encoders({"recovery": RecoveryScore()}, ["clip"])
    check_encoders({"recovery": RecoveryScore()}, ["clip", "predicted"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data/recovery/predicted/one: no embeddings of images"):
        score_model(RecoveryScore(), "recovery", "one", InProcess(), tmp_path / "scores")
