"""What each part of a study reads besides the pipeline's own files, so that DVC watches it by content.

A study names files in its settings: prompts, tables, weights, a LoRA. DVC must know them as dependencies, or a file
that is changed in place would go unnoticed. `uses` finds them while the configuration is composed, and the stages of
dvc.yaml take them from the section `uses` of the parameters:

    uses:
      models:    {NAME: {weights, parts}}      # at most two places of weights
      scorers:   {NAME: {code, reads}}         # its module; its weights, or the embeddings that it takes
      image_encoder, text_encoder: {NAME: weights}
      predictor: weights
      recovery:  {prompts: weights}            # none where the study names no recovery
      trip:      as models                     # likewise
      recovered: place                         # figures of the recovery
      agreement: place
      prompts:   {SOURCE: place}
      published: {SCORER-MODEL: {scorer, model, table}}
"""

import importlib.util
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from promptroute.core.component import TARGET, Component, build, locate
from promptroute.core.plain import Plain, Section

NOTHING = "data/none"
"""Holds files that stand where a component names no file on this machine: DVC wants a path for every dependency."""
RECOVERED = "metrics/recovery.json"
"""What the stage `recover` measures, where there is one."""


def uses(study: Section, root: Path) -> Plain:
    """Find what the components of a study read.

    Args:
        study: the composed configuration, plain values.
        root: the project's folder; paths in the configuration are relative to it.

    Returns:
        The section described above. Paths below `root` are relative to it; others, and addresses, as they are.
    """

    def each(section: object, find: Callable[[object, Path], object]) -> Plain:
        return {name: find(part, root) for name, part in _mapping(section).items()}

    models = each(study.get("models"), lambda model, root: _weights(_mapping(model).get("generator"), root))
    recovery = study.get("recovery")
    return {
        "models": models,
        "scorers": each(study.get("scorers"), _scorer),
        "image_encoder": each(study.get("image_encoder"), _whole),
        "text_encoder": each(study.get("text_encoder"), _whole),
        "predictor": _whole(study.get("predictor"), root),
        # Stages of their own: where there is no recovery, there is nothing to run.
        "recovery": {"prompts": _whole(recovery, root)} if recovery else {},
        "trip": models if recovery else {},
        "recovered": RECOVERED if recovery else f"{NOTHING}/figures",
        "agreement": _whole(study.get("agreement"), root),
        "prompts": each(_mapping(study.get("prompts")).get("sources"), _read_by),
        "published": _published(_mapping(study.get("published")), root),
    }


def table_facts(section: Section, root: Path) -> Plain:
    """Give what a tidy table says of itself, so that nobody lists it by hand: models, scorers, label, quality.

    Args:
        section: the table's; where there is none, or its files aren't named yet (`???`), nothing is said.
        root: the project's folder; paths are relative to it.

    Returns:
        `models` and `scorers` as `published` takes them, `label`, and `quality`: the weights of its first score.

    Raises:
        UserError: the table can't be read.
    """
    if not section or "???" in section.values():
        return {"models": {}, "scorers": {}, "label": "", "quality": {}}
    paths = {name: str(section[name]) for name in ("prompts", "scores", "votes") if name in section}
    files = {name: path if "://" in path else str(root / path) for name, path in paths.items()}
    changed = tuple(Path(file).stat().st_mtime_ns if Path(file).exists() else 0 for file in files.values())
    return _table_facts(json.dumps({**section, **files}), changed)


@lru_cache(maxsize=1)
def _table_facts(section: str, changed: tuple[int, ...]) -> Plain:
    """Read a table once, however often its facts are asked for; `changed` are its files' times."""
    from promptroute.io.tidy import TidyTable

    table = build(json.loads(section), "published.table", TidyTable)
    scorers = table.scorers()
    quality = {next(iter(scorers)): {"score": 1.0}}
    return {"models": table.models(), "scorers": scorers, "label": table.label(), "quality": quality}


