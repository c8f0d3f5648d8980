"""A router's text encoders, from the sections that its folder names them by."""

import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from promptroute.core.errors import UserError
from promptroute.encoders.base import Encoder

OWN = "encoders"
"""Where an encoder that travels with the router lies in its folder."""
PACKAGE = "promptroute.encoders."


def allowed(section: Mapping[str, Any], where: str, allow: Collection[str]) -> str:
    """Return the class path that a section names.

    Raises:
        UserError: it may not be named.
    """
    path = section.get("_target_")
    known = (PACKAGE, *allow)
    if not isinstance(path, str) or not any(
        path == name or (name.endswith(".") and path.startswith(name)) for name in known
    ):
        raise UserError(
            f"{where}: _target_ is {path}, which this may not name; allowed: {', '.join(sorted(known))}; whoever "
            f"trusts the class allows it by its path"
        )
    return path


def build_encoder(section: Mapping[str, Any], where: str, allow: Collection[str] = ()) -> Encoder:
    """Make a text encoder; its weights are read when they are first needed.

    Raises:
        UserError: the class is not allowed, or refuses its settings.
    """
    module, _, name = allowed(section, where, allow).rpartition(".")
    settings = {key: value for key, value in section.items() if key != "_target_"}
    try:
        encoder: Encoder = getattr(importlib.import_module(module), name)(**settings)
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(f"{where} can't be built ({error}); train the router again") from error
    return encoder


def build_encoders(
    sections: Mapping[str, Mapping[str, Any]], home: Path | None, allow: Collection[str]
) -> dict[str, Encoder]:
    """Make all of a router's encoders; those that lie in its folder `home` are read from there."""
    encoders = {}
    for name, section in sections.items():
        own = None if home is None else home / OWN / name
        here = {} if own is None or not own.is_dir() else {"folder": str(own)}
        encoders[name] = build_encoder({**section, **here}, f"encoder {name}", allow)
    return encoders


def check_fingerprints(
    encoders: Mapping[str, Encoder], sections: Mapping[str, Mapping[str, Any]], expected: Mapping[str, str]
) -> None:
    """Refuse encoders other than those that the predictor was trained with: their vectors would be noise to it.

    Raises:
        UserError: naming the encoder.
    """
    for name, digest in expected.items():
        found = encoders[name].fingerprint
        if found != digest:
            raise UserError(
                f"encoder {name}: the weights or settings of {sections[name].get('model')} on this "
                f"machine are not those that the router was trained with (fingerprint "
                f"{found[:12]}, expected {digest[:12] or 'a fingerprint, but none is recorded'}); "
                f"install the revision that the router's README names, or train it again"
            )
