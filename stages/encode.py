"""Embed the prompts with one text encoder: `text_encoder.ENCODER` → data/text/ENCODER.parquet."""

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


def main(name: str) -> str:
    params = load_params()
    prompts = read_table("data/prompts.parquet", Prompt)
    compute = read_compute(params["compute"], "params.yaml: compute")
    section = params["text_encoder"][name]
    encoder = build(section, f"params.yaml: text_encoder.{name}", TextEncoder, device=compute.device)
    kept = encode_prompts(encoder, list(prompts["prompt_id"]), list(prompts["prompt"]), compute.executor)
    with atomic_path(f"data/text/{name}.parquet") as temporary:
        link_or_copy(kept, temporary)
    return f"encode: {len(prompts)} prompts with {name} on {compute.device}"


if __name__ == "__main__":
    run_stage(main, __doc__, "ENCODER")
