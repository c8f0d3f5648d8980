"""The router folder with nothing of the pipeline around it."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from promptroute.core.errors import UserError
from promptroute.router import router
from promptroute.router.encoders import build_encoders
from promptroute.router.router import Router
from tests.service.conftest import MODELS, ROOT


def test_it_routes_from_anywhere_without_dvc_hydra_torch_or_parameters(
    router_folder: Path, tmp_path: Path
) -> None:
    code = f"""
import sys
from promptroute import Router
decision, = Router.load({str(router_folder)!r}).route(["a robot at night"])
heavy = "dvc hydra omegaconf torch transformers sentence_transformers sklearn fastapi matplotlib".split()
print(decision.model, [name for name in heavy if name in sys.modules])
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.stdout.split(maxsplit=1) == ["middle", "[]\n"], ended.stderr


def test_the_card_says_what_the_folder_is(router_folder: Path) -> None:
    card = (router_folder / "README.md").read_text()
    for model in MODELS:
        assert (
            f"| {model.name} | {model.label} | {1000 * model.cost:.4f} | {model.mean_quality:.4f} |" in card
        )
    assert "| router | cost-aware, to keep quality: λ = 100 quality per dollar | 5.3000 | 0.5000 |" in card
    assert "It reads the text alone." in card and "## Limits" in card


def test_the_card_names_the_encoder_by_fingerprint(minilm_folder: Path) -> None:
    facts = json.loads((minilm_folder / "router.json").read_text())
    fingerprint = facts["fingerprints"]["minilm"]
    assert re.fullmatch(r"[0-9a-f]{64}", fingerprint)
    card = (minilm_folder / "README.md").read_text()
    assert f"| minilm | sentence-transformers/all-MiniLM-L6-v2 | not pinned | 384 | `{fingerprint}` |" in card


@pytest.mark.parametrize("recorded", ["0" * 64, None])
def test_other_encoder_weights_are_refused(minilm_folder: Path, recorded: str | None) -> None:
    loaded = dataclasses.replace(Router.load(minilm_folder), fingerprints={"minilm": recorded or ""})
    with pytest.raises(UserError, match=r"encoder minilm: .* are not those that the router was trained with"):
        loaded.route(["a robot"])


def test_really_other_weights_are_refused(minilm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    loaded = Router.load(minilm_folder)
    encoder = build_encoders(loaded.encoders, loaded.home, ())["minilm"]
    with torch.no_grad():
        next(encoder._network.parameters()).view(-1)[0] += 1e-3  # type: ignore[attr-defined]
    monkeypatch.setattr(router, "build_encoders", lambda *_: {"minilm": encoder})
    with pytest.raises(UserError, match="are not those that the router was trained with"):
        loaded.route(["a robot"])


def test_only_what_may_be_chosen_is_chosen(router_folder: Path) -> None:
    loaded = Router.load(router_folder)
    (one,) = loaded.route(["a portrait in oil"], models=["cheap", "middle"])
    assert one.model in ("cheap", "middle") and list(one.quality) == ["dear", "middle", "cheap"]
    assert "Dear" not in one.reason, "what may not be chosen is no yardstick"
    with pytest.raises(UserError, match="model 'none' is unknown; expected some of dear, middle, cheap"):
        loaded.route(["a robot"], models=["none"])
    with pytest.raises(UserError, match="give one of them, not both"):
        loaded.route(["a robot"], tradeoff=1.0, slack=1.0)
    with pytest.raises(UserError, match="tradeoff is -1"):
        loaded.route(["a robot"], tradeoff=-1.0)
