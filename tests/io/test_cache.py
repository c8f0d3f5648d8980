"""Cached work: keyed by all that decides it, whole and its own or absent."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from promptroute.io.cache import CacheFile, cache_path, digest
from promptroute.io.files import atomic_path
from promptroute.io.parquet import read_parquet, write_parquet

TABLE = pa.table({"prompt_id": [f"P{i}" for i in range(50)], "value": [i / 7 for i in range(50)]})


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def test_key(project: Path) -> None:
    here = cache_path("text", {"model": "a", "dim": 3}, ["p"])
    assert here.parent == project / "cache" / "text"
    assert cache_path("text", {"dim": 3, "model": "a"}, ["p"]) == here
    assert cache_path("text", {"dim": 3, "model": "b"}, ["p"]) != here
    assert cache_path("text", {"dim": 3, "model": "a"}, ["q"]) != here
    assert digest("ab", "c") != digest("a", "bc")


class TestCacheFile:
    def test_comes_back(self) -> None:
        file = CacheFile.of("x", {"class": "a"}, "input", about={"model": "m"})
        assert file.read() is None
        file.write(TABLE)
        found = file.read()
        assert found is not None and found.equals(TABLE)
        assert found.schema.metadata[b"model"] == b"m"

    def test_of_another_component_is_absent(self) -> None:
        ours, theirs = CacheFile.of("x", {"class": "a"}, 1), CacheFile.of("x", {"class": "b"}, 1)
        theirs.write(TABLE)
        theirs.path.rename(ours.path)
        assert ours.read() is None
        ours.write(TABLE)
        assert ours.read() is not None

    def test_of_other_inputs_is_absent(self) -> None:
        ours, theirs = CacheFile.of("x", {"class": "a"}, 1), CacheFile.of("x", {"class": "a"}, 2)
        theirs.write(TABLE)
        theirs.path.rename(ours.path)
        assert ours.read() is None

    def test_flipped_bit_is_never_believed(self) -> None:
        file = CacheFile.of("x", {"class": "a"}, 1)
        file.write(TABLE)
        content, chance = file.path.read_bytes(), random.Random(0)
        refused = 0
        for _ in range(500):
            changed = bytearray(content)
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            file.path.write_bytes(changed)
            found = file.read()
            refused += found is None
            assert found is None or found.to_pydict() == TABLE.to_pydict()
        assert refused > 250

    def test_metadata_of_pandas_is_not_believed(self, project: Path) -> None:
        """It says which columns are an index; no checksum covers it, and a flipped bit ended in a traceback."""
        frame = TABLE.to_pandas().set_index("prompt_id", drop=False)
        table = pa.Table.from_pandas(frame[["value"]].assign(name=frame.index.to_numpy()))
        spoilt = table.replace_schema_metadata({b"pandas": b"{", b"own": b"kept"})
        write_parquet(project / "t.parquet", spoilt, {})
        read = read_parquet(project / "t.parquet", "a table")
        assert read.to_pandas().shape == (50, 3) and read.schema.metadata[b"own"] == b"kept"

    def test_cut_is_absent(self) -> None:
        file = CacheFile.of("x", {"class": "a"}, 1)
        file.write(TABLE)
        file.path.write_bytes(file.path.read_bytes()[:-9])
        assert file.read() is None


class TestTemporaryFiles:
    def test_kill_leaves_dependencies_clean(self, project: Path) -> None:
        (project / "dvc.yaml").touch()
        script = (
            "import os, signal\nfrom promptroute.io.files import atomic_path\n"
            "with atomic_path('data/scores/x') as place:\n"
            "    place.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        root = str(Path(__file__).parents[2])
        subprocess.run(
            [sys.executable, "-c", script], cwd=project, env={**os.environ, "PYTHONPATH": root}, check=False
        )
        assert os.listdir(project / "data" / "scores") == []
        left = os.listdir(project / "cache" / "tmp")
        assert len(left) == 1
        with atomic_path(project / "data" / "scores" / "x") as temporary:
            temporary.write_text("whole")
            assert os.listdir(project / "cache" / "tmp") == [temporary.name], "the next run cleaned it"
        assert os.listdir(project / "data" / "scores") == ["x"]

    def test_of_a_living_process_stay(self, project: Path) -> None:
        import socket

        (project / "dvc.yaml").touch()
        place = project / "cache" / "tmp"
        place.mkdir(parents=True)
        theirs, fresh, old = (
            place / f".y.{machine}.{os.getppid()}.0" for machine in (socket.gethostname(), "pod-1", "pod-2")
        )
        for path in (theirs, fresh, old, place / "something.else"):
            path.touch()
        os.utime(old, (0, 0))
        with atomic_path(project / "data" / "x") as temporary:
            temporary.touch()
        assert sorted(place.iterdir()) == sorted([theirs, fresh, place / "something.else"]), (
            "a week is enough"
        )

    def test_outside_a_project_lie_beside(self, tmp_path: Path) -> None:
        with atomic_path(tmp_path / "x") as temporary:
            assert temporary.parent == tmp_path
            temporary.touch()
