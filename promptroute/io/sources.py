"""Read published files, wherever they lie: in a local folder or at an https address."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptroute.core.component import Component
from promptroute.core.errors import UserError


@dataclass(frozen=True)
class FileRead:
    """What was read: enough to know the same file again, wherever it lay.

    Attributes:
        path: relative to its source, so the same for a folder and an address.
        sha256: of the file's bytes, in hex.
        rows: records that it held.
    """

    path: str
    sha256: str
    rows: int


class Source(Component):
    """The root of a data set: a public address, or a folder with the same layout.

    Where it was read from never enters a result: what is recorded is each file's checksum.

    Settings:
        address: https address without the last slash; or a local folder.
        folder: local folder that is read instead; null: none.
    """

    address: str
    folder: str | None = None

    @property
    def root(self) -> str:
        """The folder or address in force.

        Raises:
            UserError: there is no such folder.
        """
        if self.folder is not None and not Path(self.folder).is_dir():
            raise UserError(f"{self.folder}: no such folder; name a copy of {self.address}, or none")
        return self.folder or self.address

    def place(self, path: str) -> str:
        """Give the full path or address of a file, whether it is there or not."""
        return f"{self.folder or self.address}/{path}"

    def has(self, path: str) -> bool:
        """Tell whether the file is there.

        Raises:
            UserError: the address can't be reached.
        """
        if "://" not in self.root:
            return Path(self.root, path).exists()
        try:
            filesystem, name = self._open(path)
            # Without `strict`, http answers False for a broken connection too, and a study would shrink.
            strict = {"strict": True} if "http" in filesystem.protocol else {}
            return bool(filesystem.exists(name, **strict))
        except Exception as error:
            raise self._unreadable(path, error) from error

    def read(self, path: str) -> tuple[bytes, str]:
        """Return the bytes of the file `path` (relative, with forward slashes) and their SHA-256 in hex.

        Raises:
            UserError: the file is absent or can't be reached; names the places it could come from, and what
                else the folder holds.
        """
        root = self.root
        try:
            if "://" in root:
                filesystem, name = self._open(path)
                content: bytes = filesystem.cat_file(name)
            else:  # by itself, as fsspec reads more into a path than its name (`a::b.csv`)
                content = Path(root, path).read_bytes()
        except FileNotFoundError as error:
            beside = self._beside(path)
            raise UserError(f"{root}/{path}: no such file{beside}; {self._remedy()}") from error
        except Exception as error:  # fsspec passes on whatever its protocol's library raises
            raise self._unreadable(path, error) from error
        return content, hashlib.sha256(content).hexdigest()

    def _open(self, path: str) -> tuple[Any, str]:
        import fsspec

        # Let aiohttp honour HTTPS_PROXY and NO_PROXY, as pip and git do.
        options = {"client_kwargs": {"trust_env": True}} if self.root.startswith(("http:", "https:")) else {}
        filesystem, name = fsspec.core.url_to_fs(f"{self.root}/{path}", **options)
        return filesystem, str(name)

    def _unreadable(self, path: str, error: Exception) -> UserError:
        reason = f"{type(error).__name__}: {error}".strip(": ")
        return UserError(f"{self.root}/{path}: can't be read ({reason}); {self._remedy()}")

    def _beside(self, path: str) -> str:
        """List what a local folder holds, for the message: the nearest folder above `path` that exists."""
        folder = Path(self.root, path).parent
        if "://" in self.root:
            return ""
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        return f" ({folder} holds {held_by(folder)})"

    def _remedy(self) -> str:
        if self.folder is not None:
            return f"name a folder that has it, or none, to read {self.address}"
        return (
            "check the address and the network, or name a local folder that has it"
            if "://" in self.address
            else "check the name"
        )


def held_by(folder: Path) -> str:
    """List what a folder holds, for a message."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"{', '.join(names[:20]) or 'nothing'}{more}"


def read_own(path: str) -> tuple[bytes, str]:
    """Return the bytes of a file on this machine, or at an address, and their SHA-256 in hex.

    Raises:
        UserError: as `Source.read`.
    """
    folder, slash, name = path.rpartition("/")
    return Source(address=folder or slash or ".").read(name)


class Cems(Source):
    """The public repository of CEMS (Lee & Lee, CIKM '24), or a copy of it; see `Source`."""

    address: str = "https://raw.githubusercontent.com/sco-edge/CEMS/main"
