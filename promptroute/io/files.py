"""Tables as parquet, facts as JSON; every write is to a temporary name, then renamed."""

import contextlib
import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from promptroute.core.errors import UserError


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends without error.

    Works for a file or a folder (an existing folder is replaced). On an error nothing is left behind and
    what stood at `path` stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    try:
        yield temporary
        if temporary.is_dir() and path.exists():
            _remove(path)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _printable(value: Any, digits: int) -> Any:
    """Plain Python values for JSON: floats to `digits` significant digits, NaN and infinity to null."""
    if isinstance(value, Mapping):
        return {str(key): _printable(part, digits) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(part, digits) for part in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _printable(value.tolist(), digits)
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def write_json(path: Path | str, value: Any, digits: int = 9) -> None:
    """Write JSON for people and for git: indented, floats to `digits` significant digits, NaN as null.

    The last digits of a float differ from machine to machine; nine are more than any figure here means.
    """
    with atomic_path(path) as temporary:
        text = json.dumps(_printable(value, digits), indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is absent or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from error
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); delete it and run `dvc repro`") from error


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
