import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.report.conftest import write_images, write_result
from tests.report.made import Report, report_of

NAMES = ("frontier", "choices", "gallery", "scores", "predicted", "confusion")


def size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def test_png_and_alt(report: Report) -> None:
    figures = report.figures
    assert tuple(figures) == NAMES
    for figure in figures.values():
        assert figure.png.startswith(b"\x89PNG") and len(figure.png) < 200_000
        width, height = size(figure.png)
        assert 600 <= width <= 2400 and 300 <= height <= 2400
        assert len(figure.alt) > 80


def test_same_bytes(written: Path) -> None:
    first, second = (report_of(written).figures for _ in range(2))
    assert {name: figure.png for name, figure in first.items()} == {
        name: figure.png for name, figure in second.items()
    }


@pytest.mark.parametrize(
    "shape",
    [
        {"models": 2, "sets": ("only",)},
        {"models": 8, "sets": ("A", "B", "C", "D", "E")},
        {"noise": 30.0},  # the best single model's quality is never reached
        {"noise": 0.0},  # the oracle's own choice
        {"labels": ["A model with quite a long name, v1.5", "B", "C & <D>"]},
        {"n": 8},
    ],
    ids=["two", "eight", "noise", "oracle", "names", "few"],
)
def test_any_study(tmp_path: Path, shape: dict[str, Any]) -> None:
    report = report_of(write_result(tmp_path, **shape))
    assert tuple(report.figures) == NAMES
    if report.result.values.frontier.iso_quality_cost.estimate is None:
        assert "best single model's quality: not reached" in report.figures["frontier"].alt
        assert "not reached" in report.source


def test_many_models(tmp_path: Path) -> None:
    labels = [f"Some diffusion model with a long name, {k} steps" for k in range(24)]
    metrics = write_result(tmp_path, labels=labels, n=60)
    write_images(tmp_path, tuple(f"m{k}" for k in range(24)))
    report = report_of(metrics)
    for figure in report.figures.values():
        width, height = size(figure.png)
        assert width <= 2400 and height <= 2600
    assert report.figures["frontier"].alt.count("steps") >= 24
    cards = report.source.count("<article>")
    shown = report.source.count('alt="Some diffusion model') / 2  # seeds that did not fail
    assert cards <= shown <= 4 * cards, "images of the models that play a part alone"
    assert report.source.count(" other models</summary>") == cards


def test_one_price_many_sets(tmp_path: Path) -> None:
    sets = tuple(f"set{k:02d}" for k in range(24))
    metrics = write_result(tmp_path, models=24, sets=sets, n=245, prices=(5, 5))
    report = report_of(metrics)
    frontier, choices = (report.figures[name] for name in ("frontier", "choices"))
    assert frontier.title.startswith("At one price for every model, choosing by prompt ")
    for name, row in report.result.values.strategies.items():
        assert f"{report.result.title(name)} {row.quality:.3f}" in frontier.alt
    assert size(frontier.png)[1] <= 2400 and size(choices.png)[1] <= 2400
    # the sets come in turn, so that the first five have a prompt more than the others
    assert [name for name in sets if f"{name} · " in choices.alt] == list(sets[:10])


class TestFrontier:
    def test_rows_in_words(self, report: Report) -> None:
        for row in report.result.values.strategies.values():
            assert f"{row.quality:.3f} at {1000 * row.cost:.4f}" in report.figures["frontier"].alt

    def test_title_names_operating_point(self, written: Path) -> None:
        values = json.loads((written / "evaluate.json").read_text())
        values["router"]["cost_change"] |= {"estimate": -0.35}
        values["router"]["quality_gain"] |= {"estimate": 0.0207}
        values["frontier"]["iso_quality_cost"] |= {"estimate": -0.65}
        (written / "evaluate.json").write_text(json.dumps(values))
        report = report_of(written)
        assert report.figures["frontier"].title == (
            "The router costs 35\u00a0% less than Model 3, the best single model; its quality is 0.021 higher"
        )
        assert not any("65" in figure.title for figure in report.figures.values())
        assert "read off the test prompts" in report.figures["frontier"].alt


def test_choices_title(report: Report) -> None:
    share = max(report.result.values.strategies["router"].share.values())
    assert f"{100 * share:.0f}\u00a0% of prompts" in report.figures["choices"].title


def test_confusion_title(report: Report) -> None:
    right = (report.result.best == report.result.chosen).mean()
    assert f"{100 * right:.0f}\u00a0%" in report.figures["confusion"].title


def test_scores_medians(written: Path) -> None:
    rows = pd.read_parquet(written.parent / "data" / "performance.parquet")
    alt = report_of(written).figures["scores"].alt
    for k in range(4):
        assert f"Model {k} median {rows.loc[rows['model'] == f'm{k}', 'mean'].median():.2f}" in alt


class TestGallery:
    def test_two_examples_each(self, illustrated: Report) -> None:
        assert illustrated.figures["gallery"].alt.count(": the router chooses") == 8

    def test_no_images(self, report: Report) -> None:
        assert "no images" in report.figures["gallery"].alt
