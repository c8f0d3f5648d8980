"""Fill in the section `uses` of the parameters while Hydra composes them; see promptroute/runtime/uses.py.

Hydra imports the modules of this folder before it composes. Importing this one registers `${uses:}`,
`${folder:VARIABLE}` and `${table:WHAT}`, and loads nothing else.
"""

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

HERE = Path(__file__).resolve().parents[1]


def _project() -> Path:
    """Find the project of the current folder; another checkout's copy of this module may be the one imported."""
    here = Path.cwd()
    return next(
        (place for place in (here, *here.parents) if (place / "conf" / "config.yaml").is_file()), HERE
    )


def _import_library() -> None:
    """Let the library be imported where the project isn't installed."""
    import sys

    if str(HERE) not in sys.path:
        sys.path.append(str(HERE))


def _uses(*, _root_: DictConfig) -> DictConfig:
    """Give the section `uses`; first, files that git doesn't track are named by their absolute paths."""
    _import_library()
    from promptroute.runtime.uses import make_absolute, uses

    root = _project()
    groups = ("prompts", "models", "scorers", "image_encoder", "text_encoder", "predictor", "published", "agreement")
    study = {
        group: OmegaConf.to_container(OmegaConf.create(OmegaConf.to_container(_root_[group], resolve=True)))
        for group in groups
        if group in _root_ and _root_[group] is not None
    }
    for group, section in study.items():
        before = OmegaConf.to_container(OmegaConf.create(section))
        make_absolute(section, root)
        if section != before:
            _root_[group] = section
    return OmegaConf.create(uses(study, root))


def _folder(variable: str) -> str | None:
    """Give the absolute path of the folder that an environment variable names; null where it is unset."""
    named = os.environ.get(variable)
    return str(Path(named).resolve()) if named else None


def _table(what: str, *, _root_: DictConfig) -> object:
    """Give what the study's tidy table says of itself: its `models`, `scorers`, `label`, or the `quality` to route on."""
    _import_library()
    from promptroute.runtime.uses import table_facts

    table = OmegaConf.select(_root_, "published.table")
    section = OmegaConf.to_container(table, resolve=True) if table is not None else {}
    return OmegaConf.create({what: table_facts(section, _project())[what]})[what]


OmegaConf.register_new_resolver("table", _table, replace=True, use_cache=False)
OmegaConf.register_new_resolver("uses", _uses, replace=True)
OmegaConf.register_new_resolver("folder", _folder, replace=True)
