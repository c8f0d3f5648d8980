"""The network in use: constrained writing, the predictor, the scorer, the command and its overlay."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from promptroute.core.errors import UserError
from promptroute.core.outputs import words
from promptroute.feedback.predictor import Predictor
from promptroute.feedback.scorer import Rahf, beside_half
from promptroute.feedback.texts import WordTokens, on_spaced_words, prompt_words
from promptroute.feedback.writing import best_threshold, word_probabilities
from promptroute.scorers.base import PromptedImageBatch
from tests.feedback.made import COLOURS, make_examples, make_tokenizer, make_tokens


def square(colour: str, side: int = 64, mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", (side, side), (30, 30, 30))
    image.paste(COLOURS[colour], (side // 4, side // 4, side * 5 // 8, side * 5 // 8))
    return image.convert(mode)


class TestWords:
    @pytest.mark.parametrize(
        ("prompt", "expected"),
        [
            ("a red, square!", ["a", "red", "square"]),
            ('he said: "no";maybe?', ["he", "said", "no", "maybe"]),
            ("well-known (cat's) [box]", ["well-known", "(cat's)", "[box]"]),
            ("a\tb\nc d", ["a", "b", "c", "d"]),
            ("file_0 x_0_0", ["file_0", "x_0_0"]),
            (" ,.? ", []),
            ("", []),
        ],
    )
    def test_split(self, prompt: str, expected: list[str]) -> None:
        assert prompt_words(prompt) == expected

    def test_on_spaced_words(self) -> None:
        prompt = "a red,blue square -- !"
        assert words(prompt) == ["a", "red,blue", "square", "--", "!"]
        values = on_spaced_words(prompt, [0.1, 0.2, 0.9, 0.3, 0.4])
        np.testing.assert_allclose(values, [0.1, 0.9, 0.3, 0.4, 0.0])

    def test_prompt_too_long_or_empty(self) -> None:
        tokens = WordTokens(make_tokenizer())
        with pytest.raises(UserError, match="has 601 tokens; expected at most 512"):
            tokens.ids(["a"] * 600)
        with pytest.raises(UserError, match="holds no word"):
            tokens.ids([])

    def test_text_of_ids(self) -> None:
        tokens = make_tokens()
        assert tokens.text([0, *tokens.ids(["a", "red_0", "square"]), 0, 0]) == "a red_0 square"


class TestWriting:
    def probabilities(self, trained: Any, prompts: list[list[str]], rows: list[int]) -> list[np.ndarray]:
        network, tokens = trained[0], make_tokens()
        examples = make_examples(12, network.settings, 3)
        batch = examples.batch(np.array(rows))
        from promptroute.feedback.texts import pad

        ids, lengths = pad([tokens.ids(words) for words in prompts])
        return word_probabilities(network, network.predict(batch.pixel_values, ids, lengths), prompts, tokens)

    def test_a_probability_for_each_word(self, trained: Any) -> None:
        prompts = [["a", "red", "square"], ["a", "blue", "square", "on", "dark"], ["light"]]
        found = self.probabilities(trained, prompts, [0, 1, 2])
        assert [len(one) for one in found] == [3, 5, 1]
        assert all(((one >= 0) & (one <= 1)).all() for one in found)

    def test_batch_decides_nothing(self, trained: Any) -> None:
        prompts = [["a", "red", "square"], ["a", "blue", "square", "on", "dark"]]
        together = self.probabilities(trained, prompts, [0, 1])
        for row, alone in enumerate(prompts):
            np.testing.assert_allclose(
                self.probabilities(trained, [alone], [row])[0], together[row], atol=1e-4
            )

    def test_unknown_words_and_marks_in_the_prompt(self, trained: Any) -> None:
        found = self.probabilities(trained, [["ж", "red_0", "日本", "square"]], [0])
        assert len(found[0]) == 4 and np.isfinite(found[0]).all()

    def test_ratio_of_both_continuations(self, trained: Any) -> None:
        """By hand for the first word: P(marked, next) against P(plain, next)."""
        network, tokens = trained[0], make_tokens()
        examples = make_examples(4, network.settings, 3)
        batch = examples.batch(np.array([0]))
        given = network.predict(batch.pixel_values, batch.input_ids, batch.lengths)
        prompt = examples.words(0)
        after = tokens.word(prompt[1])[0]
        logs = []
        for word in (prompt[0], f"{prompt[0]}_0"):
            ids = [*tokens.word(word), after]
            with torch.no_grad():
                steps = network.write(given, torch.tensor([[0, *ids[:-1]]])).log_softmax(-1)[0]
            logs.append(sum(float(steps[at, token]) for at, token in enumerate(ids)))
        expected = 1 / (1 + np.exp(logs[0] - logs[1]))
        found = word_probabilities(network, given, [prompt], tokens)[0][0]
        assert found == pytest.approx(expected, abs=1e-5)

    def test_best_threshold(self) -> None:
        probabilities = np.array([0.9, 0.8, 0.3, 0.2])
        assert best_threshold(probabilities, np.array([True, True, False, False])) == pytest.approx(0.55)
        assert best_threshold(probabilities, np.array([True, False, True, False])) == pytest.approx(0.25)
        assert best_threshold(probabilities, np.zeros(4, bool)) == 0.5
        tied = np.array([0.9, 0.5, 0.5, 0.1])
        assert not 0.49 < best_threshold(tied, np.array([True, True, False, False])) < 0.51


class TestPredictor:
    @pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16", "CMYK"])
    def test_modes(self, folder: Path, mode: str) -> None:
        image = square("red")
        image = (
            Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
            if mode == "I;16"
            else image.convert(mode)
        )
        found = Predictor(folder).predict([image], ["a red square on dark"])[0]
        assert set(found.scores) == {"plausibility", "alignment", "aesthetics", "overall"}
        assert all(0 <= value <= 1 for value in found.scores.values())
        assert found.heatmaps["misalignment"].shape == (16, 16)

    def test_tells_missed_words(self, folder: Path) -> None:
        predictor = Predictor(folder)
        right, wrong = predictor.predict(
            [square("red")] * 2, ["a red square on dark", "a blue square on dark"]
        )
        assert wrong.probabilities.argmax() == 1 and wrong.probabilities[1] > predictor.threshold == 0.4
        assert right.probabilities.max() < predictor.threshold
        assert wrong.heatmaps["misalignment"].max() > 2 * right.heatmaps["misalignment"].max()

    @pytest.mark.parametrize(
        ("image", "prompt", "said"),
        [
            (Image.new("RGB", (1, 1)), "a red square", r"1 × 1 pixels; expected at least 8"),
            (Image.new("RGB", (900, 4)), "a red square", r"900 × 4 pixels"),
            (Image.new("RGB", (64, 64)), "", "holds no word"),
            (Image.new("RGB", (64, 64)), "?!", "holds no word"),
            (Image.new("RGB", (64, 64)), "a " * 600, "has 601 tokens"),
        ],
    )
    def test_bad_input(self, folder: Path, image: Image.Image, prompt: str, said: str) -> None:
        with pytest.raises(UserError, match=said):
            Predictor(folder).predict([image], [prompt])

    def test_no_network(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="holds no network of rich feedback"):
            Predictor(tmp_path)
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(UserError, match="has no section network"):
            Predictor(tmp_path)
        (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
        with pytest.raises(UserError, match="no such tokenizer"):
            Predictor(tmp_path)
        (tmp_path / "tokenizer.json").write_text("{}")
        with pytest.raises(UserError, match=r"not a tokenizer\.json that can be read"):
            Predictor(tmp_path)

    def test_tokenizer_of_another_network(self, folder: Path, tmp_path: Path) -> None:
        tokenizer = make_tokenizer()
        tokenizer.add_tokens([f"more{at}" for at in range(20)])
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(UserError, match="the tokenizer knows 34 tokens, the network 16"):
            _ = Predictor(folder, tokenizer=tmp_path / "tokenizer.json").network


class TestScorer:
    def test_outputs(self, folder: Path) -> None:
        scorer = Rahf(checkpoint=str(folder))
        prompts = ["a blue square, on dark !", "a red square"]
        given = scorer.score(PromptedImageBatch([square("red"), square("red", 32)], prompts))
        assert set(given) == {output.name for output in scorer.outputs}
        assert [len(one) for one in given["missed"]] == [6, 3] and given["missed"][0][1] > 0.4
        assert given["overall"].shape == (2,) and given["misalignment"][1].shape == (16, 16)

    def test_precision(self, folder: Path) -> None:
        batch = PromptedImageBatch([square("red"), square("blue")], ["a red square", "a green square"])
        full, half = (Rahf(checkpoint=str(folder), dtype=dtype) for dtype in ("auto", "bfloat16"))
        one, other = full.score(batch), half.score(batch)
        for name in ("plausibility", "alignment"):
            np.testing.assert_allclose(one[name], other[name], atol=0.05)
        assert not np.array_equal(one["alignment"], other["alignment"])
        assert "precision" not in full.weights() and half.weights()["precision"] == "bfloat16"
        assert Rahf(checkpoint=str(folder), device="cuda").weights() == half.weights()

    def test_half_is_the_threshold(self) -> None:
        found = beside_half(np.array([0.0, 0.1, 0.2, 0.5, 1.0]), 0.2)
        assert found[[0, 2, 4]].tolist() == [0, 0.5, 1]
        assert found[1] == pytest.approx(4 / 13) and found[3] == pytest.approx(0.8)  # odds 1/9 and 1, times 4
        assert beside_half(np.array([0.0, 0.3]), 0.0).tolist() == [0, pytest.approx(1, abs=1e-5)]

    def test_weights_decide_the_fingerprint(self, folder: Path, tmp_path: Path) -> None:
        import shutil

        shutil.copytree(folder, tmp_path / "same")
        first, second = Rahf(checkpoint=str(folder)), Rahf(checkpoint=str(tmp_path / "same"))
        assert first.fingerprint() == second.fingerprint()
        config = tmp_path / "same" / "config.json"
        config.write_text(config.read_text().replace('"threshold": 0.4', '"threshold": 0.5'))
        assert first.fingerprint() != Rahf(checkpoint=str(tmp_path / "same")).fingerprint()

    def test_shards(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Scores, maps and marks of a model's images, as the stage writes them."""
        import io

        from promptroute.core.image import Image as Row
        from promptroute.io.images import write_shard
        from promptroute.io.scores import read_details
        from promptroute.runtime.executors import InProcess
        from promptroute.scorers.run import score_model

        monkeypatch.chdir(tmp_path)
        data = io.BytesIO()
        square("red").save(data, "PNG")
        rows = [Row("p0", "a blue square", "m", 0, "ok", None, 64, 64, data.getvalue())]
        (tmp_path / "data/images/m").mkdir(parents=True)
        write_shard("data/images/m/part-00000.parquet", rows)
        scores = score_model(Rahf(checkpoint=str(folder)), "rahf", "m", InProcess(), Path("out"))
        assert set(scores["output"]) == {"plausibility", "aesthetics", "alignment", "overall"}
        marks = read_details("out/marks-00000.parquet")
        assert (
            list(marks[0].words) == ["a", "blue", "square"]
            and len(read_details("out/maps-00000.parquet")) == 2
        )
        assert len(pd.read_parquet("out/scores.parquet")) == 4


