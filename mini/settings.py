"""Settings and folders of the training pipeline, mini/pipeline; paths are relative to the repository's root."""

from pathlib import Path
from typing import Any

import yaml

from promptroute.core.errors import UserError

PIPELINE = Path("mini/pipeline")
FILE = PIPELINE / "params.yaml"
DATA = PIPELINE / "data"
WEIGHTS = DATA / "weights"


def load_settings(section: str) -> dict[str, Any]:
    """Read a section of the training pipeline's parameters.

    Raises:
        UserError: the file or the section is missing.
    """
    if not FILE.is_file():
        raise UserError(f"{FILE}: no such file; run from the repository's root")
    sections: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    if section not in sections:
        raise UserError(f"{FILE}: no section {section!r}; it has {', '.join(sections)}")
    return sections[section]
