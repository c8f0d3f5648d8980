"""The latent diffusion and its student."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mini import train_clip, train_diffusion, train_student, train_tiny, train_vae
from mini.inputs import TextInputs
from tests.mini.helpers import TEXTS, call, learns, short


@pytest.mark.slow
def test_learn_and_load(vae: Any, texts: TextInputs, clip_folder: Path, tmp_path: Path) -> None:
    shade = torch.randn(len(TEXTS), 1, 1, 1, generator=torch.Generator().manual_seed(0))
    latents = shade.expand(-1, train_vae.LATENTS, train_vae.SIDE, train_vae.SIDE)  # quickly learned
    unet = learns(
        lambda rate: train_diffusion.train(latents, texts, short(50, learning_rate=rate), "cpu"), 2e-3
    )
    encoder, tokenizer = train_clip.text_encoder(clip_folder)
    scheduler = train_diffusion.new_scheduler()
    pipe = train_diffusion.pipeline(vae, encoder, tokenizer, unet, scheduler)
    pipe.save_pretrained(tmp_path / "diffusion")
    image = call(tmp_path / "diffusion", num_inference_steps=3)
    assert image.shape == (64, 64, 3)
    np.testing.assert_array_equal(image, call(tmp_path / "diffusion", num_inference_steps=3))

    from diffusers import AutoencoderTiny

    AutoencoderTiny.save_pretrained(train_tiny.new_tiny(), tmp_path / "tiny")
    pipe.vae = AutoencoderTiny.from_pretrained(tmp_path / "tiny", dtype=torch.float32)
    pipe.to(torch.float32)("a star", num_inference_steps=2)

    same, _ = train_diffusion.train(
        latents, texts, short(2, learning_rate=0.0), "cpu", copy.deepcopy(unet), "tuned"
    )
    for tuned, trained in zip(same.parameters(), unet.parameters(), strict=True):
        torch.testing.assert_close(tuned, trained, msg="training on starts from what was trained")

    # Untrained, it has a path to be held to as well, and is the same in every run: fifty steps carry last bits far.
    torch.manual_seed(0)
    teacher = train_diffusion.new_unet(train_vae.LATENTS, texts.states.shape[2])
    student = learns(
        lambda rate: train_student.train(
            teacher, scheduler, latents, texts, short(40, guidance=2.0, learning_rate=rate), "cpu"
        ),
        2e-4,
    )
    pipe = train_diffusion.pipeline(vae, encoder, tokenizer, student, train_student.new_scheduler(scheduler))
    pipe.save_pretrained(tmp_path / "student")
    assert call(tmp_path / "student", num_inference_steps=2, guidance_scale=1.0).shape == (64, 64, 3)


def test_consistency_boundary() -> None:
    noisy, clean = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    there = train_student.consistent(clean, noisy, torch.tensor([0, 999]))
    torch.testing.assert_close(there[0], noisy[0])
    torch.testing.assert_close(there[1], clean[1], rtol=1e-3, atol=1e-3)


def test_trajectory_end() -> None:
    scheduler = train_diffusion.new_scheduler()
    clean, noise, times = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([10, 500, 999])
    velocity = scheduler.get_velocity(clean, noise, times)
    model = type("Knowing", (), {"__call__": lambda *_: type("Out", (), {"sample": velocity})})()
    noisy = scheduler.add_noise(clean, noise, times)
    end, noise_end = train_student.trajectory_end(
        model, noisy, times, torch.empty(0), scheduler.alphas_cumprod
    )
    torch.testing.assert_close(end, clean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(noise_end, noise, rtol=1e-4, atol=1e-4)
