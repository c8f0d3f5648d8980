"""Write the prompt sets as files: params `prompts` → mini/pipeline/data/prompts/SET.csv.

Columns: prompt; statement, what the prompt says as JSON (`captions.Statement`), against which images are checked.
"""

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mini.captions import PROMPT_SETS, Statement, sample_captions, statement_from_plain
from mini.settings import DATA, load_settings
from promptroute.io.files import atomic_path
from promptroute.runtime.stage import run_stage

FOLDER = DATA / "prompts"


def write_prompts(folder: Path, n: int, seed: int) -> None:
    """Write n distinct prompts of each set."""
    for name in PROMPT_SETS:
        rows = [
            {"prompt": caption.text, "statement": json.dumps(asdict(caption.statement))}
            for caption in sample_captions(name, n, seed, distinct=True)
        ]
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)


def read_prompts(prompt_set: str, folder: Path = FOLDER) -> list[tuple[str, Statement]]:
    """Read the prompts of a set with their statements, in the file's order."""
    rows = pd.read_csv(folder / f"{prompt_set}.csv")
    statements = [statement_from_plain(json.loads(text)) for text in rows["statement"]]
    return list(zip(rows["prompt"], statements, strict=True))


def main() -> str:
    settings = load_settings("prompts")
    with atomic_path(FOLDER) as temporary:
        temporary.mkdir()
        write_prompts(temporary, settings["n"], settings["seed"])
    return f"prompts: {settings['n']} in each of {len(PROMPT_SETS)} sets"


if __name__ == "__main__":
    run_stage(main)
