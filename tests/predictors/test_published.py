"""Real prompts and real scores: a fitted predictor knows more than the means."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.predictors.mean import Mean
from promptroute.predictors.ridge import Ridge

MODELS = ("SDXL-Turbo", "SD-Turbo", "amused", "TAESD")


@pytest.mark.parametrize("score", ["nima", "clip"])
def test_ridge_beats_mean(cems_root: Path, score: str) -> None:
    frames = [
        pd.read_csv(cems_root / "Model_Perf" / "aug_10k" / f"{score}_score_with_time_{model}.csv").set_index(
            "prompt_id"
        )
        for model in MODELS
    ]
    table = pd.concat([frame[f"{score}_score"] for frame in frames], axis=1, keys=MODELS)
    table["prompt"] = frames[0]["prompt"].astype(str)
    table = table.drop_duplicates("prompt").sample(2500, random_state=0)
    prompts, quality = PromptBatch(table["prompt"].tolist()), table[list(MODELS)].to_numpy()
    train, test = np.arange(2000), np.arange(2000, 2500)

    def error(predictor: Mean | Ridge) -> float:
        """Of the differences between models, which decide the choice."""
        left = predictor.fit(prompts.take(train), quality[train]).predict(prompts.take(test)) - quality[test]
        return float(((left - left.mean(1, keepdims=True)) ** 2).mean())

    assert error(Ridge()) < 0.97 * error(Mean())
