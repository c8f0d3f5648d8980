"""A router's text encoders, from the sections that its folder names them by."""

from collections.abc import Collection, Mapping
from pathlib import Path

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.core.plain import Section
from promptroute.encoders.base import TextEncoder
from promptroute.io.cache import digest

OWN = "encoders"
"""Where an encoder that travels with the router lies in its folder."""
PACKAGE = "promptroute.encoders."


def build_encoders(
    sections: Mapping[str, Section], home: Path | None, allow: Collection[str]
) -> dict[str, TextEncoder]:
    """Make all of a router's encoders; those that lie in its folder `home` are read from there.

    Their weights are read when they are first needed.

    Raises:
        UserError: a class is not allowed, or refuses its settings.
    """
    encoders = {}
    for name, section in sections.items():
        own = None if home is None else home / OWN / name
        here = {} if own is None or not own.is_dir() else {"folder": str(own)}
        if own is not None and not here and section.get("folder") is not None:
            raise UserError(f"encoder {name}: folder names a place outside of the router's; train it again")
        encoders[name] = build({**section, **here}, f"encoder {name}", TextEncoder, (PACKAGE, *allow))
    return encoders


def check_fingerprints(
    encoders: Mapping[str, TextEncoder], sections: Mapping[str, Section], expected: Mapping[str, str]
) -> None:
    """Refuse encoders other than those that the predictor was trained with: their vectors would be noise to it.

    Raises:
        UserError: naming the encoder.
    """
    for name, recorded in expected.items():
        found = digest(encoders[name].fingerprint())
        if found != recorded:
            raise UserError(
                f"encoder {name}: the weights or settings of {sections[name].get('model')} on this "
                f"machine are not those that the router was trained with (fingerprint "
                f"{found[:12]}, expected {recorded[:12] or 'a fingerprint, but none is recorded'}); "
                f"install the revision that the router's README names, or train it again"
            )
