import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from promptroute.core.errors import UserError
from promptroute.feedback.evaluation import evaluate, selection
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.training import TrainingSettings, epoch_rows, train
from promptroute.runtime.device import one_thread
from tests.feedback import train_apart
from tests.feedback.made import make_examples, make_tokens, settings

APART = Path(train_apart.__file__)


def start(*arguments: str, ranks: int = 1) -> list[subprocess.Popen[str]]:
    """Start a training in processes of their own."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    made = []
    for rank in range(ranks):
        extra = {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | (extra if ranks > 1 else {})
        made.append(
            subprocess.Popen(
                [sys.executable, str(APART), *arguments], env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    return made


def finished(processes: list[subprocess.Popen[str]]) -> list[dict[str, float]]:
    """Wait for a training; return the figures of its epochs."""
    said = [process.communicate(timeout=300) for process in processes]
    assert all(process.returncode == 0 for process in processes), said
    return json.loads(said[0][0].splitlines()[-1])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, float]], Path]:
    folder = tmp_path_factory.mktemp("whole")
    with one_thread():
        return train_apart.run(folder), folder


def same_figures(found: list[dict[str, float]], expected: list[dict[str, float]], tolerance: float) -> None:
    assert [set(one) for one in found] == [set(one) for one in expected]
    for one, other in zip(found, expected, strict=True):
        for name, value in other.items():
            np.testing.assert_allclose(one[name], value, rtol=0, atol=tolerance, err_msg=name)


class TestResume:
    @pytest.mark.slow
    def test_killed_in_mid_epoch(self, uninterrupted: Any, tmp_path: Path) -> None:
        """Bit for bit what an uninterrupted training gives."""
        expected, whole = uninterrupted
        (process,) = start(str(tmp_path), "slow")
        last = tmp_path / "last.safetensors"
        deadline = time.monotonic() + 120
        while not last.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        from safetensors import safe_open

        with safe_open(last, "pt") as file:
            step = json.loads(file.metadata()["history"])["step"]
        assert step % 5, "killed at an epoch's end"
        with one_thread():
            same_figures(train_apart.run(tmp_path), expected, 0)
        for name in ("last.safetensors", "best.safetensors"):
            ours, theirs = load_file(tmp_path / name), load_file(whole / name)
            assert set(ours) == set(theirs)
            assert all(torch.equal(ours[key], theirs[key]) for key in ours), name

    def test_finished_training_is_left_alone(self, uninterrupted: Any) -> None:
        expected, folder = uninterrupted
        before = (folder / "last.safetensors").stat().st_mtime_ns
        with one_thread():
            same_figures(train_apart.run(folder), expected, 0)
        assert (folder / "last.safetensors").stat().st_mtime_ns == before

    def test_checkpoint_of_other_settings(self, uninterrupted: Any) -> None:
        sizes = settings()
        with pytest.raises(UserError, match="a checkpoint of another training"):
            train(
                FeedbackNetwork(sizes), TrainingSettings(epochs=3), make_examples(75, sizes), uninterrupted[1]
            )

    def test_corrupt_checkpoint(self, tmp_path: Path) -> None:
        sizes = settings()
        (tmp_path / "last.safetensors").write_bytes(b"\x10")
        with pytest.raises(UserError, match=r"last\.safetensors: not a checkpoint that can be read"):
            train(FeedbackNetwork(sizes), TrainingSettings(), make_examples(4, sizes), tmp_path)


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(tmp_path: Path) -> None:
    """In double precision, so that rounding isn't taken for a difference, nor the other way round."""
    with one_thread():
        alone = train_apart.run(tmp_path / "one", "double")
    same_figures(finished(start(str(tmp_path / "two"), "double", ranks=2)), alone, 1e-5)


