"""Draw the prompts with one model: `models.MODEL` → data/images/MODEL/part-*.parquet."""

import sys

from promptroute.core.errors import UserError
from promptroute.core.rows import Prompt
from promptroute.generators.run import generate_images
from promptroute.io.cache import cache_path
from promptroute.io.files import atomic_path
from promptroute.io.images import ImageCache, ImageRequest, link_or_copy
from promptroute.io.tables import read_table
from promptroute.runtime.device import pick_device
from promptroute.runtime.params import build, load_params
from promptroute.runtime.stage import run_stage


def check_draw(seeds: list[int], shard_prompts: int, max_failed: float) -> list[int]:
    """The seeds in order, each once.

    Raises:
        UserError: a seed, a shard or a share that can't be one.
    """
    bad = [
        seed for seed in seeds if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63
    ]
    if bad or not seeds:
        raise UserError(f"params.yaml: generation.seeds is {seeds}; give one or more whole numbers from 0 on")
    if not isinstance(shard_prompts, int) or shard_prompts < 1:
        raise UserError(
            f"params.yaml: generation.shard_prompts is {shard_prompts!r}; give a whole number, 1 or more"
        )
    if not 0 <= max_failed <= 1:
        raise UserError(f"params.yaml: generation.max_failed is {max_failed!r}; give a share from 0 to 1")
    return sorted(set(seeds))


def main() -> str:
    (model,) = sys.argv[1:]
    params = load_params()
    draw = params["generation"]
    seeds = check_draw(**draw)
    prompts = read_table("data/prompts.parquet", Prompt)
    generator = build(
        params["models"][model]["generator"],
        f"models.{model}.generator",
        device=pick_device(**params["compute"]),
    )
    wanted = [
        ImageRequest(prompt_id, prompt, seed)
        for prompt_id, prompt in zip(prompts["prompt_id"], prompts["prompt"], strict=True)
        for seed in seeds
    ]
    size = draw["shard_prompts"] * len(seeds)
    shards = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    area = ImageCache(cache_path("images", generator.fingerprint_parts))
    drawn = generate_images(generator, model, shards, area, draw["max_failed"])
    with atomic_path(f"data/images/{model}") as folder:
        folder.mkdir()
        for number, path in enumerate(drawn.shards):
            link_or_copy(path, folder / f"part-{number:05d}.parquet")
    rate = f" at {drawn.new / drawn.seconds:.2f}/s" if drawn.new else ""
    return (
        f"generate: {drawn.images} images of {model} on {generator.device}, {drawn.new} drawn now{rate}, "
        f"{drawn.failed.total()} failed"
    )


if __name__ == "__main__":
    run_stage(main)
