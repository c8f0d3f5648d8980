"""Train the autoencoder of the latent diffusion: params `vae` → data/mini/vae/."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mini.draw_scenes import UNTIDY, read_scenes
from mini.settings import load_settings
from mini.training import Step, compute_device, finish, fit, to_tensor
from promptroute.runtime.stage import run_stage

FOLDER = Path("data/mini/vae")
CHANNELS = (16, 32, 64)  # of its three levels, from 64 × 64 pixels to 16 × 16 latents
SIDE = 16  # latents along each axis
LATENTS = 4  # channels of a latent
LAYOUT: dict[str, Any] = {  # of an autoencoder, whether its latents are numbers or tokens
    "block_out_channels": CHANNELS,
    "down_block_types": ("DownEncoderBlock2D",) * len(CHANNELS),
    "up_block_types": ("UpDecoderBlock2D",) * len(CHANNELS),
    "latent_channels": LATENTS,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 64,
    "mid_block_add_attention": False,
}
SPREAD = 1e-3  # weight of the latents' size, which keeps them near the normal distribution that noise has
NOISE = 0.05  # added to latents in training, so that the decoder forgives small errors
# The first part of the training sees quarters of pictures, four times as many: most of a picture is background.
CROPPED, CROP = 0.9, 32  # share of the steps, side in pixels
GRID = 8  # crops start on this grid, to which the textures keep


def new_vae() -> Any:
    """An untrained `AutoencoderKL`: 64 × 64 pixels ↔ `SIDE` × `SIDE` × `LATENTS`."""
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL(**LAYOUT)
    for name, weight in vae.named_parameters():
        if ".conv2." in name:  # a residual block starts as nothing, which lets colours through at once
            torch.nn.init.zeros_(weight)
    return vae


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Squared and absolute error, where a pixel counts for more the more it differs from the picture's median.

    Most pixels are background; without the weight, a network is content with it for a long time.
    """
    median = wanted.flatten(2).median(dim=2).values[:, :, None, None]
    weight = 1 + 6 * (wanted - median).abs().mean(dim=1, keepdim=True)
    error = made - wanted
    return (weight * (error.square() + 0.3 * error.abs())).mean()


def cropped(pictures: Tensor, step: Step) -> Tensor:
    """A quarter of each picture: [n, 3, h, w] → [n, 3, CROP, CROP], at places that the step draws."""
    height, width = pictures.shape[2:]
    tops = GRID * step.rng.integers(0, (height - CROP) // GRID + 1, len(pictures))
    lefts = GRID * step.rng.integers(0, (width - CROP) // GRID + 1, len(pictures))
    return torch.stack(
        [
            picture[:, top : top + CROP, left : left + CROP]
            for picture, top, left in zip(pictures, tops, lefts, strict=True)
        ]
    )


def train(images: Any, settings: dict[str, Any], device: str) -> tuple[Any, list[float]]:
    """Train on pictures, uint8 [n, 64, 64, 3]; returns the autoencoder and the loss of each step."""
    torch.manual_seed(settings["seed"])
    vae = new_vae().to(device)

    def loss_of(step: Step) -> Tensor:
        wanted = to_tensor(images[step.rows(len(images), settings["batch"])], device)
        if step.progress < CROPPED:
            wanted = cropped(wanted, step)
        latent = vae.encode(wanted).latent_dist
        made = vae.decode(latent.mean + NOISE * step.normal(latent.mean.shape, device)).sample
        return reconstruction_loss(made, wanted) + SPREAD * latent.mean.square().mean()

    losses = fit("vae", vae, loss_of, settings)
    with torch.no_grad():
        sample = vae.encode(to_tensor(images[:256], device)).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / sample.std().item(), 4))
    return vae, losses


def main() -> str:
    settings = load_settings("vae")
    images, _ = read_scenes(UNTIDY)
    vae, losses = train(images, settings, compute_device())
    return finish("vae", settings, FOLDER, vae.save_pretrained, losses)


if __name__ == "__main__":
    run_stage(main)
