"""Work that outlives a stage's output, in a git-ignored folder, keyed by the component and the inputs that decide it.

Every file says whose it is and carries checksums. One that is corrupt, or of another component or other inputs, is
treated as absent, so that it is made again.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptroute.core.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


def digest(*parts: object) -> str:
    """Return the SHA-256 in hex of JSON-able values; equal values give equal digests on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def cache_root() -> Path:
    """Return the folder of all cached work.

    It lies below `$DVC_ROOT` (the project's own folder even when DVC runs an experiment in a temporary one), so that
    experiments share it. Delete it at any time: it costs time, not results.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / "cache"


def cache_path(kind: str, fingerprint: object, *inputs: object) -> Path:
    """Return where reusable work is kept, whether it exists yet or not.

    Args:
        kind: a folder for its kind of work.
        fingerprint: `Component.fingerprint()` of what does the work, and whatever else decides every result of it,
            as the device's arithmetic.
        inputs: what it is done to. A change of any gives another path.
    """
    return cache_root() / kind / digest(fingerprint, *inputs)[:32]


@dataclass(frozen=True)
class CacheFile:
    """A table of cached work, whole and its own, or absent.

    Attributes:
        path: where it is kept.
        component: digest of the fingerprint of what made it.
        inputs: digest of what it was made of.
        about: further facts that the file states, as the model whose images were embedded; they decide nothing.
    """

    path: Path
    component: str
    inputs: str
    about: Mapping[str, str]

    @classmethod
    def of(
        cls, kind: str, fingerprint: object, *inputs: object, about: Mapping[str, str] | None = None
    ) -> "CacheFile":
        """Name the file of one piece of work; arguments as `cache_path`."""
        path = cache_path(kind, fingerprint, *inputs).with_suffix(".parquet")
        return cls(path, digest(fingerprint), digest(*inputs), about or {})

    @property
    def origin(self) -> dict[str, str]:
        """Return what the file must say about itself."""
        return {"component": self.component, "inputs": self.inputs}

    def write(self, table: "pa.Table") -> None:
        """Keep a finished table: whole or not at all, with checksums and its origin."""
        from promptroute.io.parquet import write_parquet

        write_parquet(self.path, table, {**self.about, **self.origin})

    def read(self) -> "pa.Table | None":
        """Return the table, or None where the file is absent, corrupt, or of another origin."""
        from promptroute.io.parquet import read_parquet

        try:
            return read_parquet(self.path, "a cached table", expected=self.origin)
        except UserError:
            return None