class TestCommand:
    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        square("red").save(tmp_path / "red.png")
        return tmp_path / "red.png"

    def run(self, *arguments: object) -> None:
        from promptroute.cli.main import main

        with pytest.raises(SystemExit) as ended:
            main(["feedback", *map(str, arguments), "--device", "cpu"])
        if ended.value.code not in (0, None):
            raise AssertionError(ended.value.code)

    def test_json_and_overlay(self, folder: Path, image: Path, capsys: Any) -> None:
        out = image.parent / "overlay.png"
        self.run(image, "--prompt", "a blue square on dark", "-n", folder, "--json", "--out", out)
        said = json.loads(capsys.readouterr().out)
        assert [one["word"] for one in said["words"] if one["missed"]] == ["blue"]
        assert set(said["scores"]) == {"plausibility", "alignment", "aesthetics", "overall"}
        x, y = said["maps"]["misalignment"]["at"]
        assert 0.2 < x < 0.7 and 0.2 < y < 0.7, "the highest place lies in the square"
        page = np.asarray(Image.open(out).convert("RGB")).astype(int)
        assert page.shape[1] > 3 * 384
        blue = (page[:, :, 2] > 150) & (page[:, :, 0] < 120) & (page[:, :, 1] < 140)
        columns = np.flatnonzero(blue.any(axis=0))
        assert columns.min() > 2 * 384, "only the panel of the misalignment map is tinted blue"

    def test_text(self, folder: Path, image: Path, capsys: Any) -> None:
        self.run(image, "-p", "a blue square on dark", "-n", folder)
        said = capsys.readouterr().out
        assert "a [blue] square on dark" in said and "plausibility" in said

    @pytest.mark.parametrize(
        ("content", "prompt", "said"),
        [
            (None, "a red square", "no such file or folder; check the path"),
            (None, "a red \udcff", "is not valid Unicode text"),
            (None, "\u200b", "shows nothing"),
            (b"nothing", "a red square", "can't be read as an image"),
            (b"", "a red square", "can't be read as an image"),
            ("cut", "a red square", "can't be read as an image"),
            ("small", "a red square", "the image is 1 × 1 pixels"),
            ("fine", " ", "is empty"),
            ("fine", "a " * 600, "has 601 tokens"),
        ],
    )
    def test_bad_input(
        self, folder: Path, tmp_path: Path, content: Any, prompt: str, said: str, capsys: Any
    ) -> None:
        path = tmp_path / "x.png"
        if content in ("cut", "fine"):
            square("red").save(path)
            path.write_bytes(path.read_bytes()[: -60 if content == "cut" else None])
        elif content == "small":
            Image.new("RGB", (1, 1)).save(path)
        elif content is not None:
            path.write_bytes(content)
        with pytest.raises(AssertionError):
            self.run(path, "-p", prompt, "-n", folder)
        error = capsys.readouterr().err
        assert said in error and error.startswith("error: ") and error.count("\n") == 1