class TestLearning:
    def test_learns(self, trained: Any) -> None:
        network, history = trained
        judged = evaluate(network, make_examples(48, network.settings, 5), make_tokens(), original=True)
        assert judged.figures["words/f1"] > 0.9
        assert judged.figures["heatmap/misalignment/cc"] > 0.6
        assert history.epochs[-1]["loss/loss"] < history.epochs[0]["loss/loss"] / 2

    def test_batch_decides_nothing(self, trained: Any) -> None:
        network, _ = trained
        examples = make_examples(20, network.settings, 7)
        first, second = (evaluate(network, examples, make_tokens(), size).figures for size in (20, 3))
        assert first == pytest.approx(second, abs=1e-5, nan_ok=True)


class TestSettings:
    def test_published_rates(self) -> None:
        """Once an epoch, one epoch late: 2.000e-5 twice, then 1.997e-5, and 1.011e-5 in the last."""
        plan = TrainingSettings(
            learning_rate=2e-5, final_learning_rate=1e-5, schedule="epochs", warm_up=0, epochs=30
        )
        rates = [plan.rate(step, 300, 10) for step in range(0, 300, 10)]
        assert rates[:2] == [2e-5, 2e-5]
        assert rates[2] == pytest.approx(1.997e-5, abs=5e-9) and rates[-1] == pytest.approx(
            1.011e-5, abs=5e-9
        )
        assert plan.rate(9, 300, 10) == plan.rate(0, 300, 10)

    def test_cosine_falls_each_step_after_warm_up(self) -> None:
        plan = TrainingSettings(warm_up=10)
        rates = [plan.rate(step, 100, 10) for step in range(100)]
        assert np.diff(rates[:10]).min() > 0 and np.diff(rates[10:]).max() < 0

    def test_each_epoch_takes_every_row_once(self) -> None:
        plan = TrainingSettings(batch_size=4)
        epochs = [np.concatenate(list(epoch_rows(11, plan, epoch))) for epoch in (0, 1)]
        assert all(sorted(rows) == list(range(11)) for rows in epochs)
        assert list(epochs[0]) != list(epochs[1])

    def test_frozen_weights_stay(self, tmp_path: Path) -> None:
        network = FeedbackNetwork(settings())
        before = {name: value.clone() for name, value in network.state_dict().items()}
        plan = TrainingSettings(epochs=1, frozen=["vit.", "t5."], warm_up=0, average=0.5)
        train(network, plan, make_examples(8, network.settings), tmp_path)
        moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
        assert moved and not any(name.startswith(("vit.", "t5.")) for name in moved)

    def test_all_frozen(self, tmp_path: Path) -> None:
        sizes = settings()
        with pytest.raises(UserError, match="nothing learns"):
            train(FeedbackNetwork(sizes), TrainingSettings(frozen=[""]), make_examples(4, sizes), tmp_path)

    @pytest.mark.parametrize(("variant", "bf16"), [("augmented", False), ("multi-head", True)])
    def test_variants_take_steps(self, variant: str, bf16: bool, tmp_path: Path) -> None:
        network = FeedbackNetwork(settings(variant=variant))
        plan = TrainingSettings(epochs=1, batch_size=8, bf16=bf16, count_padding=True)
        history = train(network, plan, make_examples(16, network.settings), tmp_path)
        assert np.isfinite(history.epochs[0]["loss/loss"])
        assert all(value.dtype == torch.float32 for value in network.parameters())

    def test_selection(self) -> None:
        sizes = settings(scores=["overall"], heatmaps=["misalignment"])
        figures = {
            "score/overall/plcc": 0.5, "score/overall/srcc": float("nan"), "heatmap/misalignment/cc": 0.2,
            "heatmap/misalignment/similarity": 0.3, "heatmap/misalignment/auc_judd": 0.7, "words/f1": 0.1,
        }  # fmt: skip
        assert selection(figures, sizes, "bounded") == pytest.approx((0.25 + 0.4 + 0.1) / 3)
        figures |= {
            "heatmap/misalignment/nss": 2.0, "original/heatmap/misalignment/auc_judd": 0.6,
            "original/seq/precision/macro_avg": 0.6, "original/seq/f1-score/1": 0.2,
        }  # fmt: skip
        assert selection(figures, sizes, "published") == pytest.approx(0.25 + 0.4 + (2 + 0.2 + 0.3 + 0.6) / 4)
