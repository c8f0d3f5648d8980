"""The small world's weights as training would leave them, but untrained: for tests of all that surrounds them."""

from pathlib import Path

import torch

from stages.mini import (
    train_clip,
    train_diffusion,
    train_masked,
    train_nima,
    train_student,
    train_tiny,
    train_vae,
    train_vq,
)
from stages.mini.captions import PROMPT_SETS, draw_captions
from stages.mini.tokens import train_tokenizer


def write_untrained(weights: Path) -> None:
    """Write the folders clip, nima, tiny, diffusion, student and masked below `weights`."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(
        caption.text for name in PROMPT_SETS for caption in draw_captions(name, 50, seed=1)
    )
    for name in ("clip", "nima"):
        (weights / name).mkdir(parents=True)
    train_clip.save(weights / "clip", train_clip.Learner(len(tokenizer)), tokenizer)
    train_nima.save(weights / "nima", train_nima.new_nima())
    encoder, tokenizer = train_clip.text_encoder(weights / "clip")
    train_tiny.new_tiny().half().save_pretrained(weights / "tiny")
    unet = train_diffusion.new_unet(text_width=encoder.config.hidden_size)
    scheduler = train_diffusion.new_scheduler()
    pipe = train_diffusion.pipeline(train_vae.new_vae(), encoder, tokenizer, unet, scheduler)
    pipe.save_pretrained(weights / "diffusion")
    pipe.register_modules(scheduler=train_student.new_scheduler(scheduler))
    pipe.save_pretrained(weights / "student")
    transformer = train_masked.new_transformer(
        train_vq.CODES, encoder.config.hidden_size, encoder.config.projection_dim
    )
    train_masked.pipeline(train_vq.new_vq(), encoder.float(), tokenizer, transformer).save_pretrained(
        weights / "masked"
    )
