"""Split the prompts: `split` → data/split.parquet, train : validation : test."""

from promptroute.core.component import build
from promptroute.core.rows import SPLITS, Prompt, SplitRow
from promptroute.io.tables import of_prompts, read_table, write_table
from promptroute.prompts.split import Split
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage


def main() -> str:
    prompts = read_table("data/prompts.parquet", Prompt)
    split = build(load_params()["split"], "params.yaml: split", Split).split(prompts)
    write_table("data/split.parquet", split, SplitRow, about=of_prompts(prompts))
    sizes = split["split"].value_counts()
    return "split: " + ", ".join(f"{sizes.get(name, 0)} {name}" for name in SPLITS)


if __name__ == "__main__":
    run_stage(main, __doc__)
