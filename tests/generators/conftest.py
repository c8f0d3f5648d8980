"""Folders of tiny models, and a generator that needs none."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.generators.tiny import save


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """name → folder of a tiny model, in the hub's layout."""
    root, made = tmp_path_factory.mktemp("tiny"), {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save(name, root / name)
        return made[name]

    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The machine that runs the tests has few cores; one thread is quickest for models this small."""
    import torch

    torch.set_num_threads(1)


class Fake:
    """Draws 2 × 3 noise that the prompt and seed decide; notes what it was asked for."""

    def __init__(self, batch_size: int = 4, device: str = "cuda") -> None:
        self.batch_size, self.device, self.streams = batch_size, device, 1
        self.fingerprint_parts: dict[str, Any] = {}
        self.batches: list[list[tuple[str, int]]] = []

    @property
    def drawn(self) -> list[tuple[str, int]]:
        return [item for batch in self.batches for item in batch]

    def load(self) -> None:
        """There is nothing to load."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        self.batches.append(list(zip(prompts, seeds, strict=True)))
        return np.stack([self.picture(*item) for item in self.batches[-1]])

    def picture(self, prompt: str, seed: int) -> np.ndarray:
        number = int.from_bytes(hashlib.sha256(f"{prompt} {seed}".encode()).digest()[:8])
        return np.random.default_rng(number).random((2, 3, 3), np.float32)
