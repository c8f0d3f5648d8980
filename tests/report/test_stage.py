import json
from pathlib import Path

import pytest
import yaml

from promptroute.evaluation.origin import origin
from promptroute.io.files import write_json
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage
from stages import report
from tests.report.test_figures import NAMES

PARAMS = {
    "models": {}, "scorers": {}, "about": "made up", "text_encoder": {},
    "prompts": {"sources": {"toy": {}}, "n": None}, "score": {"weights": {"nima": {"mean": 1.0}}},
    "published": {
        "label": "toy scores", "models": {"m0": {}},
        "scorers": {"nima": {"_target_": "promptroute.scorers.nima.Nima"}},
    },
}  # fmt: skip


def test_writes_all(
    written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(written.parent)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    counts = {"text_encoder": {"minilm": {"prompts": 120, "truncated": 3, "tokens": 12}}}
    write_json("metrics/agreement.json", {"answers": 0})
    write_json("metrics/truncation.json", {"models": {}, "image_encoder": {}, **counts})
    found = json.loads(Path("metrics/evaluate.json").read_text())
    write_json("metrics/evaluate.json", {**found, "study": origin(load_params(), Path("data"))})
    run_stage(report.main)
    assert capsys.readouterr().out == "report: 6 figures in metrics/plots, and report/index.html\n"
    source = Path("report/index.html").read_text(encoding="utf-8")
    assert "Quality: NIMA, higher is better · 120 test prompts · toy scores. In brackets" in source
    assert "<strong>Please note:</strong> made up." in source
    assert "cut off: by the text encoder minilm 3 of 120 (4 tokens lost on average)." in source
    for name in NAMES:
        assert Path(f"metrics/plots/{name}.png").read_bytes().startswith(b"\x89PNG")
    Path("metrics/evaluate.json").unlink()
    with pytest.raises(SystemExit):
        run_stage(report.main)
    assert capsys.readouterr().err.startswith("error: metrics/evaluate.json: no such file")
    assert Path("report/index.html").read_text(encoding="utf-8") == source  # what was there stays


def test_data_label() -> None:
    assert report.data_label({"models": {"x": {}}, "published": {"models": {}}}) == "images generated here"
