"""Measure what a model's images cost on this machine: `models.MODEL` → data/profile/MODEL.json."""

from promptroute.core.errors import UserError
from promptroute.core.rows import Prompt
from promptroute.generators.base import LocalGenerator, build_generator
from promptroute.generators.profiling import profile
from promptroute.io.files import write_json
from promptroute.io.tables import read_table
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage


def main(model: str) -> str:
    params = load_params()
    section = params["models"][model]["generator"]
    device = read_compute(params["compute"], "params.yaml: compute").device
    generator = build_generator(section, f"params.yaml: models.{model}.generator", device)
    if not isinstance(generator, LocalGenerator):
        raise UserError(
            f"models.{model} doesn't compute here, so it can't be measured; state its price or seconds"
        )
    prompts = read_table("data/prompts.parquet", Prompt)["prompt"]
    found = profile(generator, list(prompts.head(50)))
    write_json(f"data/profile/{model}.json", found, digits=4)
    rates, best = found["images_per_second"], found["best_batch"]
    return (
        f"profile: {model} on {found['measured_on']}: {found['seconds']:.3f} s (± {found['seconds_std']:.3f}) and "
        f"{found['gflops']:.1f} GFLOPs per image, {found['memory_gb']:.2f} GB; {rates[best]:.2f} images/s in batches "
        f"of {best}"
    )


if __name__ == "__main__":
    run_stage(main, __doc__, "MODEL")
