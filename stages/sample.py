"""Sample the study's prompts: `prompts` (sources, how many), data/sources → data/prompts.parquet."""

from promptroute.core.rows import Prompt
from promptroute.io.tables import write_table
from promptroute.prompts.sampling import sample
from promptroute.prompts.stored import StoredPrompts
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage


def main() -> str:
    section = load_params()["prompts"]
    sources = [StoredPrompts(path=f"data/sources/{name}.parquet") for name in section["sources"]]
    prompts = sample(sources, n=section["n"], seed=section.get("seed", 0))
    about = {str(key): value for key, value in prompts.attrs.items()}
    write_table("data/prompts.parquet", prompts, Prompt, about=about)
    sets = ", ".join(f"{name} {count}" for name, count in prompts["set"].value_counts(sort=False).items())
    return f"sample: {len(prompts)} prompts ({sets})"


if __name__ == "__main__":
    run_stage(main, __doc__)
