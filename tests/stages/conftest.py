"""One small study in which every stage has run, and copies of it to break."""

from pathlib import Path

import pytest

from tests.stages.small import copied, run_chain


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of a finished study, which nobody changes, and what each of its stages printed."""
    folder = tmp_path_factory.mktemp("study")
    return folder, run_chain(folder)


@pytest.fixture
def study(finished: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    """A copy of the finished study."""
    return copied(finished[0], tmp_path / "study")
