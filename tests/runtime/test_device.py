"""Where a stage computes, and what decides last bits there."""

import pytest

from promptroute.core.errors import UserError
from promptroute.runtime import device
from promptroute.runtime.device import arithmetic, read_compute
from promptroute.runtime.executors import Executor


class Elsewhere(Executor):
    """Workers with a card, asked no more than once."""

    name: str

    @property
    def device(self) -> str:
        return "cuda"

    def gpu(self) -> str:
        asked.append(self.name)
        return self.name


asked: list[str] = []


class TestWorkers:
    def test_their_card(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(device._Workers, "executor", None)
        threads = torch.get_num_threads()
        section = {"threads": 3, "executor": {"_target_": f"{__name__}.Elsewhere", "name": "H100"}}
        try:
            assert read_compute(section).device == "cuda" and torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(threads)
        assert asked == [], "nobody is asked before a fingerprint needs it"
        assert [arithmetic("cuda"), arithmetic("cuda")] == [{"gpu": "H100"}] * 2 and asked == ["H100"]

    def test_threads_are_checked(self) -> None:
        section = {"threads": 0, "executor": {"_target_": f"{__name__}.Elsewhere", "name": "H100"}}
        with pytest.raises(UserError, match=r"compute.threads: 0; expected a whole number"):
            read_compute(section)


class TestThreads:
    def test_blas_follows(self) -> None:
        """Else a machine of one core, or OMP_NUM_THREADS=1, gives a predictor of other last bits."""
        import torch
        from threadpoolctl import threadpool_info, threadpool_limits

        before = torch.get_num_threads()
        try:
            with threadpool_limits(None):
                for threads in (1, 2):
                    read_compute({"device": "cpu", "threads": threads})
                    found = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
                    assert found and set(found) == {threads}
        finally:
            torch.set_num_threads(before)
