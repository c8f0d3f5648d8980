"""Embed the prompts with every text encoder: `text.encoders` → data/text/ENCODER.parquet."""

import shutil

from stages.records import Prompt
from stages.runtime import build, load_params, pick_device, run_stage
from stages.store import atomic_path, read_table, scratch, write_embeddings
from stages.text import encode_all


def main() -> str:
    params = load_params()
    prompts = read_table("data/prompts.parquet", Prompt)
    device = pick_device(**params["compute"])
    done = []
    with atomic_path("data/text") as folder:
        folder.mkdir()
        for name, config in params["text"]["encoders"].items():
            # Kept outside the stage's output too: a set of encoders that gains one embeds with that one only.
            kept = scratch("text", config, list(prompts["prompt_id"]), list(prompts["prompt"]), device)
            if not kept.exists():
                encoder = build(config, f"text.encoders.{name}", device=device)
                write_embeddings(
                    kept, list(prompts["prompt_id"]), encode_all(encoder, list(prompts["prompt"]))
                )
            shutil.copyfile(kept, folder / f"{name}.parquet")
            done.append(name)
    return f"encode: {len(prompts)} prompts with {', '.join(done) or 'no encoder'} on {device}"


if __name__ == "__main__":
    run_stage(main)
