"""Images a second on the CPU: the generate stage against a plain loop over diffusers.

    python -m benchmarks.generation                          every small model, three rounds
    python -m benchmarks.generation --models mini-student --batch-sizes 8,16,32
    python -m benchmarks.generation --quick                  one round of a few images; writes no results
    python -m benchmarks.generation --table                  only print the table of benchmarks/results/generation.csv

The plain loop is diffusers as its documentation shows it: a call of the pipeline for each prompt and seed, each
encoding its text, each image saved as a PNG file. Ours is what the stage runs: batches of a fixed size, one on each
core, each text encoded once, parquet shards, and the first batch generated twice to check that an image's place in it
does not matter (an extra batch a run, which weighs more on these few images than on a study's). Both generate the same
prompts and seeds on the same number of cores, alternate, are loaded and warm, and every round has its own prompts.

The batch size belongs to what defines an image on the CPU, so the two may differ in last bits, and seldom in a pixel:
these are counted. With a batch size of 1, on one thread (`--threads 1`), no pixel differs.
"""

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import here, measured_on, now
from benchmarks.reporting import RESULTS, ROOT, markdown, names, numbers, options, run, speedup
from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.generators.base import build_generator
from promptroute.generators.run import generate_images
from promptroute.io.images import ImageCache, ImageRequest, read_shard
from promptroute.prompts.sampling import sample
from promptroute.prompts.source import PromptSource
from promptroute.runtime.compose import compose
from promptroute.runtime.device import pick_device
from promptroute.runtime.params import Params, load_params
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "generation.csv"
MINI = ("experiment=mini", "compute=cpu")
WARM_UP = 2  # images of the plain loop, batches of ours


def settings(*overrides: str) -> Params:
    """Compose the small models' parameters with `overrides`."""
    with TemporaryDirectory() as folder:
        compose(Path(folder) / "params.yaml", [*MINI, *overrides], ROOT)
        return load_params(Path(folder) / "params.yaml")


def plain_pipeline(config: Mapping[str, Any]) -> Any:
    """Load a model's pipeline with diffusers alone.

    Raises:
        UserError: the model has a LoRA adapter, which this does not load.
    """
    import diffusers
    import torch

    if config.get("lora"):
        raise UserError(f"{config['model']}: the plain loop loads no LoRA adapter; leave this model out")
    parts = {
        name: getattr(diffusers, part["class"]).from_pretrained(part["model"], torch_dtype=torch.float32)
        for name, part in (config.get("components") or {}).items()
    }
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        config["model"],
        revision=config.get("revision"),
        variant=config.get("variant"),
        torch_dtype=torch.float32,
        use_safetensors=True,
        **parts,
    )
    if config.get("scheduler"):
        given = dict(config["scheduler"])
        kind = getattr(diffusers, given.pop("class"))
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **given)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def plain_loop(
    pipeline: Any, config: Mapping[str, Any], requests: Sequence[ImageRequest], folder: Path
) -> None:
    """Call the pipeline for each image, and save it as NUMBER.png in `folder`."""
    import torch

    call = {
        "num_inference_steps": config["steps"],
        "guidance_scale": config["guidance"],
        **{side: config[side] for side in ("width", "height") if config.get(side)},
        **(config.get("call") or {}),
    }
    folder.mkdir()
    for number, request in enumerate(requests):
        generator = torch.Generator("cpu").manual_seed(request.seed)
        pipeline(request.prompt, generator=generator, **call).images[0].save(folder / f"{number}.png")


def pixel_differences(left: np.ndarray, right: np.ndarray) -> tuple[int, int]:
    """Count the pixels of two images that differ in any channel, and find the largest difference of a channel.

    Args:
        left, right: uint8 [height, width, 3].
    """
    difference = np.abs(left.astype(np.int16) - right.astype(np.int16))
    return int(difference.any(axis=-1).sum()), int(difference.max())


def compare(folder: Path, shard: Path) -> dict[str, Any]:
    """Compare the plain loop's files with a shard's rows, in the same order.

    Returns:
        pixels: of all images; differ: how many of them do; largest: difference of a channel, of 255;
        alike: images in which no pixel does.

    Raises:
        UserError: an image of the shard failed.
    """
    from PIL import Image as Pillow

    pairs = []
    for number, row in enumerate(read_shard(shard)):
        if row.image is None:
            raise UserError(f"{row.model}: the image of {row.prompt!r} with seed {row.seed} {row.reason}")
        plain, ours = (
            np.asarray(Pillow.open(place).convert("RGB"))
            for place in (folder / f"{number}.png", io.BytesIO(row.image))
        )
        pairs.append((plain.shape[0] * plain.shape[1], *pixel_differences(plain, ours)))
    size, differ, largest = np.array(pairs).T
    return {
        "pixels": int(size.sum()),
        "differ": int(differ.sum()),
        "largest": int(largest.max()),
        "alike": int((differ == 0).sum()),
    }


