"""Report the result for people: metrics/ → metrics/plots/*.png and report/index.html.

The page needs nothing beside it: send it to anybody, open it anywhere.
"""

from collections.abc import Mapping
from pathlib import Path

from promptroute.core.rows import Performance, Prompt
from promptroute.evaluation.origin import origin
from promptroute.io.files import atomic_path, write_text
from promptroute.io.tables import read_table
from promptroute.report.examples import pick
from promptroute.report.figures import render
from promptroute.report.images import load_images
from promptroute.report.page import page
from promptroute.report.people import people_cells, read_people
from promptroute.report.recovery import read_recovery
from promptroute.report.result import read_result
from promptroute.report.truncation import read_truncation, truncation_note
from promptroute.runtime.params import load_params, study_outputs
from promptroute.runtime.stage import run_stage

DATA, METRICS, PLOTS, PAGE = map(Path, ("data", "metrics", "metrics/plots", "report/index.html"))


def data_label(params: Mapping[str, object]) -> str:
    """Say where the observed quality comes from, and what must be known about it."""
    published = params["published"]
    assert isinstance(published, Mapping)
    sources = [str(published.get("label") or "published scores")] if published["models"] else []
    sources += ["images generated here"] if params["models"] else []
    return " and ".join(sources) + (f" ({params['about']})" if params.get("about") else "")


def main() -> str:
    params = load_params()
    labels = {name: output.label for name, output in study_outputs(params).items()}
    where = METRICS / "evaluate.json", DATA / "evaluation"
    result = read_result(*where, scores=labels, data=data_label(params), study=origin(params, DATA))
    examples = pick(result, read_table(DATA / "prompts.parquet", Prompt))
    made, shown = (list(params["models"]), list(params["scorers"])), {one.prompt_id for one in examples}
    images = load_images(DATA / "images", DATA / "scores", *made, shown)
    performance = read_table(DATA / "performance.parquet", Performance, ("prompt_id", "model", "score"))
    figures = render(result, performance, examples, images)
    for name, figure in figures.items():
        with atomic_path(PLOTS / f"{name}.png") as temporary:
            temporary.write_bytes(figure.png)
    people = people_cells(read_people(METRICS / "agreement.json"), result.values.labels, labels)
    cut = read_truncation(METRICS / "truncation.json")
    notes = str(params.get("about") or ""), truncation_note(cut, result.values.labels)
    recovered = METRICS / "recovery.json", DATA / "trips", made[0], shown
    back = read_recovery(*recovered) if params.get("recovery") else None
    write_text(PAGE, page(result, figures, examples, images, *notes, people, back))
    return f"report: {len(figures)} figures in {PLOTS}, and {PAGE}"


if __name__ == "__main__":
    run_stage(main, __doc__)
