"""Sample the study's prompts: `prompts` (sources, how many) → data/prompts.parquet."""

from promptroute.core.rows import Prompt
from promptroute.io.tables import write_table
from promptroute.prompts.sampling import sample
from promptroute.runtime.params import build, load_params
from promptroute.runtime.stage import run_stage


def main() -> str:
    params = load_params()
    section = params["prompts"]
    sources = [build(config, f"prompts.sources.{name}") for name, config in section["sources"].items()]
    prompts = sample(sources, n=section["n"], seed=section["seed"])
    write_table(
        "data/prompts.parquet",
        prompts,
        Prompt,
        about={str(key): value for key, value in prompts.attrs.items()},
    )
    sets = ", ".join(f"{name} {count}" for name, count in prompts["set"].value_counts(sort=False).items())
    return f"sample: {len(prompts)} prompts ({sets})"


if __name__ == "__main__":
    run_stage(main, __doc__)
