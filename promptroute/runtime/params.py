"""params.yaml → plain values and objects. Configuration ends here: no class below a stage sees a file of it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from promptroute.core.component import TARGET, Component, build, locate, no_such_setting
from promptroute.core.errors import UserError
from promptroute.core.names import MODEL_NAME, SCORER_NAME, check_names
from promptroute.core.outputs import Output, full_name
from promptroute.core.plain import Plain, Section
from promptroute.core.text import short

MAX_SEED = 2**32 - 1  # scikit-learn takes no larger one
DEEPEST, MOST = 100, 1_000_000
"""Levels of sections, and settings on one level, at most."""
PLAIN = "prompts published generation evaluate score score.weights split predictor cost policy compute"
NAMED = (
    "models scorers image_encoder text_encoder profiled prompts.sources published.models published.scorers"
)
"""Sections that hold settings, and those that hold a section for each name."""
SETTINGS = {
    "": "about agreement compute cost evaluate generation image_encoder models policy predictor profiled prompts published "
    "recovery score scorers seed split text_encoder uses",
    "evaluate": "resamples",
    "agreement": "votes",
    "prompts": "sources n seed",
    "published": "table models scorers label",
    "published.models.*": "label stem profile hub_id steps",
    "models.*": "label generator profile",
    "profiled.*": "label generator profile",
    "score": "weights scale",
}
"""Section → what is read of it, where no component checks its own settings; `*` stands for any name."""


class Params(Plain):
    """A section of the parameters; a key that it lacks is an error that names those that it has.

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
    if isinstance(value, list):
        return [_params(part, f"{name}[{i}]") for i, part in enumerate(value)]
    return value


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read the composed parameters, and refuse what nothing reads, and names that can't be paths and stage names.

    Raises:
        UserError: the file is absent, is no mapping, holds a `???` that nobody filled in, an unknown setting, a bad
            name, or an invalid seed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run this from the project's top folder, or `make params`")
    params = _read_yaml(path)
    _check_sections(params, path)
    leaves = list(_leaves(params))
    if blanks := [name for name, value in leaves if value == "???"]:  # Hydra's mark of what must be given
        blanks = [name for name in blanks if not name.startswith("uses.")] or blanks  # `uses` only repeats it
        raise UserError(f"{path}: no value for {', '.join(blanks)}; give each with -S NAME=VALUE")
    for name, known in SETTINGS.items():
        _check_settings(params, name.split(".") if name else [], known.split(), path)
    if params.get("recovery") == {}:  # Hydra's `none`
        params["recovery"] = None
    params["published"] = published = {
        "table": None,
        "models": {},
        "scorers": {},
        **(params.get("published") or {}),
    }
    for names, pattern, what in (
        (params.get("models"), MODEL_NAME, "model"),
        (published.get("models"), MODEL_NAME, "model"),
        (published.get("scorers"), SCORER_NAME, "scorer"),
        (params.get("scorers"), SCORER_NAME, "scorers:"),
        (params.get("image_encoder"), SCORER_NAME, "image_encoder:"),
        (params.get("text_encoder"), SCORER_NAME, "text encoder"),
    ):
        check_names(names or {}, pattern, f"{path}: {what}")
    _check_numbers(leaves, path)
    return Params(params)


def _read_yaml(path: Path) -> dict[Any, Any]:
    import yaml

    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: not readable as YAML ({error}); `make params` rewrites it") from error
    except RecursionError as error:
        raise UserError(f"{path}: sections are nested too deeply; `make params` rewrites it") from error
    if not isinstance(params, dict):
        raise UserError(f"{path}: should be a mapping of sections; `make params` rewrites it")
    level: list[Any] = [params]
    for _ in range(DEEPEST):
        level = [
            part
            for whole in level
            if isinstance(whole, dict | list)
            for part in (whole.values() if isinstance(whole, dict) else whole)
        ]
        if len(level) > MOST:  # a few aliases can stand for billions
            raise UserError(f"{path}: holds more than {MOST:,} settings; `make params` rewrites it")
    if level:
        raise UserError(
            f"{path}: sections are nested too deeply, or one contains itself, by an alias; `make params` rewrites it"
        )
    return params


def _check_sections(params: dict[Any, Any], path: Path) -> None:
    """Refuse what is no section where one is read, and a key that is no name; null names nothing, so is empty.

    Raises:
        UserError: naming the section.
    """
    named = NAMED.split()
    for name in (*PLAIN.split(), *named):
        *above, key = name.split(".")
        section = params[above[0]] if above and above[0] in params else {} if above else params
        if key not in section:
            continue
        if section[key] is None and (name in named or name == "published"):
            section[key] = {}
        parts = section[key].items() if name in named and isinstance(section[key], Mapping) else ()
        for place, value in ((name, section[key]), *((f"{name}.{part}", value) for part, value in parts)):
            if not isinstance(value, Mapping):
                raise UserError(f"{path}: {place} is {short(value)}; expected a section of settings")
            if wrong := [one for one in value if not isinstance(one, str)]:
                raise UserError(f"{path}: {place}: {short(wrong[0])} is no name; put quotes around it")
    models = {**params.get("models", {}), **params.get("published", {}).get("models", {})}
    for model, facts in models.items():
        if not isinstance(facts.get("profile"), Mapping | None) or not isinstance(
            facts.get("label"), str | None
        ):
            raise UserError(
                f"{path}: model {model}: label must be a text, and profile a section of settings; correct them"
            )
    if not isinstance(params.get("about"), str | None):
        raise UserError(f"{path}: about is {short(params['about'])}; expected a text, or null")


