"""Reference values of the feedback network, and its weights by recipe."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHARED = Path(__file__).parents[3] / "shared" / "golden"
GOLDEN, AUGMENTED = SHARED / "rahf", SHARED / "rahf_augmented"
_MASK = (1 << 64) - 1


def golden(path: Path) -> Path:
    """Give a file of reference values, or skip."""
    if not path.exists():
        pytest.skip(f"the reference values are not at {path}")
    return path


def recipe_values(salt: str, name: str, shape: list[int], offset: float, scale: float) -> np.ndarray:
    """Make a weight by the formula of the reference values: FNV-1a of its name, then SplitMix64."""
    h = 14695981039346656037
    for byte in f"{salt}/{name}".encode():
        h = ((h ^ byte) * 1099511628211) & _MASK
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    u = (z >> np.uint64(40)).astype(np.float64) / 2**24
    return (offset + scale * (2 * u - 1)).astype("<f4").reshape(shape)


def recipe_state(path: Path) -> dict[str, Any]:
    """Make all weights of a recipe file as tensors, their checksums verified; tied names are not repeated."""
    import torch

    recipe = json.loads(golden(path).read_text())
    state = {}
    for name, entry in recipe["tensors"].items():
        values = recipe_values(recipe["salt"], name, entry["shape"], entry["offset"], entry["scale"])
        assert hashlib.sha256(values.tobytes()).hexdigest() == entry["sha256"], name
        state[name] = torch.from_numpy(values)
    return state


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(recipe file, suffix) → a file of its weights, made once."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("checkpoints")

    def made(recipe: Path, suffix: str = ".safetensors") -> Path:
        path = folder / f"{recipe.parent.name}-{recipe.stem}{suffix}"
        if not path.exists():
            state = recipe_state(recipe)
            if suffix == ".safetensors":
                save_file(state, path)
            else:
                tied = json.loads(recipe.read_text())["tied"]
                torch.save(state | {name: state[source] for name, source in tied.items()}, path)
        return path

    return made


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny network that has learnt squares of one colour, and the history of its training."""
    import torch

    from promptroute.feedback.network import FeedbackNetwork
    from promptroute.feedback.training import TrainingSettings, train
    from tests.feedback.made import make_examples, settings

    torch.manual_seed(0)
    network = FeedbackNetwork(settings())
    plan = TrainingSettings(
        epochs=15, batch_size=16, learning_rate=3e-3, warm_up=10, heatmap_loss="cross-entropy"
    )
    history = train(network, plan, make_examples(320, network.settings), tmp_path_factory.mktemp("learning"))
    return network, history


@pytest.fixture(scope="session")
def folder(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network's folder, with its tokenizer."""
    from promptroute.feedback.checkpoint import save
    from tests.feedback.made import make_tokenizer

    place = tmp_path_factory.mktemp("network")
    make_tokenizer().save(str(place / "tokenizer.json"))
    save(trained[0], place / "rahf", place / "tokenizer.json", half=True, threshold=0.4)
    return place / "rahf"
