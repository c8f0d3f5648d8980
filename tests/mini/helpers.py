"""Captions, settings and comparisons that the tests of this folder share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from mini.captions import PROMPT_SETS, sample_captions
from mini.scenes import Object

CAPTIONS = [caption for name in PROMPT_SETS for caption in sample_captions(name, 8, seed=1)]
TEXTS = [caption.text for caption in CAPTIONS]
RED_CIRCLE = Object("circle", "red", "large", "solid", 32, 32)
any_caption = st.builds(
    lambda name, seed: PROMPT_SETS[name](np.random.default_rng(seed)),
    st.sampled_from(sorted(PROMPT_SETS)),
    st.integers(0, 2**32),
)


def short(steps: int, **values: Any) -> dict[str, Any]:
    """Return settings of a short training."""
    return {"steps": steps, "batch": 8, "learning_rate": 2e-3, "seed": 0, **values}


def falls(losses: list[float], part: int = 5) -> bool:
    """Tell whether the last losses are below the first ones."""
    return float(np.mean(losses[-part:])) < 0.9 * float(np.mean(losses[:part]))


def learns(train: Callable[[float], tuple[Any, list[float]]], rate: float, part: int = 20) -> Any:
    """Train, check that the last losses are below those of the same steps without learning, and return the model."""
    _, still = train(0.0)
    model, losses = train(rate)
    assert np.mean(losses[-part:]) < 0.95 * np.mean(still[-part:])
    return model


def call(folder: Path, **arguments: Any) -> NDArray[np.uint8]:
    """Generate an image with a saved pipeline."""
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(5)
    return np.asarray(pipe("a red circle", generator=generator, output_type="np", **arguments).images[0])