def _mapping(section: object) -> Section:
    """Give a section, or an empty one where it is none: whoever reads the parameters says what is wrong with it."""
    return section if isinstance(section, Mapping) else {}


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


def _scorer(section: object, root: Path) -> dict[str, str]:
    """Name a scorer's module, and what it reads besides images: its weights, or stored embeddings."""
    read = _reads(section, "scorers")
    return {"code": _code(_mapping(section).get(TARGET), root), "reads": read or _whole(section, root)}


def _reads(section: object, where: str) -> str | None:
    """Ask a section's class what it reads; None also where settings are invalid, as whoever builds it says how."""
    kind = locate(_mapping(section).get(TARGET), Component, where)
    try:
        place = kind.reads(_mapping(section))
    except (KeyError, TypeError, AttributeError):
        return None
    return place if isinstance(place, str) else None


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
        return Path(*place.parts[-len(module.split(".")) :]).as_posix()
    return _relative(place, root)


def _weights(section: object, root: Path) -> dict[str, str]:
    """Give the places on this machine that a model's settings name: the first, and what holds all others."""
    first, *others = _places(section, root) or [f"{NOTHING}/weights"]
    return {"weights": first, "parts": _together(others, root) if others else f"{NOTHING}/parts"}


def _whole(section: object, root: Path) -> str:
    """Give what holds all places on this machine that the settings name: one place, or a folder."""
    places = _places(section, root)
    return _together(places, root) if places else f"{NOTHING}/weights"


def _together(places: list[str], root: Path) -> str:
    """Give the folder that holds several places; the first where that holds the whole project, too."""
    shared = Path(os.path.commonpath([root / place for place in places]))
    return places[0] if shared in root.parents else _relative(shared, root)


def _places(section: object, root: Path) -> list[str]:
    """List the files and folders that the settings name, each once."""
    named = (value for value in _strings(section) if _is_place(value, root))
    return list(dict.fromkeys(_named(place, root) for place in named))


def _read_by(section: object, root: Path) -> str:
    """Ask the class of a prompt source which file, folder or address it reads."""
    place = _reads(section, "prompts.sources")
    return f"{NOTHING}/prompts" if place is None else _named(place, root)


def _published(section: Section, root: Path) -> dict[str, dict[str, str]]:
    """Name the file of each scorer and model of a published table."""
    found = {}
    for scorer in _mapping(section.get("scorers")) if section.get("table") else ():
        for model, facts in _mapping(section.get("models")).items():
            named = {**_mapping(section["table"]), "scorer": scorer, "stem": _mapping(facts).get("stem")}
            place = _reads(named, "published.table")
            where = f"{NOTHING}/prompts" if place is None else _named(place, root)
            found[f"{scorer}-{model}"] = {"scorer": scorer, "model": model, "table": where}
    return found


def _strings(value: object) -> Iterator[str]:
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


def _named(place: str, root: Path) -> str:
    """Name a place for DVC: relative to the project, but where it is named by its absolute path or an address."""
    return place if "://" in place or Path(place).is_absolute() else _relative(root / place, root)


def _relative(place: Path, root: Path) -> str:
    place = Path(os.path.abspath(place))
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else str(place)


def _tracked(value: str, root: Path) -> bool:
    """Tell whether git has the file, or the folder and all in it; outside of git, nothing is to be decided."""
    place = _relative(root / value, root)
    if Path(place).is_absolute():
        return True
    known, others = _ls_files(root, place), _ls_files(root, place, "--others")
    if known is None or others is None:
        return True
    # What begins with a dot, and Python's caches, are no part of anybody's data.
    lost = [
        name
        for name in others
        if not any(part[0] == "." or part == "__pycache__" for part in Path(name).parts)
    ]
    return bool(known) and not lost


@cache
def _ls_files(root: Path, place: str, *options: str) -> list[str] | None:
    """List the files of a place that git tracks, or with `--others` doesn't; None outside of a checkout."""
    command = ["git", "ls-files", "-z", *options, "--", place]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return None if listed.returncode else [name for name in listed.stdout.split("\0") if name]
