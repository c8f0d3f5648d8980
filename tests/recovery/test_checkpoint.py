"""The published ensemble: its golden answers on both axes, and checkpoints that are none."""

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from promptroute import recovery
from promptroute.core.errors import UserError
from promptroute.recovery.checkpoint import convert_checkpoint
from tests.recovery.conftest import GOLDEN

NAMES = ("emb_clip", "emb_convnext", "emb_interrogator")


@pytest.fixture(scope="module")
def inputs(golden_checkpoint: Path) -> list[np.ndarray]:
    with np.load(GOLDEN / "ensemble_inputs.npz") as file:
        return [file[name] for name in NAMES]


@pytest.fixture(scope="module")
def outputs(golden_checkpoint: Path) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "ensemble_outputs.npz") as file:
        return dict(file)


def test_golden_weights(golden_state: dict[str, np.ndarray]) -> None:
    recipe = json.loads((GOLDEN / "ensemble_state_recipe.json").read_text())["tensors"]
    for name, value in golden_state.items():
        assert hashlib.sha256(value.tobytes()).hexdigest() == recipe[name]["sha256"], name


class TestBatchAxis:
    """As the published code: over the images of the batch."""

    def test_golden(
        self, golden_checkpoint: Path, inputs: list[np.ndarray], outputs: dict[str, np.ndarray]
    ) -> None:
        network = recovery.ensemble_from_checkpoint(golden_checkpoint, batch_axis=True)
        answer = network.predict(*inputs)
        assert answer.dtype == np.float32 and not network.training
        np.testing.assert_allclose(answer, outputs["batch_of_five"], atol=1e-5)
        first = network.predict(*(rows[:2] for rows in inputs))
        np.testing.assert_allclose(first, outputs["first_two_only"], atol=1e-5)
        for row in range(5):
            alone = network.predict(*(rows[row : row + 1] for rows in inputs))[0]
            np.testing.assert_allclose(alone, outputs["each_alone"][row], atol=1e-5)

    def test_other_views_change_nothing(self, golden_checkpoint: Path, inputs: list[np.ndarray]) -> None:
        network = recovery.ensemble_from_checkpoint(golden_checkpoint, batch_axis=True)
        with np.load(GOLDEN / "ensemble_inputs.npz") as file:
            other = [inputs[0], file["other_emb_convnext"], file["other_emb_interrogator"]]
        np.testing.assert_array_equal(network.predict(*inputs), network.predict(*other))


class TestViewAxis:
    """As it was meant: over the three embeddings of each image."""

    def test_golden(
        self, golden_checkpoint: Path, inputs: list[np.ndarray], outputs: dict[str, np.ndarray]
    ) -> None:
        answer = recovery.ensemble_from_checkpoint(golden_checkpoint).predict(*inputs)
        expected = outputs["batch_of_five_if_attention_ran_over_embeddings"]
        np.testing.assert_allclose(answer, expected, atol=1e-5)

    def test_neighbours_change_nothing(self, golden_checkpoint: Path, inputs: list[np.ndarray]) -> None:
        network = recovery.ensemble_from_checkpoint(golden_checkpoint)
        together = network.predict(*inputs)
        np.testing.assert_allclose(network.predict(*(rows[3:] for rows in inputs)), together[3:], atol=1e-5)

    @pytest.mark.parametrize("which", range(3), ids=NAMES)
    def test_each_view_matters(self, golden_checkpoint: Path, inputs: list[np.ndarray], which: int) -> None:
        network = recovery.ensemble_from_checkpoint(golden_checkpoint)
        other = [rows[::-1] if place == which else rows for place, rows in enumerate(inputs)]
        assert (
            np.abs(network.predict(*other) - network.predict(*inputs))[[0, 1, 3, 4]].max(axis=1).min() > 0.05
        )


def test_converted_once(golden_checkpoint: Path, inputs: list[np.ndarray], tmp_path: Path) -> None:
    convert_checkpoint(golden_checkpoint, tmp_path / "ensemble.safetensors")
    one, other = (
        recovery.ensemble_from_checkpoint(path)
        for path in (golden_checkpoint, tmp_path / "ensemble.safetensors")
    )
    np.testing.assert_array_equal(one.predict(*inputs), other.predict(*inputs))


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('ran code of a checkpoint')",))


class TestBadCheckpoint:
    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none\.ckpt: no such file; give"):
            recovery.ensemble_from_checkpoint(tmp_path / "none.ckpt")

    def test_runs_no_code(self, tmp_path: Path) -> None:
        import torch

        torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
        (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Evil()))
        for name in ("evil.ckpt", "plain.ckpt"):
            with pytest.raises(UserError, match="not readable as weights alone"):
                recovery.ensemble_from_checkpoint(tmp_path / name)

    def test_other_network(self, tmp_path: Path) -> None:
        import torch

        torch.save({"state_dict": {"model.linear_out.bias": torch.zeros(384)}}, tmp_path / "few.ckpt")
        torch.save({"state_dict": {"model.head.bias": torch.zeros(384)}}, tmp_path / "other.ckpt")
        torch.save([1, 2], tmp_path / "list.ckpt")
        for name, said in (
            ("few.ckpt", "not the published ensemble: lacks"),
            ("other.ckpt", r"has model\.head\.bias, which the ensemble doesn't have"),
            ("list.ckpt", "holds no state_dict of tensors"),
        ):
            with pytest.raises(UserError, match=said):
                recovery.ensemble_from_checkpoint(tmp_path / name)

    def test_wrong_shape_or_value(self, golden_state: dict[str, np.ndarray], tmp_path: Path) -> None:
        import torch

        state = {name: torch.from_numpy(value) for name, value in golden_state.items()}
        for value, said in (
            (torch.zeros(5), r"expected \(384,\)"),
            (torch.full((384,), torch.nan), "not finite"),
        ):
            torch.save({"state_dict": {**state, "model.linear_out.bias": value}}, tmp_path / "it.ckpt")
            with pytest.raises(UserError, match=said):
                recovery.ensemble_from_checkpoint(tmp_path / "it.ckpt")

    def test_not_safetensors(self, golden_checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "it.safetensors").write_bytes(b"x" * 40)
        with pytest.raises(UserError, match="not readable as safetensors"):
            recovery.ensemble_from_checkpoint(tmp_path / "it.safetensors")
        with pytest.raises(UserError, match=r"must be called \.safetensors"):
            convert_checkpoint(golden_checkpoint, tmp_path / "it.ckpt")

    def test_wrong_views(self, golden_checkpoint: Path, inputs: list[np.ndarray]) -> None:
        network = recovery.ensemble_from_checkpoint(golden_checkpoint)
        clip, convnext, interrogator = inputs
        with pytest.raises(UserError, match="view convnext is 384 wide, but the learner was fitted on 768"):
            network.predict(clip, interrogator, convnext)
        with pytest.raises(UserError, match="the views are of different images"):
            network.predict(clip[:3], convnext, interrogator)
        clip = clip.copy()
        clip[2, 7] = np.nan
        with pytest.raises(UserError, match="view clip: row 2 holds a value that is not finite"):
            network.predict(clip, convnext, interrogator)


def test_import_is_light() -> None:
    code = (
        "import sys\nfrom promptroute import recovery\nrecovery.Recovery, recovery.cosine([[1, 2]], [[2, 4]])\n"
        "print([name for name in 'torch transformers pandas pyarrow dvc hydra'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
