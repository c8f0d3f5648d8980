"""Work that outlives a stage's output: a git-ignored area beside the project, keyed by what decides it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def fingerprint(*parts: Any) -> str:
    """SHA-256 in hex of JSON-able values; equal values give equal fingerprints on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def cache_path(kind: str, *parts: Any) -> Path:
    """Where a piece of reusable work is kept, whether it exists yet or not.

    Below `$DVC_ROOT` (the project's own folder even when DVC runs an experiment in a temporary one), so
    that experiments share it. Delete the folder `cache/` at any time: it costs time, not results.

    Args:
        kind: a folder for its kind of work.
        parts: everything that decides the work's result. A change of any gives another path.
    """
    root = Path(os.environ.get("DVC_ROOT", "."))
    return root / "cache" / kind / fingerprint(*parts)[:32]
