"""Describe the published prompt sets: `prompt_sets` → metrics/prompts.json (CEMS, Table 1)."""

from promptroute.io.files import write_json
from promptroute.prompts.statistics import describe
from promptroute.runtime.params import build, load_params
from promptroute.runtime.stage import run_stage


def main() -> str:
    sources = load_params()["prompt_sets"]["sources"]
    sets = {name: describe(build(config, f"prompt_sets.sources.{name}")) for name, config in sources.items()}
    write_json("metrics/prompts.json", sets)
    return f"describe: {sum(one['prompts'] for one in sets.values())} prompts in {len(sets)} sets"


if __name__ == "__main__":
    run_stage(main, __doc__)
