"""Find the components of a room, so that a contract test needs no list of them."""

import importlib
import inspect
import pkgutil
from typing import TypeVar

from promptroute.core.component import Component

Kind = TypeVar("Kind", bound=Component)


def concrete(package: str, kind: type[Kind]) -> list[type[Kind]]:
    """Return the concrete classes of a kind that a package's modules define, by name."""
    path = importlib.import_module(package).__path__
    found = set()
    for info in pkgutil.walk_packages(path, f"{package}."):
        for _, value in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
            if issubclass(value, kind) and value.__module__ == info.name and not inspect.isabstract(value):
                found.add(value)
    return sorted(found, key=lambda one: one.__name__)


def undocumented(found: type[Component]) -> list[str]:
    """Return the settings that no docstring of the class or its bases names."""
    text = "\n".join(base.__doc__ or "" for base in found.__mro__ if issubclass(base, Component))
    described = {
        name.strip()
        for line in text.splitlines()
        if ": " in line
        for name in line.partition(":")[0].split(",")
    }
    return [name for name in found.model_fields if name not in described]
