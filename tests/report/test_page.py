import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from promptroute.report.format import visible
from promptroute.report.page import headline
from tests.report.conftest import write_result
from tests.report.made import Report, report_of
from tests.report.test_figures import NAMES

HOSTILE = [
    "<script>alert(1)</script>",
    "</blockquote><img src=x onerror=alert(1)>",
    "a 'quoted' \"prompt\" & more {{ 7 * 7 }}",
    "safe \u202egnihton\u202c",
    "two\x07bells and \ud800 half a pair",
    "猫 🦊 " + "long " * 300,
]


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

    @property
    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


class TestSafe:
    def test_needs_nothing(self, report: Report) -> None:
        seen = Seen(report.source)
        assert report.source.startswith("<!doctype html>")
        assert {tag for tag, _ in seen.tags}.isdisjoint(
            {"script", "iframe", "link", "object", "form", "base"}
        )
        for tag, attributes in seen.tags:
            assert not any(name.startswith("on") for name in attributes), tag
            for name in ("src", "href", "action", "srcset", "style"):
                assert (attributes.get(name) or "data:").startswith("data:"), (tag, name)
        assert not re.search(r"url\(|@import|https?://", report.source)
        policy = next(a["content"] for _, a in seen.tags if a.get("http-equiv") == "Content-Security-Policy")
        assert policy and policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
        assert [image["alt"] for image in seen.images] == [
            visible(report.figures[name].alt) for name in NAMES
        ]

    def test_prompts_are_text(self, tmp_path: Path) -> None:
        texts = [HOSTILE[i % len(HOSTILE)].replace("\ud800", "\ufffd") + f" {i}" for i in range(40)]
        report = report_of(write_result(tmp_path, n=40, texts=texts, labels=["<b>bold</b>", "plain"]))
        seen = Seen(report.source)
        assert {"script", "b"}.isdisjoint(tag for tag, _ in seen.tags)
        assert len(seen.images) == len(report.figures) and all("width" in image for image in seen.images)
        shown = "".join(seen.text)
        for example in report.examples:
            assert visible(example.prompt) in shown  # read back, it is the prompt
        assert "‹U+202E›gnihton‹U+202C›" in shown and "\u202e" not in report.source
        assert "‹U+0007›" in shown and "\x07" not in report.source
        assert "{{ 7 * 7 }}" in shown

    def test_note_is_text(self, written: Path) -> None:
        seen = Seen(report_of(written, "synthetic <b>models</b>").source)
        assert "synthetic <b>models</b>" in "".join(seen.text) and "b" not in {tag for tag, _ in seen.tags}


class TestTells:
    def test_what_was_measured(self, report: Report) -> None:
        text = " ".join(Seen(report.source).text)
        for row in report.result.values.strategies.values():
            assert f"{row.quality:.4f}" in text and f"{1000 * row.cost:.4f}" in text
        change = report.result.values.router.cost_change.estimate
        assert change is not None and f"{100 * abs(change):.1f}\u00a0%" in text
        for name, values in report.result.values.sets.items():
            assert name in text and f"{100 * values.choice['router'].accuracy:.1f}\u00a0%" in text

    def test_few_prompts(self, written: Path) -> None:
        values = json.loads((written / "evaluate.json").read_text())
        policies = {"router": {"title": "<i>mine</i>"}}
        (written / "evaluate.json").write_text(
            json.dumps(values | {"few": "only 9 prompts", "policies": policies})
        )
        source = report_of(written).source
        assert "Beware: only 9 prompts." in source
        assert html.escape("<i>mine</i>, at the operating point set beforehand") in source

    def test_best_per_set(self, written: Path) -> None:
        values = json.loads((written / "evaluate.json").read_text())
        lower, higher = ({"estimate": x, "low": x - 0.25, "high": x + 0.25} for x in (-0.5, 0.125))
        rows = {
            "router": {"quality_gain": higher, "cost_change": lower},
            "cost_aware_per_set": {"quality_gain": lower, "cost_change": higher},
        }
        (written / "evaluate.json").write_text(json.dumps(values | {"against_best_per_set": rows}))
        (line,) = [one for one in headline(report_of(written).result) if "own best model" in one]
        assert (
            "cost changes by −50.0\u00a0% [−75.0\u00a0%, −25.0\u00a0%] and its mean quality by +0.125 ["
            in line
        )
        assert "held beforehand to what that costs, the router's cost changes by +12.5\u00a0% [" in line

    def test_labels_escaped(self, tmp_path: Path) -> None:
        report = report_of(write_result(tmp_path, labels=["A & <B>", "C"]))
        assert html.escape("A & <B>") in report.source and "<B>" not in report.source

    def test_operating_point_first(self, report: Report) -> None:
        source = report.source
        lead = source.index('class="lead"')
        assert lead < source.index("set beforehand on other") < source.index("Read off the frontier")


class TestImages:
    def test_all_models_and_seeds(self, illustrated: Report) -> None:
        shown = Seen(illustrated.source).images[len(illustrated.figures) :]
        assert len(shown) == len(illustrated.examples) * len(illustrated.result.names) * 2, (
            "two of three images are fine"
        )
        assert {str(image["alt"]) for image in shown} == {
            f"{label}, seed {seed}" for label in illustrated.result.labels for seed in (0, 2)
        }
        assert all(str(image["src"]).startswith("data:image/png;base64,") for image in shown)

    def test_failures_and_scores(self, illustrated: Report) -> None:
        text = " ".join(Seen(illustrated.source).text)
        failed = text.count("failed: <b>too hot</b>")
        assert failed == len(illustrated.examples) * len(illustrated.result.names), "escaped, and said"
        assert "NIMA 7.20" in text, "model 2, seed 2"

    def test_none(self, report: Report) -> None:
        assert len(Seen(report.source).images) == len(report.figures)
