"""Embed the prompts with every text encoder: `text_encoder` → data/text/ENCODER.parquet."""

import shutil

from promptroute.core.rows import Prompt
from promptroute.encoders.base import encode_all
from promptroute.io.cache import cache_path
from promptroute.io.embeddings import write_embeddings
from promptroute.io.files import atomic_path
from promptroute.io.tables import read_table
from promptroute.runtime.device import pick_device
from promptroute.runtime.params import build, load_params
from promptroute.runtime.stage import run_stage


def main() -> str:
    params = load_params()
    prompts = read_table("data/prompts.parquet", Prompt)
    device = pick_device(**params["compute"])
    done = []
    with atomic_path("data/text") as folder:
        folder.mkdir()
        for name, config in params["text_encoder"].items():
            # Kept outside the stage's output too: a set of encoders that gains one embeds with that one only.
            kept = cache_path("text", config, list(prompts["prompt_id"]), list(prompts["prompt"]), device)
            if not kept.exists():
                encoder = build(config, f"text_encoder.{name}", device=device)
                write_embeddings(
                    kept, list(prompts["prompt_id"]), encode_all(encoder, list(prompts["prompt"]))
                )
            shutil.copyfile(kept, folder / f"{name}.parquet")
            done.append(name)
    return f"encode: {len(prompts)} prompts with {', '.join(done) or 'no encoder'} on {device}"


if __name__ == "__main__":
    run_stage(main)
