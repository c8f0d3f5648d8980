"""Figures of the small feedback network, on held-out scenes and on generated images."""

import numpy as np
import pandas as pd
import pytest

from mini.feedback.measure import BARS, as_markdown, map_figures
from mini.feedback.transfer import as_markdown as transfer_markdown
from mini.feedback.transfer import figures, intervals, known_captions
from promptroute.feedback.texts import prompt_words


def table() -> pd.DataFrame:
    """Four images of two prompts: five missed words, of which three are marked, and one that isn't missed."""
    return pd.DataFrame(
        {
            "prompt_id": ["a", "a", "b", "b"],
            "missed": [(True, False), (True, True), (False, True), (True, False)],
            "probability": [[0.9, 0.1], [0.8, 0.2], [0.6, 0.7], [0.3, 0.0]],
            "share": [0.5, 0.0, 0.75, 1.0],
            "rahf": [0.2, 0.1, 0.3, 0.4],
            "clip": [30.0, 40.0, 20.0, 10.0],
        }
    )


class TestTransfer:
    def test_by_hand(self) -> None:
        found = figures(table())
        assert found["word precision"] == pytest.approx(3 / 4)
        assert found["word recall"] == pytest.approx(3 / 5)
        assert found["word F1"] == pytest.approx(6 / 9)
        assert found["word F1, every word marked"] == pytest.approx(10 / 13)
        assert found["rank correlation of rahf.alignment"] == pytest.approx(1)
        assert found["rank correlation of clip.score"] == pytest.approx(-1)
        assert found["rahf.alignment less clip.score"] == pytest.approx(2)

    def test_prompts_are_resampled_whole(self) -> None:
        """Only two prompts: a resample holds one of them alone, or both."""
        alone = [len(table()[table()["prompt_id"] == name]) for name in "ab"]
        seen: set[int] = set()

        def statistic(rows: pd.DataFrame) -> dict[str, float]:
            seen.add(int((rows["prompt_id"] == "a").sum()))
            return {"mean": float(rows["share"].mean())}

        found = intervals(table(), statistic)["mean"]
        assert seen == {0, alone[0], 2 * alone[0]}
        assert found == {"estimate": 0.5625, "low": 0.25, "high": 0.875}

    def test_markdown(self) -> None:
        report = {"all models": {"word F1": {"estimate": 0.5, "low": 0.4, "high": 0.6}}}
        assert "| word F1 | 0.500 [0.400, 0.600] |" in transfer_markdown(report, 2880, 240)

    def test_captions_are_the_prompts(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = request.config.rootpath
        monkeypatch.chdir(root)
        captions = known_captions()
        prompts = pd.read_csv(root / "mini" / "prompts" / "counts.csv")["prompt"]
        assert set(prompts) <= set(captions)
        caption = captions[prompts[0]]
        assert caption.spans and len(prompt_words(caption.text)) >= len(caption.spans)


class TestHeldOut:
    def test_maps(self) -> None:
        truth = np.zeros((3, 4, 4))
        truth[0, 0], truth[1, 3] = 1, 0.5
        perfect = map_figures(truth, truth)
        assert perfect["cc"] == pytest.approx(1) and perfect["auc_judd"] == 1
        nothing = map_figures(np.full((3, 4, 4), 0.3), truth)
        assert nothing["cc"] == pytest.approx(0, abs=1e-6) and nothing["auc_judd"] == 0.5

    def test_markdown(self) -> None:
        report = {
            "n": 10,
            "parameters": 590_000,
            "network": {**dict.fromkeys(BARS, 0.7), "words/auc": 0.9},
            "nothing": {"words/f1, all marked": 0.2},
            "checker": {"words/f1": 0.95},
            "people": {"score/overall/plcc": 0.9},
            "network, judged by people": {"score/overall/plcc": 0.6},
            "words by part": {"colour": 0.7},
            "bars": {name: {"at least": bar, "found": 0.7} for name, bar in BARS.items()},
        }
        text = as_markdown(report)
        assert "| missed words: F1 | 0.700 | 0.200 | 0.950 | – | – |" in text
        assert "| overall: plcc | – | – | – | 0.900 | 0.600 |" in text
        assert "| words/f1 | 0.8 | 0.700 | no |" in text
        assert "| heatmap/misalignment/cc | 0.6 | 0.700 | yes |" in text
