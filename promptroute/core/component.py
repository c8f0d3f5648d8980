"""One door: a class that a configuration names becomes an object, its settings checked, its results keyed.

A component is a class with typed settings. To add one, write the class and a YAML that names it:

    class Blur(Component):
        radius: float = Field(2.0, gt=0)    # pixels

    _target_: my_package.blur.Blur
    radius: 3

Nothing else knows of it: no registry, no list of kinds. This module imports no library that computes.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Collection, Mapping
from importlib.metadata import version as installed_version
from typing import Any, ClassVar, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from promptroute.core.errors import UserError, reason
from promptroute.core.plain import Plain, Section
from promptroute.core.text import short

TARGET = "_target_"
"""The key of a section that names its class by dotted path."""
_PATH = re.compile(r"(?=.{3,200}$)[^\W\d]\w*(\.[^\W\d]\w*)+")


class Component(BaseModel):
    """A class with settings, named in YAML by its dotted path.

    Each annotated field is a setting; pydantic refuses a wrong type, an unknown key and a value out of range. A
    component changes no setting once it is made. What it loads or learns lies in underscored attributes.

    Raises:
        UserError: a setting is missing, unknown, of the wrong type or out of range; names the first such one.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )

    version: ClassVar[int] = 1
    """Raised by whoever changes what the class computes: what an older version made is then never used again."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions whose version decides a result."""
    incidental: ClassVar[frozenset[str]] = frozenset({"device", "batch_size"})
    """Settings that decide no result, or that `weights` stands for, as a path of weights."""

    @model_validator(mode="wrap")
    @classmethod
    def _named(cls, given: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if inspect.isabstract(cls) and not isinstance(given, cls):
            raise ValueError(f"expected a section that names a class by {TARGET}")
        return handler(given)

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise UserError(f"{type(self).__name__}: {_fault(error, type(self))}") from error

    @classmethod
    def class_path(cls) -> str:
        """Give the dotted path that a configuration names the class by."""
        return f"{cls.__module__}.{cls.__qualname__}"

    def settings(self) -> Plain:
        """Give the settings that differ from their defaults, as plain values; a component in one names its class."""
        given = dict(self)
        return {
            name: _plain(given[name])
            for name, field in type(self).model_fields.items()
            if name != "device"
            and given[name] != field.get_default(call_default_factory=True, validated_data=given)
        }

    def to_section(self) -> Plain:
        """Give the section that `build` makes an equal component of."""
        return {TARGET: self.class_path(), **self.settings()}

    def weights(self) -> Section:
        """Give what names the weights for good (checksums, or hub ids with commits), as JSON-able values.

        May read files, to check-sum them; loads no network.
        """
        return {}

    @classmethod
    def reads(cls, section: Section) -> str | None:
        """Name the file, folder or address that a section of this class reads; None where it reads none.

        Weights needn't be named: a setting that is the path of something on this machine is seen by itself.
        """
        return None

    def fingerprint(self) -> Plain:
        """Give all that decides a result but its input, as JSON-able values: the cache's only key.

        Class, version, every setting that isn't `incidental`, weights, and the versions of the libraries.
        """
        deciding = {
            name: _plain(getattr(self, name), whole=True)
            for name in sorted(type(self).model_fields)
            if name not in self.incidental
        }
        return {
            "class": self.class_path(),
            "version": self.version,
            "settings": deciding,
            "weights": dict(self.weights()),
            "libraries": {name: installed_version(name) for name in self.libraries},
        }


Kind = TypeVar("Kind")


def locate(path: object, kind: type[Kind], where: str, allow: Collection[str] | None = None) -> type[Kind]:
    """Import the component class that a dotted path names.

    Args:
        path: as `promptroute.predictors.ridge.Ridge`.
        kind: what the class must be a subclass of.
        where: who names it, for the message.
        allow: paths, or packages (ending with a dot), that may be named; None allows every one. A folder that may
            come from a stranger gives a closed list, so that it can't choose what is imported.

    Raises:
        UserError: the path isn't allowed, can't be imported, or is no such class.
    """
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise UserError(
            f"{where}: {TARGET} is {short(path)}; expected the dotted path of a class, as {__name__}.Component"
        )
    if allow is not None and not any(
        path == one or (one.endswith(".") and path.startswith(one)) for one in allow
    ):
        raise UserError(
            f"{where}: {TARGET} is {path}, which this may not name; allowed: {', '.join(sorted(allow))}; whoever "
            f"trusts the class allows it by its path"
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise UserError(
            f"{where}: {path} can't be imported ({error}); check the path, or install its package"
        ) from error
    except (Exception, SystemExit) as error:
        # A script that is no module, or a mistake in a user's own class.
        raise UserError(
            f"{where}: {path} can't be imported ({reason(error)}); `python -c 'import {module}'` shows where it fails"
        ) from error
    if not isinstance(found, type):
        raise UserError(f"{where}: {module} has no class {name}; check the name")
    if not issubclass(found, Component) or not issubclass(found, kind):
        raise UserError(f"{where}: {path} is no {kind.__name__}; only components can be named here")
    if inspect.isabstract(found):
        raise UserError(f"{where}: {path} is the kind itself; name a class of it")
    return found


def build(
    section: object, where: str, kind: type[Kind], allow: Collection[str] | None = None, **given: Any
) -> Kind:
    """Make the component that a section describes; sections within it that name a class are made first.

    Args:
        section: `_target_`, and settings.
        where: the section's name, for the message.
        kind: what it must be.
        allow: as `locate`.
        given: settings that the caller adds, as device.

    Raises:
        UserError: as `locate`, or a setting is missing, unknown, of the wrong type or out of range.
    """
    if not isinstance(section, Mapping) or TARGET not in section:
        raise UserError(
            f"{where} has no {TARGET}, so there is nothing to build; give it the dotted path of a class"
        )
    found = locate(section[TARGET], kind, where, allow)
    settings = {
        name: _nested(value, f"{where}.{name}", allow) for name, value in section.items() if name != TARGET
    }
    try:
        return found(**settings, **given)
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            fault = _fault(cause, cast(type[Component], found))
            raise UserError(
                f"{where}.{fault}" if cause.errors()[0]["loc"] else f"{where}: {fault}"
            ) from error
        raise


def _nested(value: object, where: str, allow: Collection[str] | None) -> object:
    if isinstance(value, Mapping):
        if TARGET in value:
            return build(value, where, Component, allow)
        return {name: _nested(part, f"{where}.{name}", allow) for name, part in value.items()}
    if isinstance(value, list):
        return [_nested(part, f"{where}[{index}]", allow) for index, part in enumerate(value)]
    return value


def _plain(value: object, whole: bool = False) -> Any:
    """Turn a setting into JSON-able values; a component into its section, or with `whole` into its fingerprint."""
    if isinstance(value, Component):
        return value.fingerprint() if whole else value.to_section()
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {str(name): _plain(part, whole) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part, whole) for part in value]
    return value


def _fault(error: ValidationError, kind: type[BaseModel]) -> str:
    """Put the first fault of an error into words: the setting, what it is, and what was expected."""
    fault = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return no_such_setting(name, name, kind.model_fields, kind.__name__)
    if fault["type"] == "missing":
        return f"{name} is missing, which {kind.__name__} needs; give it"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if not name:
        return message
    return f"{name} is {short(fault['input'])}; {message}"


def no_such_setting(name: str, key: object, known: Collection[str], what: str) -> str:
    """Say that `what` reads no setting `key`, whose full name is `name`, and which is meant, or which there are."""
    near = difflib.get_close_matches(str(key), known, 1)
    fix = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'none'}"
    return f"{name} is no setting of {what}; {fix}"
