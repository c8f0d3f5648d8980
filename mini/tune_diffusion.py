"""Train the latent diffusion on with scenes of several things alone: params `tuned` → data/mini/weights/diffusion/.

Large models are tuned for what small ones can't do, and pay for it with what they could: this one draws crowded scenes
better than its base, and a single thing worse. Everything but the U-Net stays the base's.
"""

from typing import Any

import torch

from mini.draw_scenes import SEVERAL
from mini.settings import WEIGHTS, load_settings
from mini.train_diffusion import FOLDER as BASE
from mini.train_diffusion import load_inputs, train
from mini.training import compute_device, finish
from promptroute.runtime.stage import run_stage

FOLDER = WEIGHTS / "diffusion"


def main() -> str:
    from diffusers import StableDiffusionPipeline

    settings, device = load_settings("tuned"), compute_device()
    pipe: Any = StableDiffusionPipeline.from_pretrained(BASE, dtype=torch.float32)
    _, _, latents, texts = load_inputs(pipe.vae, settings["examples"], device, SEVERAL)
    pipe.unet, losses = train(latents, texts, settings, device, pipe.unet, "tuned")
    return finish("tuned", settings, FOLDER, pipe.to("cpu", torch.float16).save_pretrained, losses)


if __name__ == "__main__":
    run_stage(main)
