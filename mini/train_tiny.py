"""Distil the tiny autoencoder that replaces the latent diffusion's own: params `tiny` → mini/pipeline/data/weights/tiny/.

Like the published tiny autoencoders, it shares the larger one's latents, already scaled, so a pipeline takes it as `vae`
without any other change.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mini.render_scenes import ARRANGED, read_scenes
from mini.settings import WEIGHTS, load_settings
from mini.train_vae import FOLDER as VAE
from mini.train_vae import LATENTS, NOISE, reconstruction_loss
from mini.training import Step, compute_device, finish, fit, to_tensor
from promptroute.runtime.stage import run_stage

FOLDER = WEIGHTS / "tiny"


def new_tiny(latents: int = LATENTS) -> Any:
    """Make an untrained `AutoencoderTiny`: 64 × 64 pixels ↔ 16 × 16 latents."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16),
        decoder_block_out_channels=(16, 16, 16),
        latent_channels=latents,
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )


def train(images: Any, vae: Any, settings: dict[str, Any], device: str) -> tuple[Any, list[float]]:
    """Distil an `AutoencoderKL` on images, uint8 [n, 64, 64, 3]; return the tiny one and each step's loss."""
    torch.manual_seed(settings["seed"])
    tiny, vae = new_tiny(vae.config.latent_channels).to(device), vae.to(device).eval()

    def loss_of(step: Step) -> Tensor:
        target = to_tensor(images[step.rows(len(images), settings["batch"])], device)
        with torch.no_grad():
            latents = vae.encode(target).latent_dist.mean * vae.config.scaling_factor
        noisy = latents + NOISE * step.normal(latents.shape, device)
        output = tiny.decode(noisy).sample
        return reconstruction_loss(output, target) + 0.1 * F.mse_loss(tiny.encode(target).latents, latents)

    return tiny, fit("tiny", tiny, loss_of, settings)


def main() -> str:
    from diffusers import AutoencoderKL

    settings, device = load_settings("tiny"), compute_device()
    images, _ = read_scenes(ARRANGED)
    tiny, losses = train(images, AutoencoderKL.from_pretrained(VAE), settings, device)
    return finish("tiny", settings, FOLDER, tiny.half().cpu().save_pretrained, losses)


if __name__ == "__main__":
    run_stage(main)
