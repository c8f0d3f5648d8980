import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from promptroute import feedback
from promptroute.core.errors import UserError
from promptroute.feedback.checkpoint import TIED, current_name, load, read_state, save, start
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.settings import NetworkSettings, read_settings
from tests.feedback.conftest import GOLDEN, golden
from tests.feedback.made import SETTINGS, settings


def old_name(name: str) -> str:
    """Call a weight as transformers 4 did."""
    for new, old in (
        ("attention.q_proj", "attention.attention.query"), ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"), ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
    ):  # fmt: skip
        if name.startswith("vit.layers."):
            name = name.replace(new, old)
    return name.replace("vit.layers.", "vit.encoder.layer.")


@pytest.fixture
def public(tmp_path: Path) -> tuple[Path, FeedbackNetwork]:
    """A small network as the public checkpoint is stored: a torch file, old names, the embedding four times."""
    torch.manual_seed(1)
    network = FeedbackNetwork(settings())
    torch.save({old_name(name): value for name, value in network.state_dict().items()}, tmp_path / "model.pt")
    return tmp_path / "model.pt", network.eval()


class TestNames:
    def test_layout_of_the_public_checkpoint(self) -> None:
        """Of its 842 names 384 are renamed, and all are the network's own, with their shapes."""
        layout = json.loads(golden(GOLDEN / "rahf_multi_head_checkpoint_layout.json").read_text())
        renamed = {name: current_name(name) for name in layout}
        assert len(layout) == 842 and sum(old != new for old, new in renamed.items()) == 384
        with torch.device("meta"):
            network = FeedbackNetwork(NetworkSettings())
        own = {name: list(value.shape) for name, value in network.state_dict().items()}
        assert {renamed[name]: entry[0] for name, entry in layout.items()} == own
        distinct = sum(value.numel() for name, value in network.state_dict().items() if name not in TIED)
        assert distinct == 642_612_710


