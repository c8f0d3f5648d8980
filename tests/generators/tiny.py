"""Text-to-image pipelines of the true classes with random weights, small enough to generate with in a test.

Each is saved as the hub lays a model out, so the code under test loads it as it would load the real one.
"""

import string
from pathlib import Path
from typing import Any

SIDE = 16
"""Pixels of an image."""


def clip_tokenizer() -> Any:
    """Single letters only; 16 tokens."""
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase + string.digits + ",."
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=16)


def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    letters = ["▁", *string.ascii_lowercase, *string.digits, ",", "."]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((letter, -2.0) for letter in letters)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=16)


def _text_config(**changes: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        **{
            "vocab_size": 78,
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 16,
            "projection_dim": 32,
            "bos_token_id": 76,
            "eos_token_id": 77,
            "pad_token_id": 77,
            **changes,
        }
    )


def _unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        **{
            "sample_size": SIDE // 2,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 4,
            "cross_attention_dim": 32,
            "norm_num_groups": 4,
            **changes,
        }
    )


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=SIDE,
    )


def taesd() -> Any:
    """AutoencoderTiny for the latents of the others: half the side."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        upsampling_scaling_factor=2,
        scaling_factor=1.0,
    )


def stable_diffusion() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextModel

    return StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=clip_tokenizer(),
        unet=_unet(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    unet = _unet(
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
        transformer_layers_per_block=(1, 1),
        use_linear_projection=True,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config()),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet,
        scheduler=EulerAncestralDiscreteScheduler(),  # SDXL-Turbo's: it adds noise at each step
        add_watermarker=False,
    )


def amused() -> Any:
    from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel
    from transformers import CLIPTextModelWithProjection

    transformer = UVit2DModel(
        hidden_size=16,
        use_bias=False,
        hidden_dropout=0.0,
        cond_embed_dim=32,
        micro_cond_encode_dim=2,
        micro_cond_embed_dim=10,
        encoder_hidden_size=32,
        vocab_size=33,
        codebook_size=32,
        in_channels=16,
        block_out_channels=16,
        num_res_blocks=1,
        downsample=True,
        upsample=True,
        block_num_heads=2,
        num_hidden_layers=1,
        num_attention_heads=2,
        attention_dropout=0.0,
        intermediate_size=32,
        layer_norm_eps=1e-6,
        ln_elementwise_affine=True,
        sample_size=SIDE // 2,
    )
    vqvae = VQModel(
        act_fn="silu",
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        layers_per_block=1,
        norm_num_groups=4,
        num_vq_embeddings=32,
        sample_size=SIDE,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    return AmusedPipeline(
        vqvae=vqvae,
        tokenizer=clip_tokenizer(),
        text_encoder=CLIPTextModelWithProjection(_text_config()),
        transformer=transformer,
        scheduler=AmusedScheduler(mask_token_id=32),
    )


def pixart_alpha() -> Any:
    from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    transformer = PixArtTransformer2DModel(
        sample_size=SIDE // 2,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        cross_attention_dim=16,
        caption_channels=32,
        in_channels=4,
        out_channels=8,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    text = T5Config(vocab_size=42, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return PixArtAlphaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=T5EncoderModel(text),
        transformer=transformer,
        vae=_vae(),
        scheduler=DPMSolverMultistepScheduler(),
    )


PIPELINES = {
    "sd": (stable_diffusion, {"steps": 3, "guidance": 5.0}),
    "sdxl": (stable_diffusion_xl, {"steps": 2, "guidance": 0.0}),
    "amused": (amused, {"steps": 3, "guidance": 4.0}),
    "pixart": (
        pixart_alpha,
        {"steps": 2, "guidance": 4.5, "call": {"use_resolution_binning": False, "clean_caption": False}},
    ),
}
"""name → (its maker, what it is called with)."""


def save(name: str, folder: Path) -> Path:
    """Save the pipeline `name` (or `taesd`) to `folder`; the same weights every time."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        part = taesd() if name == "taesd" else PIPELINES[name][0]()
        for model in [part] if name == "taesd" else part.components.values():
            if isinstance(model, torch.nn.Module):
                _scale(model)
    part.save_pretrained(folder)
    return folder


def save_lora(folder: Path, pipeline: Any) -> Path:
    """Save random LoRA layers for the UNet of a pipeline; `LORA` is the file's name."""
    import peft
    import torch

    pipeline.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = peft.get_peft_model_state_dict(pipeline.unet)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = {name: torch.randn_like(weight) for name, weight in layers.items()}
    type(pipeline).save_lora_weights(folder, unet_lora_layers=layers)
    return folder


LORA = "pytorch_lora_weights.safetensors"


def _scale(model: Any) -> None:
    """Keep the signal's size through every layer, so that the image depends on the prompt and the seed."""
    import torch

    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=(weight[0].numel()) ** -0.5)
