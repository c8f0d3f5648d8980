"""The autoencoder of the latent diffusion."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mini import train_vae
from mini.training import Step, to_tensor


def test_latents_have_unit_size(vae: Any, images: NDArray[np.uint8]) -> None:
    with torch.no_grad():
        latents = vae.encode(to_tensor(images)).latent_dist.mean * vae.config.scaling_factor
    assert latents.shape[1:] == (train_vae.LATENTS, train_vae.SIDE, train_vae.SIDE)
    assert latents.std() == pytest.approx(1, abs=0.02)


def test_crops_keep_to_grid(images: NDArray[np.uint8]) -> None:
    whole = to_tensor(images[:6])
    for number in range(5):
        for image, crop in zip(whole, train_vae.cropped(whole, Step(number, 10, 0)), strict=True):
            places = [
                (top, left)
                for top in range(0, 33, train_vae.GRID)
                for left in range(0, 33, train_vae.GRID)
                if torch.equal(image[:, top : top + 32, left : left + 32], crop)
            ]
            assert places
