"""params.yaml → plain values and objects. Config ends here: no class below a stage sees one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.records import MODEL_NAME, SCORER_NAME, BadInput, check_names

Params = dict[str, Any]


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read the composed parameters, and refuse names that can't be paths and stage names.

    Raises:
        BadInput: the file is absent, is no mapping, holds a `???` that nobody filled in, or a bad name.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; run this from the project's top folder, or `make params`")
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not readable as YAML ({error}); `make params` rewrites it") from error
    if not isinstance(params, dict):
        raise BadInput(f"{path}: should be a mapping of sections; `make params` rewrites it")
    if blanks := list(_blanks(params)):
        raise BadInput(f"{path}: no value for {', '.join(blanks)}; give each with -S NAME=VALUE")
    check_names(params.get("models") or {}, MODEL_NAME, "model")
    published = params.get("published") or {}
    check_names(published.get("models") or {}, MODEL_NAME, "model")
    check_names(published.get("scorers") or {}, SCORER_NAME, "scorer")
    check_names((params.get("text") or {}).get("encoders") or {}, SCORER_NAME, "text encoder")
    return params


def _blanks(value: Any, name: str = "") -> "list[str]":
    """Names of the values that are still `???`, Hydra's mark for one that must be given."""
    if isinstance(value, Mapping):
        return [
            blank for key, part in value.items() for blank in _blanks(part, f"{name}.{key}" if name else key)
        ]
    if isinstance(value, list):
        return [blank for index, part in enumerate(value) for blank in _blanks(part, f"{name}[{index}]")]
    return [name] if value == "???" else []


def build(config: Mapping[str, Any], where: str, **given: Any) -> Any:
    """Make the object that a section describes: `_target_` is its dotted path, the rest its arguments.

    Args:
        config: the section, from our own conf/.
        where: the section's name, for the message.
        given: arguments that the stage adds.

    Raises:
        BadInput: no `_target_`, a path that can't be imported, or arguments that the object refuses.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if "_target_" not in config:
        raise BadInput(
            f"params.yaml: {where} has no _target_, so there is nothing to build; see conf/{where.split('.')[0]}/"
        )
    try:
        return instantiate(dict(config), **given, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, BadInput):
            raise cause from error
        reason = cause if cause is not None else str(error).splitlines()[0]
        raise BadInput(f"params.yaml: {where} can't be built as {config['_target_']}: {reason}") from error
