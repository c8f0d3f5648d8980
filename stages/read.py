"""Read one source of prompts: `prompts.sources.SOURCE` → data/sources/SOURCE.parquet."""

import dataclasses
import json

from promptroute.core.component import build
from promptroute.core.rows import Prompt
from promptroute.io.tables import write_table
from promptroute.prompts.source import PromptSource
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage


def main(name: str) -> str:
    source = build(
        load_params()["prompts"]["sources"][name], f"params.yaml: prompts.sources.{name}", PromptSource
    )
    rows, files = source.read()
    about = {
        "files": json.dumps([dataclasses.asdict(file) for file in files]),
        "own_ids": json.dumps(source.has_own_ids),
    }
    write_table(f"data/sources/{name}.parquet", rows, Prompt, about=about)
    return f"read: {len(rows)} prompts of {name}, from {len(files)} file(s)"


if __name__ == "__main__":
    run_stage(main, __doc__, "SOURCE")
