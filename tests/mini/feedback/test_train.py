"""Training of the small feedback network, and its tokenizer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mini.captions import sample_captions
from mini.feedback.examples import VALUES
from mini.feedback.render import ARRAYS, Examples, Row, read_examples, write_examples
from mini.feedback.targets import GRID, THING, UNSEEN, in_patches, targets_of
from mini.feedback.tokens import train_tokenizer, word_ends
from mini.feedback.train import (
    IGNORED,
    SHOWN,
    Inputs,
    Learner,
    as_arrays,
    batch_of,
    choose_threshold,
    inputs_of,
    network_settings,
    shrunk,
    train,
    write,
)
from mini.scenes import SIDE, Object, Scene
from mini.training import checkpoint_path
from promptroute.feedback.checkpoint import load
from promptroute.feedback.predictor import Predictor
from promptroute.feedback.texts import WordTokens, labelled, prompt_words
from tests.mini.helpers import TEXTS, short

SETTINGS = {"see_only": 0.0, "words_only": 0.0, "generated": 0.25, "pool": 2}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    folder = tmp_path_factory.mktemp("examples") / "made"
    write_examples(folder, 24, seed=1)
    return read_examples(folder)


@pytest.fixture(scope="module")
def tokenizer(examples: Examples) -> Any:
    return train_tokenizer(row["text"] for row in examples.rows)


def part(examples: Examples, rows: list[Row], where: slice) -> Examples:
    arrays = {name: getattr(examples, name)[where] for name in ARRAYS}
    return Examples(**arrays, rows=rows[where])


@pytest.fixture(scope="module")
def inputs(examples: Examples, tokenizer: Any) -> Inputs:
    """Twenty rendered scenes, and four that count as generated: of these the alignment alone is known."""
    rows = [
        row if number < 20 else row | {"scores": {"alignment": row["scores"]["alignment"]}}
        for number, row in enumerate(examples.rows)
    ]
    return inputs_of([part(examples, rows, slice(20)), part(examples, rows, slice(20, 24))], tokenizer)


class TestTokens:
    def test_a_piece_a_word(self) -> None:
        texts = [caption.text for caption in sample_captions("narratives", 30, seed=1)]
        tokenizer = train_tokenizer(texts)
        for text in texts:
            words = prompt_words(text)
            assert tokenizer.encode(" ".join(words)).tokens == [*(f"▁{word}" for word in words), "</s>"]

    def test_mark_is_a_piece(self) -> None:
        tokenizer = train_tokenizer(TEXTS)
        written = labelled(["a", "red", "star"], [False, True, False])
        encoded = tokenizer.encode(" ".join(written))
        assert encoded.tokens == ["▁a", "▁red", "_0", "▁star", "</s>"]
        assert tokenizer.decode(encoded.ids) == "a red_0 star"
        assert (tokenizer.token_to_id("<pad>"), tokenizer.token_to_id("</s>")) == (0, 1)

    def test_words_one_by_one(self) -> None:
        """As the network's own reader takes them."""
        tokenizer = train_tokenizer(TEXTS)
        words = ["a", "red_0", "unheard-of", "star"]
        assert WordTokens(tokenizer).ids(words) == tokenizer.encode(" ".join(words)).ids

    def test_unknown_words_are_spelt(self) -> None:
        encoded = train_tokenizer(TEXTS).encode("a zebra star")
        assert encoded.tokens == ["▁a", "▁", *"zebra", "▁star", "</s>"]
        assert word_ends(encoded) == [0, 6, 7]


