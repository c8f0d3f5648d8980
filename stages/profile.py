"""Measure what a model's images cost on this machine: `models.MODEL` → data/profile/MODEL.json."""

import sys

from promptroute.core.rows import Prompt
from promptroute.generators.profiling import profile
from promptroute.io.files import write_json
from promptroute.io.tables import read_table
from promptroute.runtime.device import pick_device
from promptroute.runtime.params import build, load_params
from promptroute.runtime.stage import run_stage


def main() -> str:
    (model,) = sys.argv[1:]
    params = load_params()
    generator = build(
        params["models"][model]["generator"],
        f"models.{model}.generator",
        device=pick_device(**params["compute"]),
    )
    prompts = read_table("data/prompts.parquet", Prompt)["prompt"]
    found = profile(generator, list(prompts.head(50)))
    write_json(f"data/profile/{model}.json", found, digits=4)
    rates, best = found["images_per_second"], found["best_batch"]
    return (
        f"profile: {model} on {found['measured_on']}: {found['seconds']:.3f} s (± {found['seconds_std']:.3f}) and "
        f"{found['gflops']:.1f} GFLOPs per image, {found['memory_gb']:.2f} GB; {rates[best]:.2f} images/s in batches of {best}"
    )


if __name__ == "__main__":
    run_stage(main)
