"""What each part of a study reads besides the pipeline's own files, so that DVC watches it by content.

A study names files in its settings: prompts, tables, weights, a LoRA. DVC must know them as dependencies, or a file
that is changed in place would go unnoticed. `uses` finds them while the configuration is composed, and the stages of
dvc.yaml take them from the section `uses` of the parameters:

    uses:
      models:    {NAME: {weights, parts}}      # at most two places of weights
      scorers:   {NAME: {code, reads}}         # its module; its weights, or the embeddings that it takes
      image_encoder, text_encoder: {NAME: weights}
      predictor: weights
      prompts:   {SOURCE: place}
      published: {SCORER-MODEL: {scorer, model, table}}
"""

import importlib.util
import os
import subprocess
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

from promptroute.core.component import TARGET, Component, locate
from promptroute.core.errors import UserError

NOTHING = "data/none"
"""Holds files that stand where a component names no file on this machine: DVC wants a path for every dependency."""


def uses(study: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Find what the components of a study read.

    Args:
        study: the composed configuration, plain values.
        root: the project's folder; paths in the configuration are relative to it.

    Returns:
        The section described above. Paths below `root` are relative to it; others, and addresses, as they are.
    """
    generators = {name: model["generator"] for name, model in (study.get("models") or {}).items()}
    return {
        "models": {name: _weights(section, root) for name, section in generators.items()},
        "scorers": {name: _scorer(section, root) for name, section in (study.get("scorers") or {}).items()},
        **{
            group: {name: _whole(section, root) for name, section in (study.get(group) or {}).items()}
            for group in ("image_encoder", "text_encoder")
        },
        "predictor": _whole(study.get("predictor") or {}, root),
        "prompts": {
            name: _read_by(section, root)
            for name, section in ((study.get("prompts") or {}).get("sources") or {}).items()
        },
        "published": _published(study.get("published") or {}, root),
    }


def make_absolute(section: MutableMapping[str, Any], root: Path) -> None:
    """Name files that git doesn't track by their absolute path, in place.

    An experiment that DVC queues, or runs in a temporary folder, has only what git tracks: it finds a file of the
    working folder by its absolute path alone.
    """
    for key, value in section.items():
        if isinstance(value, MutableMapping):
            make_absolute(value, root)
        elif (
            isinstance(value, str) and key != TARGET and _is_place(value, root) and not _tracked(value, root)
        ):
            section[key] = str((root / value).resolve())


def _scorer(section: Mapping[str, Any], root: Path) -> dict[str, str]:
    """Name a scorer's module, and what it reads besides images: its weights, or stored embeddings."""
    reads = locate(section.get(TARGET), Component, "scorers").reads(section)
    return {"code": _code(section.get(TARGET), root), "reads": reads or _whole(section, root)}


def _code(target: object, root: Path) -> str:
    """Find the file of a class's module; its package's folder where that lies within a room."""
    module = str(target).rpartition(".")[0]
    rooms = module.split(".")
    if rooms[0] == "promptroute" and len(rooms) > 3:  # promptroute.ROOM.PACKAGE.MODULE
        module = ".".join(rooms[:3])
    try:
        spec = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return f"{NOTHING}/code"  # whoever builds it says what is wrong
    origin = Path(spec.origin)
    place = origin.parent if origin.name == "__init__.py" and rooms[0] == "promptroute" else origin
    if rooms[0] == "promptroute":  # the project's own copy, wherever the installed one lies
        return Path(*place.parts[place.parts.index("promptroute", -len(rooms) - 1) :]).as_posix()
    return _relative(place, root)


def _weights(section: Mapping[str, Any], root: Path) -> dict[str, str]:
    """Give the places on this machine that a model's settings name: the first, and what holds all others."""
    first, *others = _places(section, root) or [f"{NOTHING}/weights"]
    return {"weights": first, "parts": os.path.commonpath(others) if others else f"{NOTHING}/parts"}


def _whole(section: Mapping[str, Any], root: Path) -> str:
    """Give what holds all places on this machine that the settings name: one place, or a folder."""
    places = _places(section, root)
    return os.path.commonpath(places) if places else f"{NOTHING}/weights"


def _places(section: Mapping[str, Any], root: Path) -> list[str]:
    """List the files and folders that the settings name, each once."""
    named = (value for value in _strings(section) if _is_place(value, root))
    return list(dict.fromkeys(_relative(root / place, root) for place in named))


def _read_by(section: Mapping[str, Any], root: Path) -> str:
    """Ask the class of a prompt source which file, folder or address it reads."""
    kind = locate(section.get(TARGET), Component, "prompts.sources")
    place = kind.reads(section)
    if place is None:
        return f"{NOTHING}/prompts"
    return place if "://" in place else _relative(root / place, root)


def _published(section: Mapping[str, Any], root: Path) -> dict[str, dict[str, str]]:
    table = section.get("table")
    if not table:
        return {}
    kind = locate(table.get(TARGET), Component, "published.table")
    found = {}
    for scorer in section["scorers"]:
        for model, facts in section["models"].items():
            place = kind.reads({**table, "scorer": scorer, "stem": facts["stem"]})
            if place is None:
                raise UserError(
                    f"published.table: {kind.__name__} doesn't say which file holds {scorer} of {model}"
                )
            where = place if "://" in place else _relative(root / place, root)
            found[f"{scorer}-{model}"] = {"scorer": scorer, "model": model, "table": where}
    return found


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key != TARGET:
                yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
    elif isinstance(value, str):
        yield value


def _is_place(value: str, root: Path) -> bool:
    """Tell whether a setting names something on this machine: a word that happens to be a folder is no place."""
    return (
        ("/" in value or "." in value) and "\n" not in value and len(value) < 4096 and (root / value).exists()
    )


def _relative(place: Path, root: Path) -> str:
    place = Path(os.path.abspath(place))
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else str(place)


def _tracked(value: str, root: Path) -> bool:
    """Tell whether git has the file, or anything of the folder; outside of git, nothing is to be decided."""
    known = _known_to_git(root)
    place = _relative(root / value, root)
    return known is None or Path(place).is_absolute() or place in known


@cache
def _known_to_git(root: Path) -> frozenset[str] | None:
    """List the files that git tracks, and their folders; None outside of a checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode:
        return None
    files = [Path(name) for name in listed.stdout.split("\0") if name]
    return frozenset(place.as_posix() for file in files for place in (file, *file.parents))
