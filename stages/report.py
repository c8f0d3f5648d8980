"""Draw the result for people: metrics/ → metrics/plots/*.png and report/index.html.

    python -m stages.report

The page needs nothing beside it: send it to anybody, open it anywhere.
"""

from pathlib import Path
from typing import Any

from promptroute.core.rows import Performance, Prompt
from promptroute.io.files import atomic_path
from promptroute.io.tables import read_table
from promptroute.report.examples import pick
from promptroute.report.figures import paint
from promptroute.report.images import load_drawn
from promptroute.report.page import page
from promptroute.report.result import read_result
from promptroute.runtime.params import load_params, study_outputs
from promptroute.runtime.stage import run_stage

METRICS, REPORT = Path("metrics"), Path("report")


def data_label(params: dict[str, Any]) -> str:
    """Where the true quality comes from, for people."""
    published = params["published"]
    found = [str(published.get("label") or "published scores")] if published["models"] else []
    found += ["images drawn here"] if params["models"] else []
    return " and ".join(found) + (f" ({params['about']})" if params.get("about") else "")


def main() -> str:
    params = load_params()
    about = {name: output.label for name, output in study_outputs(params).items()}
    result = read_result(METRICS, scores=about, data=data_label(params))
    examples = pick(result, read_table("data/prompts.parquet", Prompt))
    drawn = load_drawn(
        Path("data/images"),
        Path("data/scores"),
        list(params["models"]),
        list(params["scorers"]),
        {one.prompt_id for one in examples},
    )
    performance = read_table("data/performance.parquet", Performance, ("prompt_id", "model", "score"))
    pictures = paint(result, performance, examples, drawn, about)
    for name, picture in pictures.items():
        with atomic_path(METRICS / "plots" / f"{name}.png") as temporary:
            temporary.write_bytes(picture.png)
    with atomic_path(REPORT / "index.html") as temporary:
        temporary.write_text(page(result, pictures, examples, drawn, about), encoding="utf-8")
    return f"report: {len(pictures)} pictures in {METRICS / 'plots'}, and {REPORT / 'index.html'}"


if __name__ == "__main__":
    run_stage(main)
