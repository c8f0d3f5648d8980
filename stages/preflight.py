"""Check what the study names before the first image: components, weights, costs, disk. Its output is constant."""

from pathlib import Path

from promptroute.core.component import Component, build
from promptroute.core.errors import UserError
from promptroute.core.rows import Prompt
from promptroute.encoders.base import ImageEncoder, TextEncoder
from promptroute.evaluation.bootstrap import check_resamples
from promptroute.generators.plan import planned
from promptroute.generators.study import Generation
from promptroute.io.files import write_text
from promptroute.io.published import ScoreTable
from promptroute.io.tables import read_table
from promptroute.predictors.base import Predictor
from promptroute.prompts.source import PromptSource
from promptroute.prompts.split import Split
from promptroute.recovery.study import RecoveryStudy, check_views
from promptroute.router.packing import look_of
from promptroute.routing.base import Policy
from promptroute.routing.costs import CostRule, MissingFact, facts_ahead
from promptroute.routing.quality import check_meaning, flat_weights
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import fact_hint, load_params, study_models, study_outputs
from promptroute.runtime.preflight import check_disk, check_needs, components, plan
from promptroute.runtime.stage import run_stage
from promptroute.scorers.base import Scorer, check_encoders

KINDS: dict[str, type[Component]] = {"split": Split, "predictor": Predictor, "policy": Policy, "recovery": RecoveryStudy,
    "published.table": ScoreTable, "prompts.sources.*": PromptSource, "scorers.*": Scorer, "text_encoder.*": TextEncoder, "image_encoder.*": ImageEncoder}  # fmt: skip


def main() -> str:
    params = load_params()
    meaning = {**params["score"], "weights": flat_weights(params["score"]["weights"])}
    check_meaning(**meaning, scores=list(study_outputs(params)))
    generation = Generation.read(params["generation"], "params.yaml: generation")
    device = read_compute(params["compute"], "params.yaml: compute").device
    built = components(params, KINDS, device)
    check_encoders(built, [*params["image_encoder"], *(["predicted"] if params.get("recovery") else [])])
    check_needs(built, params["text_encoder"], params["agreement"]["votes"])
    check_resamples(params["evaluate"]["resamples"], "params.yaml: evaluate.resamples")
    check_views(built.get("recovery"), params["image_encoder"])
    try:
        rule: CostRule = build(params["cost"], "params.yaml: cost", CostRule)
        models = study_models(params)
        prices = dict(zip(models, rule.cost(facts_ahead(models, params["profiled"])).tolist(), strict=True))
        if getattr(built["policy"], "looks", False) and getattr(built["policy"], "look", None) is None:
            look_of({**params["published"]["scorers"], **params["scorers"]}, list(meaning["weights"]), rule)
    except MissingFact as error:
        raise UserError(f"params.yaml: {error}; {fact_hint(params, error.model, error.fact)}") from error
    texts, seeds = list(read_table("data/prompts.parquet", Prompt)["prompt"]), generation.each_seed
    check_disk(work := planned(params["models"], texts, len(texts), seeds, device, prices), Path())
    write_text("data/preflight.txt", "passed\n")
    return f"preflight: {plan(work, len(texts), len(seeds))}"


if __name__ == "__main__":
    run_stage(main, __doc__)
