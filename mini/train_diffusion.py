"""Train the latent diffusion with its U-Net: params `diffusion` → mini/pipeline/data/base/.

The few-step student is distilled from it; the model that is used is fine-tuned from it (`finetune_diffusion.py`).
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mini import train_clip, train_vae
from mini.inputs import TextInputs, embed_texts, encode_images
from mini.render_scenes import ARRANGED, read_scenes
from mini.settings import DATA, load_settings
from mini.training import Step, compute_device, finish, fit
from promptroute.runtime.stage import run_stage

FOLDER = DATA / "base"
DROP = 0.1  # share of captions dropped, for classifier-free guidance
OBJECT_WEIGHT = 3.0  # weight of a latent's distance from its image's median


def new_unet(latents: int = train_vae.LATENTS, text_width: int = train_clip.WIDTH) -> Any:
    """Make an untrained `UNet2DConditionModel` for latents of 16 × 16.

    Besides cross-attention at 8 × 8, every block gets the pooled caption along with the time step (as in SDXL): so
    small a network learns shapes much sooner that way.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=train_vae.SIDE,
        in_channels=latents,
        out_channels=latents,
        layers_per_block=1,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text_width,
        attention_head_dim=4,  # diffusers' name for the number of heads
        norm_num_groups=16,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def new_scheduler() -> Any:
    """Make a DDIM scheduler with velocity prediction and zero terminal SNR, without which colours are off."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # as Stable Diffusion's pipeline expects; without effect on trailing steps
    )


def object_weight(latents: Tensor) -> Tensor:
    """Return the loss's weight of each position, [n, channels, h, w] → [n, 1, h, w]: larger on objects; mean 1.

    Background is most of an image, so shapes decide little of the plain loss. The optimum, an expectation at each
    position, is the same under any weight that depends only on the position.
    """
    median = latents.flatten(2).median(dim=2).values[:, :, None, None]
    weight = 1 + OBJECT_WEIGHT * (latents - median).abs().mean(dim=1, keepdim=True)
    return weight / weight.mean()


def train(
    latents: Tensor,
    texts: TextInputs,
    settings: dict[str, Any],
    device: str,
    unet: Any = None,
    name: str = "diffusion",
) -> tuple[Any, list[float]]:
    """Train a U-Net to predict velocity.

    Args:
        latents: float32 [n, channels, 16, 16] of unit size.
        texts: the captions.
        settings: as `fit` has it, and batch.
        device: where to train.
        unet: which to train; None: a new one.
        name: of the training, for its log and its checkpoint.

    Returns:
        The U-Net and the loss of each step.
    """
    torch.manual_seed(settings["seed"])
    unet = (unet or new_unet(latents.shape[1], texts.states.shape[2])).to(device)
    scheduler = new_scheduler()

    def loss_of(step: Step) -> Tensor:
        rows = step.rows(len(latents), settings["batch"])
        clean = latents[rows].to(device)
        noise = step.normal(clean.shape, device)
        times = torch.from_numpy(step.rng.integers(0, scheduler.config.num_train_timesteps, len(rows))).to(
            device
        )
        states, _ = texts.batch(rows, step.rng.random(len(rows)) < DROP, device)
        output = unet(scheduler.add_noise(clean, noise, times), times, states).sample
        error = (output - scheduler.get_velocity(clean, noise, times)).square()
        return (object_weight(clean) * error).mean()

    return unet, fit(name, unet, loss_of, settings)


def load_inputs(
    vae: Any, examples: int, device: str, scenes: Path = ARRANGED
) -> tuple[Any, Any, Tensor, TextInputs]:
    """Load the text encoder and its tokenizer, and encode the first `examples` scenes: latents and captions."""
    images, captions = read_scenes(scenes)
    encoder, tokenizer = train_clip.text_encoder()
    scale = vae.to(device).config.scaling_factor
    latents = encode_images(
        images[:examples], lambda batch: vae.encode(batch).latent_dist.mean * scale, device
    )
    texts = embed_texts(encoder, tokenizer, [caption.text for caption in captions[:examples]], device)
    return encoder, tokenizer, latents, texts


def pipeline(vae: Any, encoder: Any, tokenizer: Any, unet: Any, scheduler: Any) -> Any:
    """Assemble a `StableDiffusionPipeline`, half precision, on the CPU."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    plain = CLIPTextModel(CLIPTextConfig(**encoder.config.to_dict()))
    plain.load_state_dict(encoder.text_model.state_dict())
    pipe: Any = StableDiffusionPipeline(
        vae=vae,
        text_encoder=plain,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipe.to("cpu", torch.float16)


def main() -> str:
    from diffusers import AutoencoderKL

    settings, device = load_settings("diffusion"), compute_device()
    vae = AutoencoderKL.from_pretrained(train_vae.FOLDER)
    encoder, tokenizer, latents, texts = load_inputs(vae, settings["examples"], device)
    unet, losses = train(latents, texts, settings, device)
    return finish(
        "diffusion",
        settings,
        FOLDER,
        pipeline(vae, encoder, tokenizer, unet, new_scheduler()).save_pretrained,
        losses,
    )


if __name__ == "__main__":
    run_stage(main)
