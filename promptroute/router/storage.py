"""A router on disk: JSON, safetensors and a card for people, each file listed with its checksum.

A folder may come from a stranger: its manifest names every file, its schema is closed, and what it may have us
build is a closed list of packages.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from promptroute.core.component import TARGET, locate
from promptroute.core.errors import UserError
from promptroute.core.parsing import first_fault, unique
from promptroute.core.plain import Plain
from promptroute.encoders.base import TextEncoder
from promptroute.io.cache import digest as digest_of
from promptroute.io.files import atomic_path, sha256, write_json
from promptroute.predictors.folder import load_predictor
from promptroute.router.card import model_card
from promptroute.router.encoders import OWN, PACKAGE
from promptroute.router.parts import Parts
from promptroute.router.types import ModelInfo
from promptroute.routing import checks
from promptroute.routing.base import Policy, restore
from promptroute.routing.quality import Quality

FORMAT = 2
FACTS, MANIFEST, ARRAYS, CARD = "router.json", "manifest.json", "arrays.safetensors", "README.md"
PREDICTOR = "predictor"
_BYTES, _DEPTH = 4_000_000, 40  # of our own JSON files, at most
_LINKED = 2**30  # bytes behind a link, at most
_AGAIN = "train it again"
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")

Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Checked = dict[str, JsonValue]

P = TypeVar("P", bound=Parts)


class Stored(BaseModel):
    """router.json, format 2. Arrays of the policies and the digests of seen texts lie in arrays.safetensors."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[2]
    models: tuple[ModelInfo, ...] = Field(min_length=1)
    quality: Quality
    encoders: dict[Name, Checked]
    fingerprints: dict[Name, str]
    policy: Checked
    compared: dict[Name, Checked]
    about: Checked


def save(router: Parts, folder: Path, predictor: Path) -> None:
    """Write the router folder; see `Router.save`. The encoders' weights stay where they are, but for those of an
    encoder that can save itself: it comes along."""
    from safetensors.numpy import save as save_arrays

    policies = {"policy": router.policy, **{f"compared.{k}": p for k, p in router.compared.items()}}
    arrays = {
        f"{place}.{name}": np.ascontiguousarray(values)
        for place, policy in policies.items()
        for name, values in policy.arrays().items()
    }
    fingerprints = {name: digest_of(encoder.fingerprint()) for name, encoder in router.loaded.items()}
    facts = {
        "format": FORMAT,
        "models": [asdict(model) for model in router.models],
        "quality": router.quality.to_json(),
        "encoders": router.encoders,
        "fingerprints": fingerprints,
        "policy": router.policy.to_section(),
        "compared": {name: policy.to_section() for name, policy in router.compared.items()},
        "about": router.about,
    }
    descriptions = {name: dict(encoder.description) for name, encoder in router.loaded.items()}
    with atomic_path(folder) as temporary:
        # out_of_fold.parquet has done its work: it was for calibration.
        if not predictor.is_dir():
            raise FileNotFoundError(f"{predictor}: no such predictor folder")
        for path in sorted(predictor.rglob("*")):
            if path.is_file() and path.name != "out_of_fold.parquet":
                copy = temporary / PREDICTOR / path.relative_to(predictor)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
        write_json(temporary / FACTS, facts, digits=17)
        (temporary / ARRAYS).write_bytes(save_arrays({"seen": np.unique(router.seen), **arrays}))
        for name, encoder in router.loaded.items():
            if (keep := getattr(encoder, "save", None)) is not None:
                keep(temporary / OWN / name)
        card = model_card(router, descriptions, fingerprints)
        (temporary / CARD).write_text(card, encoding="utf-8")
        write_json(temporary / MANIFEST, {path: sha256(temporary / path) for path in _files(temporary)})