class TestInputs:
    def test_patches(self) -> None:
        pixels = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
        patches = in_patches(pixels)
        assert np.array_equal(patches[0], pixels[:8, :8].ravel())
        assert np.array_equal(patches[10], pixels[8:16, 16:24].ravel())

    def test_patch_targets(self) -> None:
        item = Object("square", "teal", "large", "striped", 16, 48)
        numbers, covers = targets_of(Scene((item,), "white", "plain"))
        there = 6 * GRID + 1  # x 8 to 16, y 48 to 56
        assert [VALUES[part][number - 1] for part, number in zip(THING, numbers[:, there], strict=True)] == [
            "teal", "square", "large", "striped",
        ]  # fmt: skip
        unknown, _ = targets_of(Scene((replace(item, shape="unknown"),), "white", "plain"))
        assert (unknown[1][unknown[0] > 0] == UNSEEN).all() and (unknown[0] > 0).any()
        assert (numbers[:, 0] == 0).all() and (covers[0] == 0).all() and covers[there].min() == 255

    def test_rows(self, inputs: Inputs, examples: Examples, tokenizer: Any) -> None:
        for number, row in enumerate(examples.rows):
            words = prompt_words(row["text"])
            ids = inputs.tensors["ids"][number, : inputs.tensors["lengths"][number]]
            assert inputs.sizes[number].tolist() == [
                len(ids),
                (inputs.tensors["targets"][number] > 0).sum(),
                len(words),
            ]
            assert tokenizer.decode(ids.tolist()) == " ".join(words)
            written = labelled(words, row["missed"])
            target = inputs.tensors["targets"][number]
            assert tokenizer.decode(target[target > 0].tolist()) == " ".join(written)
            shown = inputs.tensors["shown"][number]
            told = shown[shown != IGNORED].tolist()
            assert {SHOWN[one][0] for one in told} <= {part for part in row["parts"] if part}
            assert (inputs.tensors["missed"][number] != IGNORED).sum() == len(words)

    def test_maps_shrink(self) -> None:
        maps = np.zeros((1, 2, SIDE, SIDE), np.uint8)
        maps[0, 1, :2, :2] = [[255, 0], [0, 255]]
        small = shrunk(maps)
        assert small.shape == (1, 2, 32, 32) and small[0, 1, 0, 0] == 0.5 and small.sum() == 0.5


class TestTraining:
    def test_phases(self, inputs: Inputs, tokenizer: Any) -> None:
        """The ViT learns alone, then stays while T5 learns the words, then everything learns."""
        learner = Learner(network_settings(tokenizer.get_vocab_size()))
        batch = batch_of(inputs, np.arange(6))

        def moved(loss: torch.Tensor) -> set[str]:
            learner.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            names = {name for name, value in learner.named_parameters() if value.grad is not None}
            return {name.removeprefix("network.").split(".")[0] for name in names}

        assert moved(learner.see_loss(batch)) == {"vit", "patch_head", "cover_head", "ground_head"}
        words = {"t5", "visual_token_projection", "shown_head", "missed_head"}
        assert moved(learner.loss(batch, words_only=True)) == words
        heads = {"score_predictor", "heatmap_predictor", "vit", "patch_head", "cover_head", "ground_head"}
        assert moved(learner.loss(batch)) == words | heads

    def test_learns(self, inputs: Inputs, tokenizer: Any) -> None:
        settings = {**short(12), **SETTINGS}
        learner, losses = train(inputs, tokenizer, settings, "cpu")
        assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
        kept = load(checkpoint_path("feedback", settings).parent / "feedback")
        weights = learner.network.visual_token_projection.weight
        torch.testing.assert_close(kept.visual_token_projection.weight, weights, atol=1e-3, rtol=1e-3)

    def test_unknown_truth_teaches_nothing(self, inputs: Inputs, tokenizer: Any) -> None:
        """Of a generated image neither the map of what is implausible nor three of the scores are known."""
        learner = Learner(network_settings(tokenizer.get_vocab_size()))
        learner.loss(batch_of(inputs, np.arange(20, 24))).backward()  # type: ignore[no-untyped-call]
        network = learner.network
        for heads, known in (
            (network.score_predictor, "alignment"),
            (network.heatmap_predictor, "misalignment"),
        ):
            for name, head in heads.named_children():
                moved = any(value.grad is not None and value.grad.any() for value in head.parameters())
                assert moved == (name == known), name

    def test_share_of_generated(self, inputs: Inputs) -> None:
        rows = inputs.rows(np.random.default_rng(0), 40, generated=0.25)
        assert (rows >= 20).sum() == 10 and rows.max() < 24 and (np.diff(rows) >= 0).all()

    def test_written_and_used(self, examples: Examples, tokenizer: Any, tmp_path: Path) -> None:
        torch.manual_seed(0)
        network = Learner(network_settings(tokenizer.get_vocab_size())).network.eval()
        few = part(examples, examples.rows, slice(6))
        threshold = choose_threshold(network, [few, few], tokenizer)
        write(tmp_path / "feedback", network, tokenizer, threshold)
        assert {path.name for path in (tmp_path / "feedback").iterdir()} == {
            "config.json", "model.safetensors", "tokenizer.json",
        }  # fmt: skip
        predictor = Predictor(tmp_path / "feedback")
        assert predictor.threshold == pytest.approx(threshold)
        arrays = as_arrays(few, predictor.tokens, predictor.network.settings)
        batch = arrays.batch(np.arange(6))
        given, own = (
            one.outputs(batch.pixel_values, batch.input_ids, batch.lengths)
            for one in (predictor.network, network)
        )
        np.testing.assert_allclose(given["score_alignment"], own["score_alignment"], atol=2e-3)
        assert given["heatmap_misalignment"].shape == (6, 32, 32)
