"""Train the masked-token model: params `masked` → mini/pipeline/data/weights/masked/."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mini import train_clip, train_vq
from mini.inputs import TextInputs, embed_texts, encode_images
from mini.render_scenes import ARRANGED, read_scenes
from mini.settings import WEIGHTS, load_settings
from mini.train_vae import SIDE
from mini.training import Step, compute_device, finish, fit
from promptroute.runtime.stage import run_stage

FOLDER = WEIGHTS / "masked"
DROP = 0.1  # share of captions dropped, for classifier-free guidance
MICRO = (
    64,
    64,
    0,
    0,
    6,
)  # width, height, crop and aesthetic score, as `AmusedPipeline` passes them for 64 × 64


def new_transformer(codes: int, text_width: int, text_dimensions: int) -> Any:
    """Make an untrained `UVit2DModel` over 16 × 16 tokens, which its transformer sees as 8 × 8."""
    from diffusers import UVit2DModel

    micro = 16
    return UVit2DModel(
        hidden_size=128,
        cond_embed_dim=text_dimensions,
        micro_cond_encode_dim=micro,
        micro_cond_embed_dim=micro * len(MICRO),
        encoder_hidden_size=text_width,
        vocab_size=codes + 1,
        codebook_size=codes,
        in_channels=64,
        block_out_channels=64,
        num_res_blocks=3,  # its only positional information is the convolutions' padding: so many reach the middle
        downsample=True,
        upsample=True,
        block_num_heads=4,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        sample_size=SIDE,
    )


def train(
    tokens: Tensor, texts: TextInputs, codes: int, settings: dict[str, Any], device: str
) -> tuple[Any, list[float]]:
    """Train on image tokens, int64 [n, 16, 16] below `codes`; return the transformer and each step's loss."""
    torch.manual_seed(settings["seed"])
    model = new_transformer(codes, texts.states.shape[2], texts.pooled.shape[1]).to(device)
    micro = torch.tensor([MICRO], dtype=torch.float32, device=device)

    def loss_of(step: Step) -> Tensor:
        rows = step.rows(len(tokens), settings["batch"])
        target = tokens[rows]
        # the share of masked tokens follows the sampler's cosine schedule
        share = np.cos(np.pi / 2 * step.rng.random(len(rows)))
        masked = torch.from_numpy(step.rng.random(target.shape) < share[:, None, None])
        states, pooled = texts.batch(rows, step.rng.random(len(rows)) < DROP, device)
        shown = torch.where(masked, codes, target).to(device)
        logits = model(shown, states, pooled, micro.expand(len(rows), -1))
        return F.cross_entropy(logits.permute(0, 2, 3, 1)[masked.to(device)], target[masked].to(device))

    return model, fit("masked", model, loss_of, settings)


def pipeline(vq: Any, encoder: Any, tokenizer: Any, transformer: Any) -> Any:
    """Assemble an `AmusedPipeline`, half precision, on the CPU."""
    from diffusers import AmusedPipeline, AmusedScheduler

    with torch.no_grad():  # the pipeline expects 0…1 from a decoder that was trained on -1…1
        last = vq.decoder.conv_out
        last.weight.mul_(0.5)
        last.bias.mul_(0.5).add_(0.5)
    pipe: Any = AmusedPipeline(
        vqvae=vq,
        tokenizer=tokenizer,
        text_encoder=encoder,
        transformer=transformer,
        scheduler=AmusedScheduler(mask_token_id=transformer.config.codebook_size),
    )
    return pipe.to("cpu", torch.float16)


def main() -> str:
    from diffusers import VQModel

    settings, device = load_settings("masked"), compute_device()
    images, captions = read_scenes(ARRANGED)
    vq = VQModel.from_pretrained(train_vq.FOLDER).to(device)
    encoder, tokenizer = train_clip.text_encoder()
    codes = vq.config.num_vq_embeddings

    def tokens_of(batch: Tensor) -> Tensor:
        numbers: Tensor = vq.quantize(vq.encode(batch).latents)[2][2]
        return numbers.reshape(len(batch), SIDE, SIDE)

    tokens = encode_images(images[: settings["examples"]], tokens_of, device)
    texts = embed_texts(
        encoder, tokenizer, [caption.text for caption in captions[: settings["examples"]]], device, layer=-2
    )
    transformer, losses = train(tokens, texts, codes, settings, device)
    return finish(
        "masked", settings, FOLDER, pipeline(vq, encoder, tokenizer, transformer).save_pretrained, losses
    )


if __name__ == "__main__":
    run_stage(main)