class TestConvert:
    def test_same_predictions(self, public: Any, tmp_path: Path) -> None:
        path, network = public
        assert feedback.convert(path, tmp_path / "out", network.settings) == 16
        converted = load(tmp_path / "out")
        assert converted.attention_mask is False
        for name, value in network.state_dict().items():
            assert torch.equal(value, converted.state_dict()[name])
        assert not set(load_file(tmp_path / "out" / "model.safetensors")) & set(TIED)

    def test_command(self, public: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from functools import partial

        from richhf import convert

        monkeypatch.setattr(convert, "convert", partial(feedback.convert, config=settings()))
        (tmp_path / "t5.json").write_text("{}")
        said = convert.main(str(public[0]), str(tmp_path / "out"), str(tmp_path / "t5.json"))
        assert "16 weights renamed" in said and (tmp_path / "out" / "tokenizer.json").read_text() == "{}"

    def test_old_format_of_torch(self, public: Any, tmp_path: Path) -> None:
        path, network = public
        state = torch.load(path, weights_only=True)
        torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
        assert torch.equal(read_state(tmp_path / "old.bin")["t5.shared.weight"], network.t5.shared.weight)

    def test_half_precision(self, public: Any, tmp_path: Path) -> None:
        _, network = public
        save(network, tmp_path / "half", half=True)
        assert all(
            v.dtype == torch.float16 for v in load_file(tmp_path / "half" / "model.safetensors").values()
        )
        assert next(load(tmp_path / "half").parameters()).dtype == torch.float32

    def test_start_from_pretrained(self, public: Any, tmp_path: Path) -> None:
        _, network = public
        for prefix in ("vit", "t5"):
            part = {
                (old_name(name) if prefix == "vit" else name.removeprefix("t5.")): value.clone()
                for name, value in network.state_dict().items()
                if name.startswith(prefix) and name not in TIED and "pooler" not in name
            }
            (tmp_path / prefix).mkdir()
            save_file(part | {"classifier.weight": torch.zeros(2)}, tmp_path / prefix / "model.safetensors")
        fresh = FeedbackNetwork(settings())
        head = fresh.visual_token_projection.weight.clone()
        start(fresh, tmp_path / "vit", tmp_path / "t5")
        assert torch.equal(fresh.t5.shared.weight, network.t5.shared.weight)
        assert torch.equal(fresh.vit.layers[0].mlp.fc1.weight, network.vit.layers[0].mlp.fc1.weight)
        assert torch.equal(fresh.visual_token_projection.weight, head)
        with pytest.raises(UserError, match="lack"):
            start(fresh, tmp_path / "vit", tmp_path / "vit")


class TestBadCheckpoints:
    """Each is one clear error."""

    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such file of weights"):
            feedback.from_checkpoint(tmp_path / "none.pt", SETTINGS)

    def test_pointer(self, tmp_path: Path) -> None:
        (tmp_path / "x.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        with pytest.raises(UserError, match="a Git LFS pointer"):
            feedback.from_checkpoint(tmp_path / "x.pt", SETTINGS)

    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_cut_off(self, public: Any, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(public[0].read_bytes()[:5000])
        with pytest.raises(UserError, match=r"not a (file of tensors|readable safetensors)"):
            feedback.from_checkpoint(path, SETTINGS)

    def test_pickled_code_is_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> Any:
                return (Path.touch, (tmp_path / "ran",))

        torch.save({"x": Evil()}, tmp_path / "x.pt")
        (tmp_path / "y.pt").write_bytes(pickle.dumps(Evil()))
        for name in ("x.pt", "y.pt"):
            with pytest.raises(UserError, match="not a file of tensors"):
                feedback.from_checkpoint(tmp_path / name, SETTINGS)
        assert not (tmp_path / "ran").exists()

    def test_no_state_dict(self, tmp_path: Path) -> None:
        torch.save([torch.zeros(1)], tmp_path / "x.pt")
        with pytest.raises(UserError, match="other things than named tensors"):
            read_state(tmp_path / "x.pt")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda state: state.pop("vit.layernorm.weight"), r"lacks 1 \(vit.layernorm.weight"),
            (lambda state: state.update(extra=torch.zeros(1)), r"has unexpected 1 \(extra"),
            (lambda state: state.update({"vit.layernorm.weight": torch.zeros(3)}), r"vit.layernorm.weight has shape \(3,\), expected \(24,\)"),
            (lambda state: state.update({"t5.lm_head.weight": torch.zeros(16, 32)}), "differs from t5.shared.weight"),
        ],
    )  # fmt: skip
    def test_keys(self, public: Any, tmp_path: Path, change: Any, said: str) -> None:
        state = torch.load(public[0], weights_only=True)
        change(state)
        torch.save(state, tmp_path / "x.pt")
        with pytest.raises(UserError, match=said):
            feedback.from_checkpoint(tmp_path / "x.pt", SETTINGS)

    @pytest.mark.parametrize("name", ["mlp", "vit_mlp", "vocabulary"])
    def test_sizes_beyond_memory(self, public: Any, name: str) -> None:
        """They are held against the weights before any memory is taken."""
        with pytest.raises(UserError, match=r"has shape .*, expected \(.*1048576"):
            feedback.from_checkpoint(public[0], SETTINGS | {name: 1 << 20})
        with pytest.raises(UserError, match=name):
            feedback.from_checkpoint(public[0], SETTINGS | {name: 1 << 40})

    def test_other_variant(self, public: Any) -> None:
        with pytest.raises(UserError, match="not weights of this augmented network"):
            feedback.from_checkpoint(public[0], SETTINGS | {"variant": "augmented"})

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"vit": {}, "t5": {}}, "has no 'patch_size'"),
            ({"image_side": 15, "patch_side": 4}, "image_side is 15, which patch_side 4 doesn't divide"),
            ({"variant": "third"}, "variant"),
            ({"unknown": 1}, "unknown"),
        ],
    )  # fmt: skip
    def test_configuration(self, config: dict[str, Any], said: str) -> None:
        with pytest.raises(UserError, match=said):
            read_settings(config)
