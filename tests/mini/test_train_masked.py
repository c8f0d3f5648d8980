"""The masked-token model."""

from pathlib import Path
from typing import Any

import torch

from mini import train_clip, train_masked, train_vae, train_vq
from mini.inputs import embed_texts
from tests.mini.helpers import TEXTS, call, falls, short


def test_learns_and_loads(vae: Any, clip_folder: Path, tmp_path: Path) -> None:
    encoder, tokenizer = train_clip.text_encoder(clip_folder)
    vq = train_vq.new_vq(16)
    tokens = (
        torch.arange(len(TEXTS))[:, None, None].expand(-1, train_vae.SIDE, train_vae.SIDE) % 16
    )  # one token an image: quickly learned
    inputs = embed_texts(encoder, tokenizer, TEXTS, "cpu", layer=-2)
    transformer, losses = train_masked.train(tokens, inputs, 16, short(30, learning_rate=5e-3), "cpu")
    assert falls(losses)
    before = vq.decode(torch.zeros(1, train_vae.LATENTS, train_vae.SIDE, train_vae.SIDE)).sample
    train_masked.pipeline(vq, encoder, tokenizer, transformer).save_pretrained(tmp_path)
    assert call(tmp_path, num_inference_steps=3).shape == (64, 64, 3)
    after = vq.float().decode(torch.zeros(1, train_vae.LATENTS, train_vae.SIDE, train_vae.SIDE)).sample
    torch.testing.assert_close(after, before / 2 + 0.5, rtol=0.02, atol=0.02)
