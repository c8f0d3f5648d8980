"""Scores are averaged over a prompt's images, each output by itself."""

import numpy as np
import pandas as pd

from promptroute.core.performance import complete, performance


def scores() -> pd.DataFrame:
    rows = [("P1", 0, "a", 1.0, 1), ("P1", 1, "a", 3.0, 1), ("P2", 0, "a", 5.0, 1), ("P1", None, "b", 7.0, 2)]
    frame = pd.DataFrame(rows, columns=["prompt_id", "seed", "output", "value", "images"])
    return frame.assign(seconds=[1.0, 3.0, np.nan, np.nan])


def test_means_by_hand() -> None:
    found = performance(scores(), "m", "s").set_index(["score", "prompt_id"])
    assert list(found.index) == [("s.a", "P1"), ("s.a", "P2"), ("s.b", "P1")]
    assert found["mean"].tolist() == [2.0, 5.0, 7.0] and found["n"].tolist() == [2, 1, 2]
    np.testing.assert_allclose(found["std"], [np.sqrt(2), np.nan, np.nan])
    np.testing.assert_allclose(found["seconds"], [2.0, np.nan, np.nan])
    assert set(found["model"]) == {"m"}


def test_incomplete_prompts_are_left_out() -> None:
    rows, lost = complete(performance(scores(), "m", "s"), 2)
    assert set(rows["prompt_id"]) == {"P1"} and lost == ["P2"]
