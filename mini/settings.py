"""The settings of the training pipeline: mini/params.yaml."""

from pathlib import Path
from typing import Any

import yaml

from promptroute.core.errors import UserError

FILE = Path("mini/params.yaml")
WEIGHTS = Path("data/mini/weights")


def load_settings(section: str) -> dict[str, Any]:
    """One section of the training pipeline's parameters.

    Raises:
        UserError: the file or the section isn't there.
    """
    if not FILE.is_file():
        raise UserError(f"{FILE}: no such file; run from the repository's root")
    sections: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    if section not in sections:
        raise UserError(f"{FILE}: no section {section!r}; it has {', '.join(sections)}")
    return sections[section]
