"""The router folder with nothing of the pipeline around it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from promptroute.core.errors import UserError
from promptroute.router import parts
from promptroute.router.router import Router
from tests.router.test_storage import change
from tests.service.conftest import MINILM, MODELS, ROOT, make_router


def route_elsewhere(folder: Path, home: Path, heavy: str, first: str = "") -> None:
    """Route a prompt in another process, in the folder `home`: none of the packages `heavy` is loaded."""
    code = f"""
import sys
{first}
from promptroute import Router
decision, = Router.load({str(folder)!r}).route(["a robot at night"])
print(decision.model, [name for name in {heavy.split()} if name in sys.modules])
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.stdout.split(maxsplit=1) == ["middle", "[]\n"], ended.stderr


def test_light_anywhere(router_folder: Path, tmp_path: Path) -> None:
    heavy = "dvc hydra omegaconf torch transformers sentence_transformers sklearn pandas pyarrow typer rich fastapi matplotlib"
    route_elsewhere(router_folder, tmp_path, heavy)


def test_card(router_folder: Path) -> None:
    card = (router_folder / "README.md").read_text()
    for model in MODELS:
        assert (
            f"| {model.name} | {model.label} | {1000 * model.cost:.4f} | {model.mean_quality:.4f} |" in card
        )
    assert re.search(r"\| router \| .*100.* \| 5\.3000 \| 0\.5000 \| 5\.3000 \| 1\.0000 \|", card)
    assert "It reads the text alone." in card and "## Limits" in card


def test_card_names_encoder(minilm_folder: Path) -> None:
    facts = json.loads((minilm_folder / "router.json").read_text())
    fingerprint = facts["fingerprints"]["minilm"]
    assert re.fullmatch(r"[0-9a-f]{64}", fingerprint)
    card = (minilm_folder / "README.md").read_text()
    assert f"| minilm | sentence-transformers/all-MiniLM-L6-v2 | not pinned | 384 | `{fingerprint}` |" in card


@pytest.mark.parametrize("recorded", ["0" * 64, None])
def test_recorded_fingerprint_differs(minilm_folder: Path, tmp_path: Path, recorded: str | None) -> None:
    folder = tmp_path / "router"
    shutil.copytree(minilm_folder, folder)
    change(folder, lambda facts: facts.update(fingerprints={"minilm": recorded} if recorded else {}))
    loaded = Router.load(folder)
    with pytest.raises(UserError, match=r"encoder minilm: .* are not those that the router was trained with"):
        loaded.route(["a robot"])


def test_weights_differ(minilm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import load_file, save_file

    from promptroute.encoders.sentence import SentenceEncoder

    shutil.copytree(SentenceEncoder().place(), tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["embeddings.LayerNorm.bias"][0] += 1e-3
    save_file(weights, tmp_path / "model" / "model.safetensors")
    encoder = SentenceEncoder(model=str(tmp_path / "model"))
    monkeypatch.setattr(parts, "build_encoders", lambda *_: {"minilm": encoder})
    with pytest.raises(UserError, match="are not those that the router was trained with"):
        Router.load(minilm_folder).route(["a robot"])


class TestEncoder:
    def test_travels(self, minilm_folder: Path, tmp_path: Path) -> None:
        """The folder alone routes: no weights on the machine, no torch, no transformers."""
        heavy = "torch transformers sentence_transformers onnx huggingface_hub pandas"
        no_weights = "from promptroute.encoders import sentence; sentence.PACKAGES.clear()"
        route_elsewhere(minilm_folder, tmp_path, heavy, no_weights)
        assert not list(tmp_path.iterdir()), "nothing is made again"

    def test_by_checksum(self, minilm_folder: Path, tmp_path: Path) -> None:
        folder = make_router(tmp_path, {"minilm": {**MINILM, "packed": False}})
        assert not (folder / "encoders").exists()
        prompts = ["a robot at night", "a logo"]
        packed, named = (Router.load(one).route(prompts) for one in (minilm_folder, folder))
        assert packed == named

    def test_hostile(self, minilm_folder: Path, tmp_path: Path) -> None:
        """A graph of a stranger's, with every checksum right."""
        from tests.encoders.test_onnx_folder import loop, put

        folder = tmp_path / "router"
        shutil.copytree(minilm_folder, folder)
        put(folder / "encoders" / "minilm", "model.onnx", loop().SerializeToString())
        change(folder, lambda _: None)
        with pytest.raises(UserError, match=r"encoders/minilm: .*names 'If', which no encoder of ours does"):
            Router.load(folder).route(["a robot"])