def rounds_of(n: int, count: int, seeds: Sequence[int]) -> list[list[ImageRequest]]:
    """Make `count` rounds of n distinct prompts, each with every seed; and before them a round for warm-up.

    Raises:
        UserError: there are too few prompts.
    """
    section = settings()["prompts"]
    sources = [
        build(config, f"prompts.sources.{name}", PromptSource) for name, config in section["sources"].items()
    ]
    prompts = sample(sources, n=None, seed=section.get("seed", 0)).drop_duplicates("prompt")
    if len(prompts) < n * (count + 1):
        raise UserError(
            f"--prompts {n} --rounds {count}: with the warm-up round that is {n * (count + 1)} prompts, and "
            f"there are {len(prompts)} distinct prompts; take fewer"
        )
    images = [
        ImageRequest(prompt_id, text, seed)
        for prompt_id, text in zip(prompts["prompt_id"], prompts["prompt"], strict=True)
        for seed in seeds
    ]
    size = n * len(seeds)
    return [images[turn * size : (turn + 1) * size] for turn in range(count + 1)]


def measure(
    model: str,
    config: Mapping[str, Any],
    batch_sizes: Sequence[int],
    rounds: list[list[ImageRequest]],
    threads: int,
) -> list[dict[str, Any]]:
    """Return rows: one for each round and batch size of ours. The first of `rounds` is the warm-up."""
    place = here(threads)
    device = pick_device(device="cpu", threads=threads)
    plain = plain_pipeline(config)
    generators = {
        size: build_generator({**config, "batch_size": size}, f"models.{model}.generator", device)
        for size in batch_sizes
    }
    rows = []
    with TemporaryDirectory() as made:
        folder = Path(made)
        plain_loop(plain, config, rounds[0][:WARM_UP], folder / "warm")
        for size, generator in generators.items():
            generator.load()
            for _ in range(WARM_UP):
                batch = (rounds[0] * size)[:size]
                generator.generate([request.prompt for request in batch], [request.seed for request in batch])
        for turn, requests in enumerate(rounds[1:]):
            before = now()
            plain_loop(plain, config, requests, folder / f"plain-{turn}")
            loop = now() - before
            for size, generator in generators.items():
                area = ImageCache(folder / f"ours-{turn}-{size}")
                before = now()
                generated = generate_images(generator, model, [requests], area, max_failed=0.0)
                ours = now() - before
                rows.append(
                    {
                        "model": model,
                        "steps": config["steps"],
                        "batch_size": size,
                        "round": turn,
                        "images": len(requests),
                        "texts": len({request.prompt for request in requests}),
                        "plain_s": loop[0],
                        "plain_cpu_s": loop[1],
                        "ours_s": ours[0],
                        "ours_cpu_s": ours[1],
                        **compare(folder / f"plain-{turn}", generated.shards[0]),
                        **place,
                    }
                )
    return rows


def measure_all(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of all chosen models."""
    params = settings()
    threads = chosen.threads or params["compute"]["threads"]
    n, count = (8, 1) if chosen.quick else (chosen.prompts, chosen.rounds)
    rounds = rounds_of(n, count, params["generation"]["seeds"])
    rows = []
    for model in chosen.models or params["models"]:
        config = params["models"][model]["generator"]
        rows += measure(model, config, chosen.batch_sizes or [config["batch_size"]], rounds, threads)
    return rows


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: medians over rounds, the fastest model first; a ratio is the median of the rounds'."""
    head = [
        "model",
        "steps",
        "batch",
        "plain loop, images/s",
        "ours, images/s",
        "ratio",
        "ratio, CPU time",
        "pixels that differ",
        "by at most, of 255",
        "images without any",
    ]
    lines = []
    parts = [
        (own["images"].mean() / own["plain_s"].median(), key, own)
        for key, own in rows.groupby(["model", "steps", "batch_size"], sort=False)
    ]
    for rate, (model, steps, size), own in sorted(parts, key=lambda part: -part[0]):
        cpu = own["plain_cpu_s"] / own["ours_cpu_s"]
        lines.append(
            [
                str(model),
                str(steps),
                str(size),
                f"{rate:.3g}",
                f"{own['images'].mean() / own['ours_s'].median():.3g}",
                speedup(own["plain_s"], own["ours_s"], 2),
                f"{cpu.median():.2f} ×",
                f"{100 * own['differ'].sum() / own['pixels'].sum():.2g} %",
                str(own["largest"].max()),
                f"{own['alike'].sum()} of {own['images'].sum()}",
            ]
        )
    first = rows.iloc[0]
    about = (
        f"{rows['round'].nunique()} rounds of {first['images']} images ({first['texts']} prompts with "
        f"{first['images'] // first['texts']} seeds each). {measured_on(rows)}"
    )
    return f"{about}\n\n{markdown(head, lines)}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("generation", __doc__, quick="one round of 8 prompts")
    parser.add_argument("--models", type=names, help="of conf/models/mini.yaml (default: all)")
    parser.add_argument("--batch-sizes", type=numbers, help="(default: each model's own)")
    parser.add_argument("--prompts", type=int, default=64, help="a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, help="torch's (default: the study's)")
    return run(parser, arguments, CSV, measure_all, table)


if __name__ == "__main__":
    run_stage(main)
