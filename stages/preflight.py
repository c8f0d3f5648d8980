"""Check what the study names before the first image is generated: every component, weights, costs, disk space.

Its output is constant, so it makes nothing run again.
"""

from pathlib import Path

from promptroute.core.component import Component, build
from promptroute.core.errors import UserError
from promptroute.core.rows import Prompt
from promptroute.encoders.base import ImageEncoder, TextEncoder
from promptroute.generators.base import build_generator
from promptroute.generators.study import Generation
from promptroute.io.files import write_text
from promptroute.io.published import ScoreTable
from promptroute.io.tables import read_table
from promptroute.predictors.base import Predictor
from promptroute.prompts.source import PromptSource
from promptroute.prompts.split import Split
from promptroute.routing.base import Policy
from promptroute.routing.costs import CostRule, MissingFact, facts_ahead
from promptroute.routing.quality import check_meaning, flat_weights
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import fact_hint, load_params, study_models, study_outputs
from promptroute.runtime.preflight import Images, check_disk, check_once, components, plan
from promptroute.runtime.stage import run_stage
from promptroute.scorers.base import Scorer, check_encoders

Kinds = dict[str, type[Component]]
SINGLE: Kinds = {"split": Split, "predictor": Predictor, "policy": Policy, "published.table": ScoreTable}
EACH: Kinds = {"prompts.sources.*": PromptSource, "scorers.*": Scorer, "text_encoder.*": TextEncoder}


def main() -> str:
    params = load_params()
    meaning = {**params["score"], "weights": flat_weights(params["score"]["weights"])}
    check_meaning(**meaning, scores=list(study_outputs(params)))
    generation = Generation.read(params["generation"], "params.yaml: generation")
    device = read_compute(params["compute"], "params.yaml: compute").device
    built = components(params, {**SINGLE, **EACH, "image_encoder.*": ImageEncoder}, device)
    check_encoders(built, params["image_encoder"])
    try:
        rule: CostRule = build(params["cost"], "params.yaml: cost", CostRule)
        rule.cost(facts_ahead(study_models(params), params["profiled"]))
    except MissingFact as error:
        raise UserError(f"params.yaml: {error}; {fact_hint(params, error.model, error.fact)}") from error
    prompts, seeds, work = len(read_table("data/prompts.parquet", Prompt)), len(generation.each_seed), {}
    for name, model in params["models"].items():
        generator = build_generator(model["generator"], f"params.yaml: models.{name}.generator", device)
        size = check_once(generator, generator.check)
        work[name] = Images(prompts * seeds, size, (model.get("profile") or {}).get("seconds"))
    check_disk(work, Path())
    write_text("data/preflight.txt", "passed\n")
    return f"preflight: {plan(work, prompts, seeds)}"


if __name__ == "__main__":
    run_stage(main, __doc__)
