"""Sample the study's prompts: `prompts` (sources, how many) → data/prompts.parquet."""

from stages.prompts import sample
from stages.records import Prompt
from stages.runtime import build, load_params, run_stage
from stages.store import write_table


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
    run_stage(main)
