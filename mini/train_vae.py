"""Train the autoencoder of the latent diffusion: params `vae` → mini/pipeline/data/vae/."""

from typing import Any

import torch
from torch import Tensor

from mini.render_scenes import FREE, read_scenes
from mini.settings import DATA, load_settings
from mini.training import Step, compute_device, finish, fit, to_tensor
from promptroute.runtime.stage import run_stage

FOLDER = DATA / "vae"
CHANNELS = (16, 32, 64)  # of its three levels, from 64 × 64 pixels to 16 × 16 latents
SIDE = 16  # of a latent, along each axis
LATENTS = 4  # channels of a latent
LAYOUT: dict[str, Any] = {  # shared by the autoencoders with continuous latents and with tokens
    "block_out_channels": CHANNELS,
    "down_block_types": ("DownEncoderBlock2D",) * len(CHANNELS),
    "up_block_types": ("UpDecoderBlock2D",) * len(CHANNELS),
    "latent_channels": LATENTS,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 64,
    "mid_block_add_attention": False,
}
SPREAD = 1e-3  # weight of the latents' squared size, which keeps them near the noise's normal distribution
NOISE = 0.05  # added to latents in training, so that the decoder is robust to small errors
# Training starts on quarters of images: most of an image is background.
CROPPED, CROP = 0.9, 32  # share of the steps, side in pixels
GRID = 8  # pixels; crops start on this grid, with which the textures are aligned


def new_vae() -> Any:
    """Make an untrained `AutoencoderKL`: 64 × 64 pixels ↔ `SIDE` × `SIDE` × `LATENTS`."""
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL(**LAYOUT)
    for name, weight in vae.named_parameters():
        if ".conv2." in name:  # residual blocks start as the identity, so colours pass from the start
            torch.nn.init.zeros_(weight)
    return vae


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the squared and absolute error, weighted by each pixel's distance from the image's median.

    Most pixels are background; without the weight, a network learns only these for a long time.
    """
    median = target.flatten(2).median(dim=2).values[:, :, None, None]
    weight = 1 + 6 * (target - median).abs().mean(dim=1, keepdim=True)
    error = output - target
    return (weight * (error.square() + 0.3 * error.abs())).mean()


def cropped(images: Tensor, step: Step) -> Tensor:
    """Crop a random quarter of each image: [n, 3, h, w] → [n, 3, CROP, CROP]."""
    height, width = images.shape[2:]
    tops = GRID * step.rng.integers(0, (height - CROP) // GRID + 1, len(images))
    lefts = GRID * step.rng.integers(0, (width - CROP) // GRID + 1, len(images))
    return torch.stack(
        [
            image[:, top : top + CROP, left : left + CROP]
            for image, top, left in zip(images, tops, lefts, strict=True)
        ]
    )


def train(images: Any, settings: dict[str, Any], device: str) -> tuple[Any, list[float]]:
    """Train on images, uint8 [n, 64, 64, 3]; return the autoencoder and the loss of each step."""
    torch.manual_seed(settings["seed"])
    vae = new_vae().to(device)

    def loss_of(step: Step) -> Tensor:
        target = to_tensor(images[step.rows(len(images), settings["batch"])], device)
        if step.progress < CROPPED:
            target = cropped(target, step)
        latent = vae.encode(target).latent_dist
        output = vae.decode(latent.mean + NOISE * step.normal(latent.mean.shape, device)).sample
        return reconstruction_loss(output, target) + SPREAD * latent.mean.square().mean()

    losses = fit("vae", vae, loss_of, settings)
    with torch.no_grad():
        sample = vae.encode(to_tensor(images[:256], device)).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / sample.std().item(), 4))
    return vae, losses


def main() -> str:
    settings = load_settings("vae")
    images, _ = read_scenes(FREE)
    vae, losses = train(images, settings, compute_device())
    return finish("vae", settings, FOLDER, vae.save_pretrained, losses)


if __name__ == "__main__":
    run_stage(main)
