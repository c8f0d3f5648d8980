"""Draw the result for people: metrics/ → metrics/plots/*.png and report/index.html.

    python -m stages.report

The page needs nothing beside it: send it to anybody, open it anywhere.
"""

from pathlib import Path
from typing import Any

from stages.pictures import page, paint, pick, read_result
from stages.records import Prompt
from stages.runtime import load_params, run_stage
from stages.store import atomic_path, read_table

METRICS, REPORT = Path("metrics"), Path("report")


def data_label(params: dict[str, Any]) -> str:
    """Where the true quality comes from, for people."""
    published = params.get("published") or {}
    found = [str(published.get("label") or "published scores")] if published.get("models") else []
    return " and ".join([*found, *(["images drawn here"] if params.get("models") else [])])


def main() -> str:
    params = load_params()
    scorers = {**(params.get("scorers") or {}), **((params.get("published") or {}).get("scorers") or {})}
    scores = {name: str(declared.get("label", name)) for name, declared in scorers.items()}
    result = read_result(METRICS, scores=scores, data=data_label(params))
    examples = pick(result, read_table("data/prompts.parquet", Prompt))
    pictures = paint(result)
    for name, picture in pictures.items():
        with atomic_path(METRICS / "plots" / f"{name}.png") as temporary:
            temporary.write_bytes(picture.png)
    with atomic_path(REPORT / "index.html") as temporary:
        temporary.write_text(page(result, pictures, examples), encoding="utf-8")
    return f"report: {len(pictures)} pictures in {METRICS / 'plots'}, and {REPORT / 'index.html'}"


if __name__ == "__main__":
    run_stage(main)
