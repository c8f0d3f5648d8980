"""Split the prompts: `split` → data/split.parquet, train : validation : test."""

from promptroute.core.rows import SPLITS, Prompt, SplitRow
from promptroute.io.tables import read_table, write_table
from promptroute.runtime.params import build, load_params
from promptroute.runtime.stage import run_stage


def main() -> str:
    params = load_params()
    prompts = read_table("data/prompts.parquet", Prompt)
    split = build(params["split"], "split")(prompts)
    write_table("data/split.parquet", split, SplitRow)
    sizes = split["split"].value_counts()
    return "split: " + ", ".join(f"{sizes.get(name, 0)} {name}" for name in SPLITS)


if __name__ == "__main__":
    run_stage(main, __doc__)
