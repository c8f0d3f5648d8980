"""Settings and folders of this project; its parameters' paths are relative to its folder."""

from pathlib import Path
from typing import Any

import yaml

from promptroute.core.errors import UserError

PROJECT = Path("richhf")
DATA = PROJECT / "data"
SHARDS, NETWORK = DATA / "shards", DATA / "network"


def load_params() -> dict[str, Any]:
    """Read the project's parameters.

    Raises:
        UserError: the file is missing.
    """
    path = PROJECT / "params.yaml"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run from the repository's root")
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def place(value: str) -> Path:
    """Return the path that a parameter names."""
    return PROJECT / value
