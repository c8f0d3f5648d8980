"""Tables as parquet, facts as JSON; every write is to a temporary name, then renamed."""

import contextlib
import functools
import hashlib
import json
import math
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from promptroute.core.errors import NotMade, UserError

AGAIN = "delete it and make it again"


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name; rename it to `path` when the block ends without error.

    Works for a file or a folder (an existing folder is replaced). On an error nothing is left behind and
    what stood at `path` stays. In a DVC project the temporary name lies in cache/tmp, so that a kill leaves nothing
    in a folder that stages depend on; the next run cleans it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_folder(path.parent) / temporary_name(path.name)
    try:
        yield temporary
        if temporary.is_dir() and path.exists():
            _remove(path)
        os.replace(temporary, path)
    except OSError as error:
        # A full disk is met with no name, or with that of nothing kept.
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        _remove(temporary)


_PROCESS = f"{socket.gethostname()}.{os.getpid()}"
_LONG = 7 * 24 * 3600.0
"""Seconds after which a temporary file of another machine, perhaps of a pod that is no more, is nobody's."""


def temporary_name(name: str) -> str:
    """Name a file of cache/tmp that goes once this process has ended, if this process doesn't remove it."""
    return f".{name}.{_PROCESS}.{uuid.uuid4().hex[:8]}"


def temporary_folder(folder: Path) -> Path:
    """Return where files are written that are then renamed into `folder`: on the same file system.

    It is cache/tmp of the DVC project that the folder is part of, and the folder itself where it is of none.
    """
    root = Path(os.environ.get("DVC_ROOT", ".")).resolve()
    here = folder.resolve()
    if not (root / "dvc.yaml").is_file() or not (
        here.is_relative_to(root) or here.is_relative_to(Path.cwd().resolve())
    ):
        return folder
    place = root / "cache" / "tmp"
    place.mkdir(parents=True, exist_ok=True)
    if place.stat().st_dev != here.stat().st_dev:
        return folder
    _remove_left_behind(place)
    return place


@functools.cache
def _remove_left_behind(folder: Path) -> None:
    """Remove, once a process, what ended processes of this machine, or others long ago, left in a temporary folder."""
    for path in folder.iterdir():
        host, _, process = path.name.rpartition(".")[0].rpartition(".")
        if not host or not process.isdecimal():
            continue
        with contextlib.suppress(FileNotFoundError):  # its own process was done with it
            here, age = host.endswith(f".{socket.gethostname()}"), time.time() - path.stat().st_mtime
            if not _is_alive(int(process)) if here else age > _LONG:
                _remove(path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _printable(value: object, digits: int) -> object:
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


def write_json(path: Path | str, value: object, digits: int = 9) -> None:
    """Write JSON for people and for git: indented, floats to `digits` significant digits, NaN as null.

    The last digits of a float differ from machine to machine; nine are more than any figure here means.
    """
    text = json.dumps(_printable(value, digits), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_text(path: Path | str, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path | str, fix: str | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        fix: what to do where it can't be read, for the message; None: it is an output, which is made again.

    Raises:
        UserError: the file is absent or not JSON; `NotMade` without `fix`.
    """
    path, fault = Path(path), UserError if fix else NotMade
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise fault(f"{path}: no such file; {fix or 'make it'}") from error
    except (ValueError, RecursionError, OSError) as error:
        raise fault(f"{path}: not readable as JSON ({error}); {fix or AGAIN}") from error


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
