"""Folders of tiny models, and a generator that needs none."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import PrivateAttr

from promptroute.generators.base import Generated, LocalGenerator
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


class Fake(LocalGenerator):
    """Generates 2 × 3 noise that the prompt and seed decide; notes what it was asked for."""

    batch_size: int = 4
    device: str = "cuda"
    streams: int = 1
    _batches: list[list[tuple[str, int]]] = PrivateAttr(default_factory=list)

    @property
    def batches(self) -> list[list[tuple[str, int]]]:
        return self._batches

    @property
    def asked(self) -> list[tuple[str, int]]:
        return [item for batch in self._batches for item in batch]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        self._batches.append(list(zip(prompts, seeds, strict=True)))
        return [self.image(*item) for item in self._batches[-1]]

    def image(self, prompt: str, seed: int) -> np.ndarray:
        number = int.from_bytes(hashlib.sha256(f"{prompt} {seed}".encode()).digest()[:8])
        return np.random.default_rng(number).random((2, 3, 3), np.float32)
