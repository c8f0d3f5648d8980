"""Maps over the images and marks on their prompts' words, shown on demand."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptroute.io.parquet import write_parquet
from promptroute.io.scores import FILES, Detail, details_table, read_details
from promptroute.report.images import ExampleImage, load_images
from promptroute.report.page import page
from tests.report.conftest import write_images
from tests.report.made import prompts_of, report_of

VALUES = np.array([[0.0, 1.0], [0.5, 0.0]], np.float32)


def write_feedback(folder: Path) -> str:
    """Write maps and marks of one prompt's image by one model; return the prompt's id."""
    prompt_id = str(prompts_of(folder / "metrics")["prompt_id"].iloc[0])
    details = {
        "map": [Detail(prompt_id, 0, "wrong", VALUES), Detail("another", 0, "wrong", VALUES)],
        "marks": [Detail(prompt_id, 0, "missed", np.array([0.9, 0.2], np.float32), ["<b>red</b>", "star"])],
    }
    for kind, rows in details.items():
        path = folder / "data" / "scores" / "nima" / "m0" / f"{FILES[kind][0]}-00000.parquet"
        write_parquet(path, details_table(kind, rows), {"model": "m0"})
    return prompt_id


def test_only_wanted_prompts_are_read(written: Path) -> None:
    write_images(written.parent)
    wanted = write_feedback(written.parent)
    path = written.parent / "data" / "scores" / "nima" / "m0" / "maps-00000.parquet"
    assert [one.prompt_id for one in read_details(path)] == [wanted, "another"]
    assert [one.prompt_id for one in read_details(path, {wanted})] == [wanted]


def test_loaded_with_the_image(written: Path) -> None:
    write_images(written.parent)
    wanted = write_feedback(written.parent)
    data = written.parent / "data"
    first, _, last = load_images(data / "images", data / "scores", ["m0"], ["nima"], {wanted})[wanted, "m0"]
    (marks,) = first.marks.values()
    assert set(first.marks) == {"nima.missed"} and [word for word, _ in marks] == ["<b>red</b>", "star"]
    assert [value for _, value in marks] == pytest.approx([0.9, 0.2])
    with Image.open(io.BytesIO(first.maps["nima.wrong"])) as veil:
        np.testing.assert_array_equal(np.asarray(veil)[..., 3], np.round(235 * VALUES))
    assert not last.maps and not last.marks


def test_on_the_page(written: Path) -> None:
    write_images(written.parent)
    report = report_of(written)
    assert 'name="veil"' not in report.source, "no control where there is nothing to show"
    example = report.examples[0]
    image = ExampleImage(
        0,
        "png",
        b"x",
        None,
        {},
        {"nima.wrong": b"veil"},
        {"nima.missed": [("<b>red</b>", 0.9), ("star", 0.2)]},
    )
    shown = {(example.prompt_id, report.result.names[0]): [image]}
    source = page(report.result, report.figures, report.examples, shown)
    assert '<label for="veil-0">wrong (nima)</label>' in source
    assert '<label for="veil-1">missed (nima)</label>' in source
    assert '<img class="veil veil-0" src="data:image/png;base64,dmVpbA==" alt="">' in source
    assert '<del title="0.90">&lt;b&gt;red&lt;/b&gt;</del> star' in source
