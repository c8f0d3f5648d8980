"""The augmented variant of the small network: same ViT and T5, new heads; it learns in a few steps."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mini.feedback.augmented import augmented, constant, first
from mini.feedback.render import read_examples, write_examples
from mini.feedback.tokens import train_tokenizer
from mini.feedback.train import as_arrays
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.texts import WordTokens
from promptroute.feedback.training import TrainingSettings, train
from tests.feedback.made import make_examples, settings


def test_same_encoders_new_heads() -> None:
    network = FeedbackNetwork(settings())
    made = augmented(network)
    assert made.settings.variant == "augmented"
    assert made.t5.shared.weight.equal(network.t5.shared.weight)
    assert made.visual_token_projection.weight.equal(network.visual_token_projection.weight)
    heads = {name for name, _ in made.named_parameters() if "_predictor." in name}
    assert heads and not heads & set(network.state_dict())


def test_means_by_hand() -> None:
    learned, judged = (make_examples(n, settings()) for n in (3, 2))
    learned.scores[:] = [[0.0] * 4, [0.5] * 4, [1.0] * 4]
    judged.scores[:] = [[0.5] * 4, [0.9] * 4]
    found = constant(learned, judged)
    assert np.isclose(found["score/overall/mse"], 0.08) and "heatmap/misalignment/mse" in found


def test_learns(tmp_path: Path) -> None:
    write_examples(tmp_path / "made", 8, seed=1)
    examples = first(read_examples(tmp_path / "made"), 6)
    tokens = WordTokens(train_tokenizer(row["text"] for row in examples.rows))
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "image_side": 64,
        "patch_side": 16,
        "vocabulary": tokens.tokenizer.get_vocab_size(),
    }
    network = augmented(FeedbackNetwork(settings(**sizes, doubling_widths=[8, 8, 8])))
    arrays = as_arrays(examples, tokens, network.settings)
    plan = TrainingSettings(
        epochs=8, batch_size=6, learning_rate=3e-3, warm_up=0, heatmap_loss="cross-entropy"
    )
    history = train(network, plan, arrays, tmp_path / "training")
    assert history.epochs[-1]["loss/loss"] < 0.8 * history.epochs[0]["loss/loss"]
