"""Draw the prompts with one model: `models.MODEL` → data/images/MODEL/part-*.parquet."""

import sys

from stages.generators.drawing import draw_study
from stages.records import BadInput, Prompt
from stages.runtime import build, load_params, pick_device, run_stage
from stages.store import atomic_path, read_table, scratch
from stages.store.images import ImageArea, Wanted, link_or_copy


def check_draw(seeds: list[int], shard_prompts: int, max_failed: float) -> list[int]:
    """The seeds in order, each once.

    Raises:
        BadInput: a seed, a shard or a share that can't be one.
    """
    bad = [
        seed for seed in seeds if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63
    ]
    if bad or not seeds:
        raise BadInput(f"params.yaml: draw.seeds is {seeds}; give one or more whole numbers from 0 on")
    if not isinstance(shard_prompts, int) or shard_prompts < 1:
        raise BadInput(
            f"params.yaml: draw.shard_prompts is {shard_prompts!r}; give a whole number, 1 or more"
        )
    if not 0 <= max_failed <= 1:
        raise BadInput(f"params.yaml: draw.max_failed is {max_failed!r}; give a share from 0 to 1")
    return sorted(set(seeds))


def main() -> str:
    (model,) = sys.argv[1:]
    params = load_params()
    draw = params["draw"]
    seeds = check_draw(**draw)
    prompts = read_table("data/prompts.parquet", Prompt)
    generator = build(
        params["models"][model]["generator"],
        f"models.{model}.generator",
        device=pick_device(**params["compute"]),
    )
    wanted = [
        Wanted(prompt_id, prompt, seed)
        for prompt_id, prompt in zip(prompts["prompt_id"], prompts["prompt"], strict=True)
        for seed in seeds
    ]
    size = draw["shard_prompts"] * len(seeds)
    shards = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    area = ImageArea(scratch("images", generator.fingerprint_parts))
    drawn = draw_study(generator, model, shards, area, draw["max_failed"])
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
