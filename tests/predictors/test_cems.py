"""CEMS, fine-tuned whole."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.cems import Cems
from promptroute.predictors.folder import load_predictor, save_predictor


def toy(n: int, seed: int) -> tuple[PromptBatch, np.ndarray]:
    """Prompts that start with the word that says which of two models is better."""
    random = np.random.default_rng(seed)
    best = random.integers(0, 2, n)
    texts = [f"{('red', 'zoo')[b]} {' '.join(random.choice(['cat', 'dog', 'sun'], 3))}" for b in best]
    return PromptBatch(texts), np.eye(2)[best]


def test_learns(tiny_clip: Path, tmp_path: Path) -> None:
    train, validation, (test, quality) = toy(160, 0), toy(40, 1), toy(60, 2)
    predictor = Cems(encoder=str(tiny_clip), epochs=6, batch_size=16, learning_rate=3e-3).fit(
        *train, validation
    )
    predicted = predictor.predict(test)
    assert (predicted.argmax(1) == quality.argmax(1)).mean() > 0.95
    save_predictor(predictor, tmp_path / "saved")
    np.testing.assert_array_equal(load_predictor(tmp_path / "saved").predict(test), predicted)


def test_whole_encoder_moves(tiny_clip: Path) -> None:
    from transformers import CLIPTextModel

    predictor = Cems(encoder=str(tiny_clip), epochs=1, learning_rate=1e-3).fit(*toy(64, 0), toy(32, 1))
    before = dict(CLIPTextModel.from_pretrained(tiny_clip).named_parameters())
    after = dict(predictor._network["encoder"].named_parameters())
    assert before.keys() == after.keys()
    # Positions beyond the longest prompt see no gradient, but AdamW decays them too: every tensor moves.
    assert all((before[name] != after[name]).any() for name in before)


def test_paper_settings() -> None:
    paper = Cems()
    assert paper.encoder == "openai/clip-vit-base-patch16"
    assert (paper.epochs, paper.batch_size, paper.learning_rate, paper.weight_decay) == (10, 32, 6.4e-6, 0.1)
    assert (paper.max_length, paper.device, paper.dtype) == (77, "cpu", "float32")


def test_long_prompts(tiny_clip: Path) -> None:
    predictor = Cems(encoder=str(tiny_clip), epochs=1, learning_rate=1e-3).fit(*toy(32, 0), toy(16, 1))
    long = "red " * 76
    alone = predictor.predict(PromptBatch([long]))
    np.testing.assert_array_equal(predictor.predict(PromptBatch([long + "zoo zoo zoo"])), alone)
    short = predictor.predict(PromptBatch(["zoo"]))
    np.testing.assert_allclose(
        predictor.predict(PromptBatch(["zoo", long])), np.vstack([short, alone]), atol=1e-6
    )


def test_mixed_precision(tiny_clip: Path) -> None:
    whole = Cems(encoder=str(tiny_clip), epochs=1, learning_rate=1e-3).fit(*toy(32, 0), toy(16, 1))
    predicted = whole.predict(toy(8, 2)[0])
    mixed = whole.model_copy(update={"dtype": "bfloat16"}).predict(toy(8, 2)[0])
    np.testing.assert_allclose(mixed, predicted, atol=0.02)
    assert (mixed != predicted).any()


def test_random_state(tiny_clip: Path) -> None:
    import torch

    torch.manual_seed(5)
    state = torch.get_rng_state()
    Cems(encoder=str(tiny_clip), epochs=1).fit(*toy(32, 0), toy(16, 1))
    assert torch.equal(torch.get_rng_state(), state)


def test_ranges(tmp_path: Path) -> None:
    for options, message in [
        ({"dtype": "float16"}, "expected 'float32' or 'bfloat16'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"max_length": 2}, "max_length is 2"),
    ]:
        with pytest.raises(UserError, match=message):
            Cems(**options)
    with pytest.raises(UserError, match=r"absent can't be loaded.*give the path of a folder"):
        Cems(encoder=str(tmp_path / "absent")).fit(*toy(8, 0), toy(8, 1))


def test_missing_tokenizer(tiny_clip: Path, tmp_path: Path) -> None:
    """Such a tokenizer loads without complaint, and makes the same token of every word."""
    shutil.copytree(tiny_clip, tmp_path / "clip", ignore=shutil.ignore_patterns("tokenizer.json"))
    with pytest.raises(
        UserError, match=r"its tokenizer has 2 tokens, the model 80.*give the path of a folder"
    ):
        Cems(encoder=str(tmp_path / "clip")).fit(*toy(8, 0), toy(8, 1))


def test_missing_weights(tiny_clip: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_clip, tmp_path / "clip")
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    lost = next(name for name in weights if "final_layer_norm.weight" in name)
    save_file(
        {k: v for k, v in weights.items() if k != lost},
        tmp_path / "clip" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UserError, match=r"the weights lack .*final_layer_norm"):
        Cems(encoder=str(tmp_path / "clip")).fit(*toy(8, 0), toy(8, 1))


def test_missing_folder(tiny_clip: Path, tmp_path: Path) -> None:
    save_predictor(Cems(encoder=str(tiny_clip), epochs=1).fit(*toy(16, 0), toy(8, 1)), tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "encoder")
    with pytest.raises(UserError, match=r"encoder/.* is missing; train it again"):
        load_predictor(tmp_path / "saved")
