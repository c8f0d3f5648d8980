"""Generate every image of a study with one model: `models.MODEL` → data/images/MODEL/part-*.parquet."""

from promptroute.core.rows import Prompt
from promptroute.generators.base import build_generator
from promptroute.generators.run import generate_images
from promptroute.generators.study import Generation
from promptroute.io.files import atomic_path
from promptroute.io.images import ImageCache, link_or_copy
from promptroute.io.tables import read_table
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage


def main(model: str) -> str:
    params = load_params()
    generation = Generation.read(params["generation"], "params.yaml: generation")
    section = params["models"][model]["generator"]
    compute = read_compute(params["compute"], "params.yaml: compute")
    generator = build_generator(section, f"params.yaml: models.{model}.generator", compute.device)
    prompts = read_table("data/prompts.parquet", Prompt)
    shards = generation.shards(list(prompts["prompt_id"]), list(prompts["prompt"]))
    cache = ImageCache.of(generator.fingerprint())
    with cache.in_use() as finished:
        study = generate_images(generator, model, shards, cache, generation.max_failed, compute.executor)
        with atomic_path(f"data/images/{model}") as folder:
            folder.mkdir()
            for number, path in enumerate(study.shards):
                link_or_copy(path, folder / f"part-{number:05d}.parquet")
        finished += study.shards
    now = study.now
    rate = f" at {now.new / now.seconds:.2f}/s" if now.new else ""
    return (
        f"generate: {study.images} images of {model} on {compute.device}, {now.new} generated now{rate}, "
        f"{now.failed.total()} failed"
    )


if __name__ == "__main__":
    run_stage(main, __doc__, "MODEL")
