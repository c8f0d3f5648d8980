"""The committed weights and prompts: sizes, types, and that each loads in the ordinary way."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mini.captions import PROMPT_SETS
from mini.write_prompts import read_prompts

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "mini" / "weights"
PARAMS = yaml.safe_load((ROOT / "mini" / "pipeline" / "params.yaml").read_text())
MODELS = PARAMS["measure"]["models"]
pytestmark = pytest.mark.skipif(
    not (WEIGHTS / "clip").is_dir(),
    reason="mini/weights holds no weights yet; `dvc --cd mini/pipeline repro` trains them",
)


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_sizes_and_precision() -> None:
    from safetensors import safe_open

    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt"}
    assert 0 < sum(path.stat().st_size for path in files) <= 25e6
    for path in files:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as tensors:
                kinds = {tensors.get_slice(key).get_dtype() for key in tensors.keys()}  # noqa: SIM118
            # Only batch normalisation's statistics are kept whole: half precision would degrade them.
            assert kinds <= {"F16", "I64", *(["F32"] if path.parent.name == "nima" else [])}, path


@pytest.mark.parametrize("name", MODELS)
def test_models_generate(name: str) -> None:
    from mini.measure import generate, load_model

    torch.set_num_threads(1)
    pipe = load_model(name, "cpu", WEIGHTS)
    call = {**MODELS[name], "steps": 2}
    image = generate(pipe, ["a red circle"], seed=1, **call, batch=1)
    assert image.shape == (1, 64, 64, 3) and image.dtype == np.uint8 and image.std() > 0
    np.testing.assert_array_equal(image, generate(pipe, ["a red circle"], seed=1, **call, batch=1))


def test_clip_and_nima_load() -> None:
    import open_clip

    from mini.train_nima import load_nima, mean_score

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{WEIGHTS / 'clip'}")
    tokens = open_clip.get_tokenizer(f"local-dir:{WEIGHTS / 'clip'}")(["a star", "a red ring"])
    assert model.eval().encode_text(tokens).shape == (2, 128)
    assert preprocess is not None
    score = mean_score(load_nima(WEIGHTS / "nima")(torch.zeros(1, 3, 64, 64)))
    assert 1 <= score.item() <= 10


def test_prompts_match_settings() -> None:
    from mini.captions import sample_captions

    settings = PARAMS["prompts"]
    for name in PROMPT_SETS:
        rows = read_prompts(name, ROOT / "mini" / "prompts")
        assert len(rows) == settings["n"]
        sampled = sample_captions(name, 25, settings["seed"], distinct=True)
        assert rows[:25] == [(caption.text, caption.statement) for caption in sampled]
