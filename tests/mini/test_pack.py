"""Results of the training copied where git tracks them."""

from pathlib import Path

from mini.pack import pack


def test_pack_replaces(tmp_path: Path) -> None:
    for name in ("prompts", "weights/clip"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "file").write_text(name)
    for name in ("report.json", "report.md", "feedback_report.json", "feedback_report.md"):
        (tmp_path / "data" / name).write_text("12")
    (tmp_path / "mini" / "weights" / "old").mkdir(parents=True)
    assert pack(tmp_path / "data", tmp_path / "mini") == len("prompts" + "weights/clip") + 8
    assert sorted(path.name for path in (tmp_path / "mini" / "weights").iterdir()) == ["clip"]
    assert (tmp_path / "mini" / "weights" / "clip" / "file").read_text() == "weights/clip"
