"""params.yaml → plain values and objects. Config ends here: no class below a stage sees one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptroute.core.errors import UserError
from promptroute.core.rows import MODEL_NAME, SCORER_NAME, check_names

MAX_SEED = 2**32 - 1  # scikit-learn takes no larger one
DRAWS = ("prompts.seed", "prompt_sets.seed")
"""Seeds that may be null: the sources' own order."""


class Params(dict[str, Any]):
    """A section of the parameters, which says what it lacks where a key is asked for in vain.

    Attributes:
        name: its dotted name in params.yaml; empty for the whole.
    """

    def __init__(self, values: Mapping[Any, Any], name: str = "") -> None:
        super().__init__({key: _params(part, f"{name}.{key}".strip(".")) for key, part in values.items()})
        self.name = name

    def __missing__(self, key: str) -> Any:
        where = f"{self.name} has" if self.name else "there is"
        raise UserError(
            f"params.yaml: {where} no {key!r}, only {', '.join(map(str, self)) or 'nothing'}; "
            f"name one of these, or give it with -S +{f'{self.name}.{key}'.strip('.')}=VALUE"
        )


def _params(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return Params(value, name)
    return (
        [_params(part, f"{name}[{i}]") for i, part in enumerate(value)] if isinstance(value, list) else value
    )


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read the composed parameters, and refuse names that can't be paths and stage names.

    Raises:
        UserError: the file is absent, is no mapping, holds a `???` that nobody filled in, a bad name, or a
            seed that is none.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run this from the project's top folder, or `make params`")
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not readable as YAML ({error}); `make params` rewrites it") from error
    if not isinstance(params, dict):
        raise UserError(f"{path}: should be a mapping of sections; `make params` rewrites it")
    if blanks := list(_blanks(params)):
        raise UserError(f"{path}: no value for {', '.join(blanks)}; give each with -S NAME=VALUE")
    check_names(params.get("models") or {}, MODEL_NAME, f"{path}: model")
    published = params.get("published") or {}
    check_names(published.get("models") or {}, MODEL_NAME, f"{path}: model")
    check_names(published.get("scorers") or {}, SCORER_NAME, f"{path}: scorer")
    for section in ("scorers", "image_encoder"):
        check_names(params.get(section) or {}, SCORER_NAME, f"{path}: {section}:")
    check_names(params.get("text_encoder") or {}, SCORER_NAME, f"{path}: text encoder")
    _check_seeds(params, path)
    return Params(params)


def study_models(params: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The models of a study, in its order: those whose scores are published, then those that we draw with.

    Raises:
        UserError: one name stands for both.
    """
    published, drawn = params["published"]["models"], params["models"]
    if twice := sorted(set(published) & set(drawn)):
        raise UserError(
            f"params.yaml: {', '.join(twice)} is both in models and in published.models; rename one of them, or "
            f"leave one out, as with -S ~models.{twice[0]}"
        )
    return {**published, **drawn}


def study_scorers(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is declared of each score of a study: label, direction and range, without what computes it.

    Raises:
        UserError: some model of the study can't have one of the scores.
    """
    published = params["published"]
    drawn = {
        name: {key: value for key, value in settings.items() if key != "scorer"}
        for name, settings in params["scorers"].items()
    }
    for where, models, scorers, others in (
        ("published.scorers", published["models"], published["scorers"], drawn),
        ("scorers", params["models"], drawn, published["scorers"]),
    ):
        if models and (lost := [name for name in others if name not in scorers]):
            raise UserError(
                f"params.yaml: {where} has no {', '.join(lost)}, so {', '.join(models)} would have no such score; "
                f"add it there, or leave it out on the other side, as with -S ~scorers.{lost[0]}"
            )
    return {**published["scorers"], **drawn}


def _check_seeds(value: Any, path: Path, name: str = "") -> None:
    """Refuse seeds that no generator takes, wherever they stand: each library has its own words for them."""
    if not isinstance(value, Mapping):
        return
    for key, part in value.items():
        where = f"{name}.{key}".strip(".")
        _check_seeds(part, path, where)
        whole = isinstance(part, int) and not isinstance(part, bool) and 0 <= part <= MAX_SEED
        if key == "seed" and not whole and not (part is None and where in DRAWS):
            raise UserError(f"{path}: {where} is {part!r}; give a whole number from 0 to {MAX_SEED}")


def plain(value: Any) -> Any:
    """Parameters as ordinary dicts and lists."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


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
        UserError: no `_target_`, a path that can't be imported, or arguments that the object refuses.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if not isinstance(config, Mapping) or "_target_" not in config:
        raise UserError(
            f"params.yaml: {where} has no _target_, so there is nothing to build; "
            f"see conf/{where.split('.')[0]}/ for what can be built"
        )
    try:
        return instantiate(plain(config), **given, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        reason = cause if cause is not None else str(error).splitlines()[0]
        raise UserError(
            f"params.yaml: {where} can't be built as {config['_target_']}: {reason}; "
            f"see conf/{where.split('.')[0]}/ for what it takes"
        ) from error
