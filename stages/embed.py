"""Embed the prompts and every model's images with one image encoder → data/embeddings/ENCODER/.

The folder holds prompts.parquet, and MODEL/part-*.parquet of each model in `models`.
"""

from promptroute.core.component import build
from promptroute.core.rows import Prompt
from promptroute.encoders.base import ImageEncoder
from promptroute.encoders.embed import EmbedImages, ImageShard, embed_prompts
from promptroute.generators.study import Generation
from promptroute.io.files import atomic_path
from promptroute.io.images import link_or_copy, shard_paths
from promptroute.io.tables import read_table
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import load_params
from promptroute.runtime.shards import run
from promptroute.runtime.stage import run_stage


def main(name: str) -> str:
    params = load_params()
    section = params["image_encoder"][name]
    compute = read_compute(params["compute"], "params.yaml: compute")
    encoder = build(section, f"params.yaml: image_encoder.{name}", ImageEncoder, device=compute.device)
    prompts = read_table("data/prompts.parquet", Prompt)
    asked = Generation.read(params["generation"], "params.yaml: generation").asked(
        list(prompts["prompt_id"]), list(prompts["prompt"])
    )
    with atomic_path(f"data/embeddings/{name}") as folder:
        folder.mkdir()
        if encoder.has_texts:
            path = embed_prompts(
                encoder, list(prompts["prompt_id"]), list(prompts["prompt"]), compute.executor
            )
            link_or_copy(path, folder / "prompts.parquet")
        for model in params["models"]:
            (folder / model).mkdir()
            sources = shard_paths(f"data/images/{model}", asked)
            work = EmbedImages(encoder, model)
            for source, path in zip(
                sources,
                run(work, [ImageShard.of(source) for source in sources], compute.executor, f"{name} {model}"),
                strict=True,
            ):
                link_or_copy(path, folder / model / source.name)
    return (
        f"embed: {len(prompts)} prompts and the images of {', '.join(params['models']) or 'no model'} with {name} on "
        f"{compute.device}"
    )


if __name__ == "__main__":
    run_stage(main, __doc__, "ENCODER")
