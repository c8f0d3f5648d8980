"""Split the prompts: `split` → data/split.parquet, train : validation : test."""

from stages.records import SPLITS, Prompt, SplitRow
from stages.runtime import build, load_params, run_stage
from stages.store import read_table, write_table


def main() -> str:
    params = load_params()
    prompts = read_table("data/prompts.parquet", Prompt)
    split = build(params["split"], "split")(prompts)
    write_table("data/split.parquet", split, SplitRow)
    sizes = split["split"].value_counts()
    return "split: " + ", ".join(f"{sizes.get(name, 0)} {name}" for name in SPLITS)


if __name__ == "__main__":
    run_stage(main)
