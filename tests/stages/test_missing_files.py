"""A file between stages that is missing, empty or another is told in a line."""

from pathlib import Path

import pytest

from tests.stages.small import run


@pytest.mark.parametrize(
    "content", [None, b"", b"[" * 100_000, b"null", b"{}", b"PAR1" + bytes(100) + b"PAR1"]
)
@pytest.mark.parametrize("file", ["quality.json", "out_of_fold.parquet"])
def test_predictor(study: Path, file: str, content: bytes | None) -> None:
    path = study / "data/predictor" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    ran = run(study, "calibrate")
    assert ran.status == 1 and ran.err.startswith("error: data/predictor"), ran


def test_folder_in_place_of_json(study: Path) -> None:
    path = study / "metrics/evaluate.json"
    path.unlink()
    path.mkdir()
    assert run(study, "report").err.startswith("error: metrics/evaluate.json: not readable as JSON")
