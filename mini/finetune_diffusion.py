"""Fine-tune the latent diffusion on scenes of several objects: params `finetune` → mini/pipeline/data/weights/diffusion/.

As with large models, what fine-tuning improves has a price: this model generates crowded scenes better than its base, and
a single object worse. All parts but the U-Net stay the base's.
"""

from typing import Any

import torch

from mini.render_scenes import MULTIPLE
from mini.settings import WEIGHTS, load_settings
from mini.train_diffusion import FOLDER as BASE
from mini.train_diffusion import load_inputs, train
from mini.training import compute_device, finish
from promptroute.runtime.stage import run_stage

FOLDER = WEIGHTS / "diffusion"


def main() -> str:
    from diffusers import StableDiffusionPipeline

    settings, device = load_settings("finetune"), compute_device()
    pipe: Any = StableDiffusionPipeline.from_pretrained(BASE, dtype=torch.float32)
    _, _, latents, texts = load_inputs(pipe.vae, settings["examples"], device, MULTIPLE)
    pipe.unet, losses = train(latents, texts, settings, device, pipe.unet, "finetune")
    return finish("finetune", settings, FOLDER, pipe.to("cpu", torch.float16).save_pretrained, losses)


if __name__ == "__main__":
    run_stage(main)
