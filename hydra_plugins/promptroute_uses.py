"""Fill in the section `uses` of the parameters while Hydra composes them; see promptroute/runtime/uses.py.

Hydra imports the modules of this folder before it composes. Importing this one registers `${uses:}` and
`${folder:VARIABLE}`, and loads nothing else.
"""

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[1]


def _uses(*, _root_: DictConfig) -> DictConfig:
    """Give the section `uses`; first, files that git doesn't track are named by their absolute paths."""
    import sys

    if str(ROOT) not in sys.path:  # where the project isn't installed
        sys.path.append(str(ROOT))
    from promptroute.runtime.uses import make_absolute, uses

    groups = ("prompts", "models", "scorers", "image_encoder", "text_encoder", "predictor", "published")
    study = {
        group: OmegaConf.to_container(OmegaConf.create(OmegaConf.to_container(_root_[group], resolve=True)))
        for group in groups
        if group in _root_ and _root_[group] is not None
    }
    for group, section in study.items():
        before = OmegaConf.to_container(OmegaConf.create(section))
        make_absolute(section, ROOT)
        if section != before:
            _root_[group] = section
    return OmegaConf.create(uses(study, ROOT))


def _folder(variable: str) -> str | None:
    """Give the absolute path of the folder that an environment variable names; null where it is unset."""
    named = os.environ.get(variable)
    return str(Path(named).resolve()) if named else None


OmegaConf.register_new_resolver("uses", _uses, replace=True)
OmegaConf.register_new_resolver("folder", _folder, replace=True)