def load(kind: type[P], folder: Path, allow: Collection[str] = ()) -> P:
    """Read a router folder as a `kind`; see `Router.load`."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such router folder; train a router, or check the path")
    where = f"{folder / FACTS}"
    facts = _read_json(folder / FACTS)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else None
        why = (
            "an older version wrote it, whose policies were not objects and whose files had no checksums"
            if found == 1
            else f"this version reads format {FORMAT}"
        )
        raise UserError(f"{where}: a router of format {found}, not {FORMAT}: {why}; {_AGAIN}")
    _check_manifest(folder)
    try:
        stored = Stored.model_validate_json((folder / FACTS).read_bytes())
        for name, section in stored.encoders.items():
            locate(section.get(TARGET), TextEncoder, f"{where}: encoder {name}", (PACKAGE, *allow))
        router = kind(**_parts(stored, folder, where, allow))
    except ValidationError as error:
        raise UserError(f"{where}: not a whole router ({first_fault(error)}); {_AGAIN}") from error
    except UserError:
        raise
    except Exception as error:  # of numpy, safetensors, or memory
        raise _broken(where, error) from error
    try:
        check(router)
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(where, error) from error
    return router


def _broken(where: str, error: Exception) -> UserError:
    return UserError(f"{where}: not a whole router ({type(error).__name__}: {error}); {_AGAIN}")


def _parts(stored: Stored, folder: Path, where: str, allow: Collection[str]) -> Plain:
    from safetensors.numpy import load_file

    arrays = load_file(folder / ARRAYS)

    def policy(section: Checked, place: str) -> Policy:
        own = {k.removeprefix(f"{place}."): v for k, v in arrays.items() if k.startswith(f"{place}.")}
        return restore(section, own, f"{where}: {place}", allow)

    return {
        "models": stored.models,
        "quality": stored.quality,
        "predictor": load_predictor(folder / PREDICTOR, allow),
        "encoders": stored.encoders,
        "policy": policy(stored.policy, "policy"),
        "compared": {name: policy(section, f"compared.{name}") for name, section in stored.compared.items()},
        "about": stored.about,
        "fingerprints": {name: stored.fingerprints.get(name, "") for name in stored.encoders},
        "seen": arrays["seen"],
        "home": folder,
        "allow": tuple(allow),
    }


def check(router: Parts) -> None:
    """Refuse parts that don't fit together: the one place where a router is checked, so that no request has to.

    Raises:
        KeyError, TypeError, ValueError: they don't.
    """
    m = len(router.models)
    if router.predictor.models != m or len(set(router.names)) != m:
        raise ValueError(f"{router.predictor.models} models predicted, {list(router.names)} to choose from")
    checks.cost_vector(router.cost, m)
    checks.quality_matrix(router.quality.of({name: np.ones((1, m)) for name in router.quality.scores}))
    for policy in (router.policy, *router.compared.values()):
        policy.check(router.cost, router.encoders)


def _files(folder: Path) -> list[str]:
    """Relative paths of all that a folder holds but the manifest, sorted; folders aside."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found if path != folder / MANIFEST)


def _check_manifest(folder: Path) -> None:
    """Refuse a folder that holds anything else than what its manifest says.

    Raises:
        UserError: a file is missing, foreign, changed or endless, or a path leaves the folder; names it.
    """
    manifest = folder / MANIFEST
    listed = _read_json(manifest)
    if not isinstance(listed, Mapping) or FACTS not in listed:
        raise UserError(f"{manifest}: not a list of the router's files; {_AGAIN}")
    for path in listed:
        if not _PATH.fullmatch(path):
            raise UserError(f"{manifest}: path {path!r} may leave the folder; {_AGAIN}")
    for path in _files(folder):
        if path not in listed or not _may_be_read(folder / path):
            raise UserError(f"{folder / path}: no file of this router; take it out, or {_AGAIN}")
    for path, digest in listed.items():
        if not (folder / path).is_file():
            raise UserError(f"{folder / path}: no such file, but the router needs it; {_AGAIN}")
        if sha256(folder / path) != digest:
            raise UserError(f"{folder / path}: changed since the router was saved (SHA-256); {_AGAIN}")


def _may_be_read(path: Path) -> bool:
    """Tell whether reading a file ends. DVC may put links to its cache for files, and what they name has its checksum too;
    but behind a link may be what never ends (in /proc, that has no size)."""
    return not path.is_symlink() or (path.is_file() and 0 < path.stat().st_size <= _LINKED)


def _read_json(path: Path) -> Any:
    """Read JSON of bounded size and depth.

    Raises:
        UserError: the file is absent, too large, too deep or not JSON.
    """
    try:
        if path.is_fifo() or path.is_char_device():  # they never end
            raise UserError(f"{path}: no file; {_AGAIN}")
        if path.stat().st_size > _BYTES:
            raise UserError(f"{path}: larger than {_BYTES} bytes, so it is no router's; {_AGAIN}")
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {_AGAIN}") from error
    except (ValueError, RecursionError, OSError) as error:
        if isinstance(error, UserError | PermissionError):
            raise
        raise UserError(f"{path}: not readable as JSON ({type(error).__name__}); {_AGAIN}") from error
    level = [value]
    for _ in range(_DEPTH):
        level = [
            part
            for whole in level
            if isinstance(whole, dict | list)
            for part in (whole.values() if isinstance(whole, dict) else whole)
        ]
    if level:
        raise UserError(f"{path}: nested deeper than {_DEPTH} levels, so it is no router's; {_AGAIN}")
    return value
