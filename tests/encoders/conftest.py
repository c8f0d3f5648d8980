"""A CLIP text model small enough to build in a test, with a tokenizer of its own."""

import string
from pathlib import Path

import pytest


def make_tiny_clip(folder: Path, whole: bool = False) -> Path:
    """Save a random CLIP text model (32 wide, 2 layers) and a BPE tokenizer of single letters and two merges.

    Args:
        folder: where to.
        whole: save a CLIP model with an image side too, as the hub's checkpoints are.
    """
    import torch
    from transformers import (
        CLIPConfig,
        CLIPModel,
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTokenizer,
        CLIPVisionConfig,
    )

    letters = string.ascii_lowercase + string.digits + ",."
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "re", "red</w>"]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = CLIPTokenizer(vocab=ids, merges=[("r", "e"), ("re", "d</w>")], model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=len(ids),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=16,
        bos_token_id=ids["<|startoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if whole:
            vision = CLIPVisionConfig(
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=1,
                image_size=32,
            )
            CLIPModel(
                CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16)
            ).save_pretrained(folder)
        else:
            CLIPTextModel(text).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny CLIP text model and its tokenizer."""
    return make_tiny_clip(tmp_path_factory.mktemp("tiny-clip") / "model")


@pytest.fixture(scope="session")
def whole_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny CLIP model with an image side."""
    return make_tiny_clip(tmp_path_factory.mktemp("whole-clip") / "model", whole=True)
