"""What the tests of recovery need: the published ensemble's golden checkpoint, and a small world of vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "image_to_prompt"
MASK = np.uint64(0xFFFFFFFFFFFFFFFF)


def golden_values(name: str, salt: str, recipe: dict[str, Any]) -> np.ndarray:
    """Make a tensor of the golden checkpoint, as its README says."""
    state = 14695981039346656037
    for byte in f"{salt}/{name}".encode():
        state = ((state ^ byte) * 1099511628211) % 2**64
    count = int(np.prod(recipe["shape"]))
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    share = (z >> np.uint64(40)).astype(np.float64) / 2**24
    return (recipe["offset"] + recipe["scale"] * (2 * share - 1)).astype(np.float32).reshape(recipe["shape"])


@pytest.fixture(scope="session")
def golden_state() -> dict[str, np.ndarray]:
    """The golden checkpoint's arrays by their published names."""
    if not GOLDEN.is_dir():
        pytest.skip(f"the golden ensemble is not at {GOLDEN}")
    recipe = json.loads((GOLDEN / "ensemble_state_recipe.json").read_text())
    return {name: golden_values(name, recipe["salt"], part) for name, part in recipe["tensors"].items()}


@pytest.fixture(scope="session")
def golden_checkpoint(golden_state: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden checkpoint as the file that the published code writes."""
    import torch

    path = tmp_path_factory.mktemp("golden") / "ensemble.ckpt"
    state = {name: torch.from_numpy(value) for name, value in golden_state.items()}
    torch.save({"epoch": 3, "global_step": 9, "state_dict": state, "loops": {}}, path)
    return path


def small_world(
    prompts: int = 60, images: int = 3, seed: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Make views of images, targets and groups: two views that each know half of what a prompt says."""
    random = np.random.default_rng(seed)
    meaning = np.repeat(random.normal(size=(prompts, 8)), images, axis=0)
    target = np.tanh(meaning @ np.random.default_rng(99).normal(size=(8, 24)))
    views = {}
    for place, (name, width) in enumerate((("left", 20), ("right", 12))):
        known = meaning[:, 3 * place : 3 * place + 5] @ np.random.default_rng(place).normal(size=(5, width))
        views[name] = (5 * place + known + 0.2 * random.normal(size=known.shape)).astype(np.float32)
    return views, target.astype(np.float32), np.repeat(np.arange(prompts), images)
