"""The pictures and the page tell what evaluate measured, and nothing that a prompt would like them to."""

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.report.conftest import FAILED, write_images, write_result

from promptroute.core.errors import UserError
from promptroute.core.rows import Performance, Prompt
from promptroute.io.tables import read_table
from promptroute.report.examples import pick
from promptroute.report.figures import Painted, paint
from promptroute.report.images import Drawn, load_drawn
from promptroute.report.page import page, visible
from promptroute.report.result import Result, read_result
from promptroute.runtime.stage import run_stage
from stages import report

NAMES = ("frontier", "choices", "gallery", "scores", "predicted", "confusion")
ABOUT = {"nima.mean": "NIMA"}
HOSTILE = [
    "<script>alert(1)</script>",
    "</blockquote><img src=x onerror=alert(1)>",
    "a 'quoted' \"prompt\" & more {{ 7 * 7 }}",
    "safe \u202egnihton\u202c",
    "two\x07bells and \ud800 half a pair",
    "猫 🦊 " + "long " * 300,
]


def prompts_of(metrics: Path) -> pd.DataFrame:
    return read_table(metrics.parent / "data" / "prompts.parquet", Prompt)


def report_of(metrics: Path) -> tuple[Result, dict[str, Painted], str]:
    result = read_result(metrics, scores=ABOUT, data="toy scores")
    painted = painted_of(metrics)
    examples = pick(result, prompts_of(metrics))
    return result, painted, page(result, painted, examples, drawn_of(metrics), ABOUT)


def drawn_of(metrics: Path) -> Drawn:
    """The examples' images; none where `write_images` wasn't called."""
    data = metrics.parent / "data"
    examples = pick(read_result(metrics), prompts_of(metrics))
    models = sorted(path.name for path in (data / "images").glob("*"))
    return load_drawn(data / "images", data / "scores", models, ["nima"], {one.prompt_id for one in examples})


def painted_of(metrics: Path) -> dict[str, Painted]:
    result = read_result(metrics, scores=ABOUT, data="toy scores")
    performance = read_table(
        metrics.parent / "data" / "performance.parquet", Performance, ("prompt_id", "model", "score")
    )
    return paint(result, performance, pick(result, prompts_of(metrics)), drawn_of(metrics), ABOUT)


