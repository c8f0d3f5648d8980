"""Shards are done once, by any executor, and what is corrupt or another's is done again."""

import pickle
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.io.cache import CacheFile
from promptroute.runtime.device import read_compute
from promptroute.runtime.executors import Executor, InProcess, Threads
from promptroute.runtime.shards import TableWork, run


class Doubles(TableWork[int]):
    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.done: list[int] = []

    def file(self, shard: int) -> CacheFile:
        return CacheFile.of("doubles", {"version": self.version}, shard)

    def make(self, shard: int) -> pa.Table:
        self.done.append(shard)
        return pa.table({"value": [2 * shard]})


class Elsewhere(Executor):
    """Pickles all that would travel, and begins with the last shard."""

    shares_memory = False

    def map(self, work, shards):  # type: ignore[no-untyped-def]
        for shard in pickle.loads(pickle.dumps(shards))[::-1]:
            yield shard, pickle.loads(pickle.dumps(work))(shard)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


@pytest.mark.parametrize("executor", [InProcess(), Threads(workers=3), Elsewhere()])
def test_every_executor_gives_the_same(executor: Executor) -> None:
    work = Doubles()
    paths = run(work, [3, 1, 2, 1], executor, "double")
    assert paths == [work.path(shard) for shard in (3, 1, 2, 1)]
    found = [work.file(shard).read() for shard in (3, 1, 2)]
    assert [table["value"].to_pylist() for table in found if table is not None] == [[6], [2], [4]]


def test_done_is_not_done_again() -> None:
    run(Doubles(), [1, 2], InProcess(), "double")
    work = Doubles()
    run(work, [1, 2, 3], InProcess(), "double")
    assert work.done == [3]


def test_another_version_is_done_again() -> None:
    run(Doubles(), [1], InProcess(), "double")
    work = Doubles(version=2)
    run(work, [1], InProcess(), "double")
    assert work.done == [1]


def test_corrupt_is_done_again() -> None:
    (path,) = run(Doubles(), [1], InProcess(), "double")
    path.write_bytes(path.read_bytes()[:-5])
    work = Doubles()
    run(work, [1], InProcess(), "double")
    assert work.done == [1] and work.is_done(1)


@pytest.mark.parametrize("executor", [InProcess(), Threads(workers=2)])
def test_error_keeps_finished(executor: Executor) -> None:
    class Fails(Doubles):
        def make(self, shard: int) -> pa.Table:
            if shard == 2:
                raise UserError("shard 2 can't be read")
            return super().make(shard)

    with pytest.raises(UserError, match="shard 2"):
        run(Fails(), [1, 2, *range(3, 90)], executor, "double")
    assert Doubles().is_done(1) and not Doubles().is_done(89)


def test_threads_work_at_once() -> None:
    meet = threading.Barrier(3, timeout=20)

    class Meets(Doubles):
        def make(self, shard: int) -> pa.Table:
            meet.wait()
            return super().make(shard)

    run(Meets(), [1, 2, 3], Threads(workers=3), "double")


class TestCompute:
    def test_names_an_executor(self) -> None:
        section = {"_target_": "promptroute.runtime.executors.Threads", "workers": 2}
        compute = read_compute({"device": "cpu", "threads": None, "executor": section})
        assert compute.executor == Threads(workers=2) and compute.device == "cpu"
        assert read_compute({"device": "cpu", "threads": None}).executor == InProcess()

    def test_refuses_what_it_lacks(self) -> None:
        with pytest.raises(UserError, match="compute has gpus, which is no setting"):
            read_compute({"device": "cpu", "gpus": 2})
        with pytest.raises(UserError, match=r"c.executor.workers is 0; expected greater than"):
            build({"_target_": "promptroute.runtime.executors.Threads", "workers": 0}, "c.executor", Executor)
