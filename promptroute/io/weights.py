"""Which weights a model has, told without loading them; and reading them."""

import re
from collections.abc import Mapping
from pathlib import Path

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.io.cache import digest
from promptroute.io.files import sha256

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PARTS = {".safetensors", ".json", ".txt", ".model"}
"""Weights, configurations and tokenizers; no README and no sample images."""


def weights_id(model: str, revision: str | None) -> Mapping[str, str]:
    """Return what names a model's weights for good: a folder's checksum, or a hub id with its commit.

    Args:
        model: path of a folder in the hub's layout, or a hub id.
        revision: the hub's commit, 40 hexadecimal digits; unused for a folder.

    Raises:
        UserError: a hub id without a commit (a branch's weights may change under the same name), a folder
            without weights, or weights kept as a pickle only.
    """
    folder = Path(model)
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.suffix in _PARTS and path.is_file())
        if not any(path.suffix == ".safetensors" for path in files):
            raise UserError(
                f"{model}: the folder holds no .safetensors file; weights in other formats can run code when "
                f"they are read, so save them with save_pretrained(..., safe_serialization=True)"
            )
        sums = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
        return {"sha256": digest(sums)}
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise UserError(f"{model}: no such folder, and no hub id either; give a folder's path, or OWNER/NAME")
    require_commit(f"{model}: no such folder, and as a hub id", revision)
    return {"hub_id": model, "revision": str(revision)}


def require_commit(what: str, revision: str | None) -> None:
    """A branch's weights may change under the same name, so a commit is asked for.

    Raises:
        UserError: the revision is none.
    """
    if revision is None or not _COMMIT.fullmatch(revision):
        raise UserError(
            f"{what} its revision must be a commit, not {revision!r}; "
            f"give 40 hexadecimal digits, from the model page's Files tab"
        )


def read_safetensors(path: Path) -> Plain:
    """Read weights: name → torch tensor, on the CPU.

    Raises:
        UserError: the file is corrupt, or none of safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); fetch it again") from error
