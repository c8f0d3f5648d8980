"""Predictor folders. They may come from anywhere, so what one can make us build is a closed list."""

import importlib
from pathlib import Path

from promptroute.core.errors import UserError
from promptroute.io.files import atomic_path
from promptroute.predictors.base import Predictor, read_facts

KINDS = {
    "mean": "mean:Mean",
    "ridge": "ridge:Ridge",
    "knn": "knn:Knn",
    "mlp": "mlp:Mlp",
    "gbm": "gbm:Gbm",
    "svm": "svm:Svm",
    "kernel": "kernel:Kernel",
    "factorisation": "factorisation:Factorisation",
    "ensemble": "ensemble:Ensemble",
    "cems": "cems:Cems",
    "cems-frozen": "cems_frozen:CemsFrozen",
}
"""kind → module and class in this room. A new predictor adds a line."""


def save_predictor(predictor: Predictor, folder: Path | str) -> None:
    """Write a fitted predictor; the folder is replaced whole, or left as it was.

    Raises:
        UserError: the predictor is not fitted.
    """
    with atomic_path(folder) as temporary:
        predictor.save(temporary)


def load_predictor(folder: Path | str) -> Predictor:
    """Read a folder that `save_predictor` wrote. Runs no code from it, and reads no pickle.

    Raises:
        UserError: the folder is absent or torn, or its kind is not one of `KINDS`.
    """
    kind = read_facts(folder)["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"{folder}: predictor kind {kind!r} is unknown; known: {', '.join(KINDS)}")
    module, name = KINDS[kind].split(":")
    predictor: type[Predictor] = getattr(importlib.import_module(f"promptroute.predictors.{module}"), name)
    return predictor.load(folder)