class Seen(HTMLParser):
    """Tags, attributes and text of a page, as a browser would take them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_every_picture_is_a_png_that_says_its_figures_in_words(written: Path) -> None:
    result, painted, _ = report_of(written)
    assert tuple(painted) == NAMES
    for one in painted.values():
        assert one.png.startswith(b"\x89PNG") and len(one.png) < 200_000
        width, height = (int.from_bytes(one.png[at : at + 4], "big") for at in (16, 20))
        assert 600 <= width <= 2400 and 300 <= height <= 2400
        assert len(one.alt) > 80
    for row in (result.strategies["router"], result.strategies["oracle"]):
        assert f"{row['quality']:.3f} at {1000 * row['cost']:.4f}" in painted["frontier"].alt
    right = (result.best == result.chosen).mean()
    assert f"{100 * right:.0f}\u00a0%" in painted["confusion"].title
    share = max(result.strategies["router"]["share"].values())
    assert f"{100 * share:.0f}\u00a0% of prompts" in painted["choices"].title


def test_pictures_are_the_same_bytes_each_time(written: Path) -> None:
    first, second = (painted_of(written) for _ in range(2))
    assert {name: one.png for name, one in first.items()} == {name: one.png for name, one in second.items()}


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
def test_any_study_can_be_drawn(tmp_path: Path, shape: dict[str, Any]) -> None:
    result, painted, source = report_of(write_result(tmp_path, **shape))
    assert set(painted) == set(NAMES)
    for label in result.labels:
        assert html.escape(label) in source
    if result.values["frontier"]["iso_quality_cost"]["estimate"] is None:
        assert "never reaches the quality of" in painted["frontier"].title
        assert "not reached" in source


def test_the_page_needs_nothing_and_runs_nothing(written: Path) -> None:
    _, painted, source = report_of(written)
    seen = Seen(source)
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "iframe", "link", "object", "form", "base"})
    for tag, attributes in seen.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "action", "srcset", "style"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, name)
    assert not re.search(r"url\(|@import|https?://", source)
    policy = next(a["content"] for _, a in seen.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    images = [attributes for tag, attributes in seen.tags if tag == "img"]
    assert [one["alt"] for one in images] == [visible(painted[name].alt) for name in NAMES]


def test_the_page_tells_what_was_measured(written: Path) -> None:
    result, _, source = report_of(written)
    text = " ".join(Seen(source).text)
    for row in result.strategies.values():
        assert f"{row['quality']:.4f}" in text and f"{1000 * row['cost']:.4f}" in text
    change = result.values["router"]["cost_change"]["estimate"]
    assert f"{100 * abs(change):.1f}\u00a0%" in text
    for name, values in result.values["sets"].items():
        assert name in text and f"{100 * values['choice']['router']['accuracy']:.1f}\u00a0%" in text


def test_prompts_are_text_whatever_they_hold(tmp_path: Path) -> None:
    texts = [HOSTILE[i % len(HOSTILE)].replace("\ud800", "\ufffd") + f" {i}" for i in range(40)]
    metrics = write_result(tmp_path, n=40, texts=texts, labels=["<b>bold</b>", "plain"])
    result, painted, source = report_of(metrics)
    seen = Seen(source)
    assert {"script", "b"}.isdisjoint(tag for tag, _ in seen.tags)
    assert [a for tag, a in seen.tags if tag == "img"] == [a for tag, a in seen.tags if "width" in a]
    assert len([tag for tag, _ in seen.tags if tag == "img"]) == len(painted)
    shown = "".join(seen.text)
    for one in pick(result, prompts_of(metrics)):
        assert visible(one.prompt) in shown  # read back, it is the prompt
    assert "‹U+202E›gnihton‹U+202C›" in shown and "\u202e" not in source
    assert "‹U+0007›" in shown and "\x07" not in source
    assert "{{ 7 * 7 }}" in shown


def test_visible_names_what_hides_or_turns() -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\x00\u200e\ud800x") == "‹U+0000›‹U+200E›‹U+D800›x"


def toy(true: list[list[float]], chosen: list[int], ids: list[str]) -> Result:
    """Three models at 1, 2 and 3 dollars; the third is the best single one."""
    quality = np.array(true)
    costs = {f"single_m{k}": {"cost": float(k + 1)} for k in range(3)}
    return Result(
        values={"labels": {f"m{k}": f"M{k}" for k in range(3)}, "best_single": "m2", "strategies": costs},
        score="s", data="d", frontier=pd.DataFrame(), hull=pd.DataFrame(),
        prompt_ids=np.array(ids), predicted=quality, true=quality,
        best=quality.argmax(1), chosen=np.array(chosen),
    )  # fmt: skip


def test_examples_are_picked_by_the_stated_rules() -> None:
    result = toy(
        [
            [5.0, 1.0, 5.0],  # a: cheapest, nothing lost
            [1.0, 5.0, 5.0],  # b: cheaper, nothing lost
            [9.0, 1.0, 5.0],  # c: 4 gained
            [1.0, 1.0, 7.0],  # d: 6 lost
            [1.0, 2.0, 7.0],  # e: the best single model, as it should be
        ],
        [0, 1, 0, 0, 2],
        ["a", "b", "c", "d", "e"],
    )
    prompts = pd.DataFrame({"prompt_id": list("abcde"), "prompt": list("ABCDE"), "set": "S", "count": 1})
    found = pick(result, prompts, each=1)
    groups = [(one.group, one.prompt_id) for one in found]
    assert groups[:2] == [
        ("savings", "c"),
        ("mistakes", "d"),
    ]  # as cheap as a, but better; c is not shown twice
    assert [group for group, _ in groups[2:]] == ["sample", "sample"]
    assert {prompt_id for _, prompt_id in groups[2:]} < {"a", "b", "e"}
    by_id = {one.prompt_id: one for one in found}
    assert by_id["d"].gain == -6.0 and by_id["d"].saving == pytest.approx(1 / 3 - 1)
    assert len({one.prompt_id for one in found}) == len(found) <= 4
    shuffled = prompts.sample(frac=1, random_state=3)
    assert pick(result, shuffled, each=1) == found  # joined by key
    with pytest.raises(UserError, match="e"):
        pick(result, prompts.iloc[:4])


def test_bad_results_are_named(written: Path, tmp_path: Path) -> None:
    def broken(name: str, change: Any) -> Path:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(written, copy)
        change(copy / name)
        return copy

    def edit(old: str, new: str) -> Any:
        return lambda path: path.write_text(path.read_text().replace(old, new, 1))

    def values(change: Any) -> Any:
        def write(path: Path) -> None:
            found = json.loads(path.read_text())
            change(found)
            path.write_text(json.dumps(found))

        return write

    for name, change, message in [
        ("evaluate.json", lambda path: path.unlink(), r"evaluate\.json"),
        ("evaluate.json", lambda path: path.write_text("{"), r"evaluate\.json"),
        ("evaluate.json", values(lambda found: found.pop("frontier")), r"no frontier.*dvc repro evaluate"),
        ("evaluate.json", values(lambda found: found["strategies"].pop("oracle")), "no strategy oracle"),
        ("evaluate.json", values(lambda found: found.update(prompts=3)), "120 prompts, but .* has 3"),
        ("evaluate.json", values(lambda found: found["labels"].update(m0="Model 1")), "called Model 1"),
        ("plots/hull.csv", lambda path: path.unlink(), r"hull\.csv: no such file.*dvc repro evaluate"),
        ("plots/frontier.csv", edit("cost", "price"), r"frontier\.csv.*cost"),
        ("plots/confusion.csv", edit("Model 3", "Somebody"), r"line \d+: \w+ 'Somebody' is none of Model 0"),
        ("plots/predicted.csv", edit("A0,Model 0", "A2,Model 0"), "expected one for each of 120 prompts"),
    ]:
        with pytest.raises(UserError, match=message):
            read_result(broken(name, change))
    with pytest.raises(UserError, match=r"line 2: cost 'x' is not a number"):
        read_result(broken("plots/hull.csv", lambda path: path.write_text("cost,quality\nx,1\n")))


def test_the_stage_writes_pictures_and_page(
    written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(written.parent)
    params = {
        "models": {}, "scorers": {}, "about": "made up", "text_encoder": {},
        "published": {
            "label": "toy scores", "models": {"m0": {}},
            "scorers": {"nima": {"_target_": "promptroute.scorers.nima.Nima"}},
        },
    }  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(params))
    run_stage(report.main)
    assert capsys.readouterr().out == "report: 6 pictures in metrics/plots, and report/index.html\n"
    source = Path("report/index.html").read_text(encoding="utf-8")
    assert "Quality: NIMA, higher is better · toy scores (made up), 120 test prompts" in source
    for name in NAMES:
        assert Path(f"metrics/plots/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert report.data_label({"models": {"x": {}}, "published": {"models": {}}}) == "images drawn here"
    Path("metrics/evaluate.json").unlink()
    with pytest.raises(SystemExit):
        run_stage(report.main)
    assert capsys.readouterr().err.startswith("error: metrics/evaluate.json: no such file")
    assert Path("report/index.html").read_text(encoding="utf-8") == source  # what was there stays


class TestImages:
    def test_the_page_holds_every_model_s_images_of_every_example(self, written: Path) -> None:
        write_images(written.parent)
        result, painted, source = report_of(written)
        seen = Seen(source)
        shown = [attributes for tag, attributes in seen.tags if tag == "img"][len(painted) :]
        examples = pick(result, prompts_of(written))
        assert len(shown) == len(examples) * len(result.names) * 2, "two of three images are fine"
        assert {str(one["alt"]) for one in shown} == {
            f"{label}, seed {seed}" for label in result.labels for seed in (0, 2)
        }
        assert all(str(one["src"]).startswith("data:image/png;base64,") for one in shown)
        text = " ".join(seen.text)
        assert text.count("failed: <b>too hot</b>") == len(examples) * len(result.names), "escaped, and said"
        assert "NIMA 7.20" in text, "model 2, seed 2"
        assert painted["gallery"].alt.count(": the router takes") == 8, "two examples of each group"

    def test_a_study_without_images_says_so(self, written: Path) -> None:
        _, painted, source = report_of(written)
        assert "no images" in painted["gallery"].alt
        assert len([tag for tag, _ in Seen(source).tags if tag == "img"]) == len(painted)

    def test_images_are_found_by_prompt_whatever_their_shard(self, written: Path) -> None:
        write_images(written.parent)
        data = written.parent / "data"
        ids = prompts_of(written)["prompt_id"]
        wanted = {ids.iloc[0], ids.iloc[-1]}
        drawn = load_drawn(data / "images", data / "scores", ["m3"], ["nima"], wanted)
        assert set(drawn) == {(prompt_id, "m3") for prompt_id in wanted}
        for images in drawn.values():
            assert [image.seed for image in images] == [0, 1, 2]
            assert [image.data is None for image in images] == [seed == FAILED for seed in range(3)]
            assert images[2].scores == {"nima.mean": pytest.approx(8.2)}

    def test_a_large_image_becomes_small(self, written: Path) -> None:
        import io

        from PIL import Image

        write_images(written.parent, ("m0",), side=512)
        data = written.parent / "data"
        first = prompts_of(written)["prompt_id"].iloc[0]
        (image, *_), *_ = load_drawn(data / "images", data / "scores", ["m0"], [], {first}).values()
        assert image.kind == "jpeg" and image.data is not None
        assert Image.open(io.BytesIO(image.data)).size == (192, 192)


def test_the_spread_of_scores_says_each_model_s_median(written: Path) -> None:
    rows = pd.read_parquet(written.parent / "data" / "performance.parquet")
    alt = painted_of(written)["scores"].alt
    for number in range(4):
        median = rows.loc[rows["model"] == f"m{number}", "mean"].median()
        assert f"Model {number} median {median:.2f}" in alt
