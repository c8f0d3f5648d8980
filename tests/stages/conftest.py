"""Copies of the finished study, to break."""

from pathlib import Path

import pytest

from tests.stages.small import copied


@pytest.fixture
def study(finished: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    """A copy of the finished study."""
    return copied(finished[0], tmp_path / "study")
