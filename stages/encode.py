"""Embed the prompts with every text encoder: `text_encoder` → data/text/ENCODER.parquet."""

import argparse

from promptroute.core.component import build
from promptroute.core.rows import Prompt
from promptroute.encoders.base import TextEncoder
from promptroute.encoders.embed import encode_prompts
from promptroute.io.files import atomic_path
from promptroute.io.images import link_or_copy
from promptroute.io.tables import read_table
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage


def main() -> str:
    argparse.ArgumentParser(prog="python -m stages.encode", description=__doc__).parse_args()
    params = load_params()
    prompts = read_table("data/prompts.parquet", Prompt)
    device = read_compute(params["compute"], "params.yaml: compute").device
    with atomic_path("data/text") as folder:
        folder.mkdir()
        for name, section in params["text_encoder"].items():
            encoder = build(section, f"params.yaml: text_encoder.{name}", TextEncoder, device=device)
            path = encode_prompts(encoder, list(prompts["prompt_id"]), list(prompts["prompt"]))
            link_or_copy(path, folder / f"{name}.parquet")
    return (
        f"encode: {len(prompts)} prompts with {', '.join(params['text_encoder']) or 'no encoder'} on {device}"
    )


if __name__ == "__main__":
    run_stage(main)
