"""Save and load predictor folders."""

from collections.abc import Collection
from pathlib import Path

from promptroute.predictors.base import Predictor


def save_predictor(predictor: Predictor, folder: Path | str) -> None:
    """Write a fitted predictor; see `Predictor.save`."""
    predictor.save(folder)


def load_predictor(folder: Path | str, allow: Collection[str] = ()) -> Predictor:
    """Read a predictor of any class; see `Predictor.load`."""
    return Predictor.load(folder, allow)
