"""Describe the prompt sets that were read: data/sources → metrics/prompts.json (CEMS, Table 1)."""

import json

import pandas as pd

from promptroute.core.rows import Prompt
from promptroute.io.files import write_json
from promptroute.io.tables import read_table
from promptroute.prompts.statistics import statistics
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage


def main() -> str:
    tables = [
        read_table(f"data/sources/{name}.parquet", Prompt, states=("files",))
        for name in load_params()["prompts"]["sources"]
    ]
    files = [file for table in tables for file in json.loads(table.attrs["files"])]
    sets = statistics(pd.concat(tables, ignore_index=True))
    write_json("metrics/prompts.json", {"sets": sets, "files": files})
    return f"describe: {sum(described['prompts'] for described in sets.values())} prompts in {len(sets)} sets"


if __name__ == "__main__":
    run_stage(main, __doc__)