def _check_numbers(leaves: Iterable[tuple[str, Any]], path: Path) -> None:
    """Refuse a number that no setting can be, and an invalid seed."""
    for name, value in leaves:
        if isinstance(value, int) and abs(value) >= 2**63:
            raise UserError(
                f"{path}: {name} is {short(value)}, which is more than any setting can be; correct it"
            )
        whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEED
        if name.split(".")[-1] == "seed" and not whole and not (value is None and name == "prompts.seed"):
            raise UserError(f"{path}: {name} is {short(value)}; give a whole number from 0 to {MAX_SEED}")


def _check_settings(section: Any, path: list[str], known: list[str], where: Path, name: str = "") -> None:
    """Refuse a setting that nothing reads, in the sections that a path names (`*`: any)."""
    if section is None and name not in ("evaluate", "score"):
        return
    if not isinstance(section, Mapping):
        raise UserError(f"{where}: {name} is {short(section)}; expected a section of settings")
    if path:
        for key in section if path[0] == "*" else [key for key in path[:1] if key in section]:
            _check_settings(section[key], path[1:], known, where, f"{name}.{key}".strip("."))
    elif unknown := [key for key in section if key not in known]:
        key = f"{name}.{unknown[0]}".strip(".")
        raise UserError(f"{where}: {no_such_setting(key, unknown[0], known, name or 'a study')}")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """List every value that is no section and no list, with its dotted name."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}".strip("."))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves(part, f"{name}[{index}]")
    else:
        yield name, value


def named_classes(params: Section) -> list[str]:
    """List the classes that the parameters name: the study's owner trusts them, so its router may name them too."""
    return sorted(
        {value for name, value in _leaves(params) if name.split(".")[-1] == TARGET and isinstance(value, str)}
    )


def study_models(params: Section) -> dict[str, Section]:
    """List the models of a study, in its order: those whose scores are published, then those that generate here.

    Raises:
        UserError: one name stands for both.
    """
    published, generating = params["published"]["models"], params["models"]
    if both := sorted(set(published) & set(generating)):
        raise UserError(
            f"params.yaml: {', '.join(both)} is both in models and in published.models; rename one of them, or "
            f"leave one out, as with -S ~models.{both[0]}"
        )
    return {**published, **generating}


def scorer_outputs(section: object, where: str) -> dict[str, Output]:
    """Give what a scorer declares, by each output's own name. Its settings are read only where they decide that.

    Raises:
        UserError: the section names no class that declares outputs.
    """
    path = section.get(TARGET) if isinstance(section, Mapping) else None
    declared = getattr(locate(path, Component, where), "outputs", None)
    if isinstance(declared, property):
        declared = getattr(build(section, where, Component), "outputs", None)
    if not isinstance(declared, tuple) or not all(isinstance(output, Output) for output in declared):
        raise UserError(f"{where}: {path} is no scorer, as it declares no outputs; name a scorer's class")
    return {output.name: output for output in declared}


def published_output(section: object, where: str) -> Output:
    """Give the one score of a scorer whose scores a table publishes, which holds a column for each scorer.

    Raises:
        UserError: as `scorer_outputs`, or the scorer declares several scores.
    """
    scores = [output for output in scorer_outputs(section, where).values() if output.kind == "score"]
    if len(scores) != 1:
        raise UserError(
            f"{where}: gives {len(scores)} scores, but a published table holds one for each scorer; name another class"
        )
    return scores[0]


def study_outputs(params: Section) -> dict[str, Output]:
    """Give every score of a study by its full name (SCORER.OUTPUT): label, range and direction; no maps or marks.

    Raises:
        UserError: some model of the study can't have one of the scores, or one name stands for two scorers.
    """
    published, own = params["published"], params["scorers"]
    for where, models, scorers, others in (
        ("published.scorers", published["models"], published["scorers"], own),
        ("scorers", params["models"], own, published["scorers"]),
    ):
        if models and (lost := [name for name in others if name not in scorers]):
            raise UserError(
                f"params.yaml: {where} has no {', '.join(lost)}, so {', '.join(models)} would have no such score; "
                f"add it there, or leave it out on the other side, as with -S ~scorers.{lost[0]}"
            )
    outputs: dict[str, Output] = {}
    for where, scorers in (("published.scorers", published["scorers"]), ("scorers", own)):
        for name, section in scorers.items():
            declared = scorer_outputs(section, f"params.yaml: {where}.{name}")
            scores = {
                full_name(name, key): output for key, output in declared.items() if output.kind == "score"
            }
            known = {key: output for key, output in outputs.items() if key.partition(".")[0] == name}
            if known and known != scores:
                raise UserError(
                    f"params.yaml: {name} is one scorer in published.scorers and another in scorers, so their scores "
                    f"can't be compared; rename one of them, or leave one out, as with -S ~scorers.{name}"
                )
            outputs |= scores
    return outputs


def fact_hint(params: Section, model: str, fact: str) -> str:
    """Say how a fact that the cost rule needs is given: a price, or what a model's profile lacks."""
    group = "models" if model in params["models"] else "published.models"
    key = f"cost.prices.{model}" if fact == "price" else f"{group}.{model}.profile.{fact}"
    timed = group == "models" and fact != "price"
    other = "time the models here with -S cost=measured" if timed else "choose another cost"
    return f"give it with -S +{key}=NUMBER, or {other}"
