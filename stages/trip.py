"""Go the way back and forth for the report's examples: images of MODEL → recovered prompt → its image, data/trips/MODEL.

Each row is the prompt that was recovered from all of the model's images of an example, and what the same model generates
from it, with a seed that the study does not use.
"""

from pathlib import Path

from promptroute.core.rows import Prompt
from promptroute.evaluation.recovery import recover_prompts
from promptroute.generators.base import build_generator
from promptroute.generators.run import generate_images
from promptroute.generators.study import Generation
from promptroute.io.files import atomic_path
from promptroute.io.images import ImageCache, ImageRequest, link_or_copy
from promptroute.io.tables import read_table
from promptroute.recovery.recovered import Recovery
from promptroute.report.examples import pick
from promptroute.report.result import read_result
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import load_params, named_classes
from promptroute.runtime.stage import run_stage

DATA, RECOVERY = Path("data"), Path("data/recovery")


def main(model: str) -> str:
    params = load_params()
    device = read_compute(params["compute"], "params.yaml: compute").device
    seeds = Generation.read(params["generation"], "params.yaml: generation").each_seed
    section, where = params["models"][model]["generator"], f"params.yaml: models.{model}.generator"
    generator = build_generator(section, where, device)
    result = read_result("metrics/evaluate.json", DATA / "evaluation", scores={}, data="")
    examples = {
        one.prompt_id: one.prompt for one in pick(result, read_table(DATA / "prompts.parquet", Prompt))
    }
    recovery = Recovery.load(RECOVERY, named_classes(params), device)
    texts = recover_prompts(recovery, RECOVERY / "predicted", model, examples)
    fresh = next(seed for seed in range(len(seeds) + 1) if seed not in seeds)
    asked = [ImageRequest(prompt, found.text, fresh) for prompt, found in texts.items()]
    cache = ImageCache.of(generator.fingerprint())
    with cache.in_use() as finished:
        # An image that fails is shown with its reason, so all of them may.
        made = generate_images(generator, model, [asked] if asked else [], cache, max_failed=1.0)
        with atomic_path(DATA / "trips" / model) as folder:
            folder.mkdir(parents=True)
            for number, path in enumerate(made.shards):
                link_or_copy(path, folder / f"part-{number:05d}.parquet")
        finished += made.shards
    return (
        f"trip: {made.images} recovered prompts of {model} generated again, {made.now.failed.total()} failed"
    )


if __name__ == "__main__":
    run_stage(main, __doc__, "MODEL")
