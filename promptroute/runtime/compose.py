"""Compose conf/ into params.yaml, and run nothing: `python -m promptroute.runtime.compose [OVERRIDE ...]`.

Writes byte for byte what `dvc exp run -S OVERRIDE ...` would.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from promptroute.core.errors import UserError, reason

_KEY = re.compile(r"~?\+{0,2}[A-Za-z_$][\w/@:$-]*(\.[\w/@:$-]+)*", re.ASCII)


def compose(output: Path, overrides: Sequence[str] = (), project: Path | None = None) -> None:
    """Write the composed parameters to `output`.

    Args:
        output: the file to write.
        overrides: in Hydra's grammar, as `predictor=ridge`.
        project: the folder that holds `conf/`; the current folder where None.

    Raises:
        UserError: there is no `conf/config.yaml`, or Hydra refuses an override; the message lists the options.
    """
    project = Path.cwd() if project is None else project.resolve()
    if not (project / "conf" / "config.yaml").is_file():
        raise UserError(f"{project}: no conf/config.yaml here; compose in the folder of a project")
    from dvc.utils.hydra import compose_and_dump

    try:
        compose_and_dump(
            str(output), str(project / "conf"), None, "config", str(project), [str(one) for one in overrides]
        )
    except Exception as error:  # also a plain ValueError for GROUP=null, a TypeError for GROUP=[1]
        raise _explained(error, [str(one) for one in overrides]) from error


def _explained(error: BaseException, overrides: Sequence[str]) -> UserError:
    """Say in a line why Hydra composes nothing: our own reason, where a resolver of ours gave it."""
    from hydra.errors import HydraException

    given = " ".join(overrides) or "conf/"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return UserError(f"{given}: {cause}")
        cause = cause.__cause__ or cause.__context__
    found = " ".join(str(error).partition("Config search path")[0].split())
    for override in overrides:
        if fault := _misread(override, "Ambiguous value" in found):
            return UserError(f"{override}: {fault}")
    if not isinstance(error, HydraException | ValueError):
        found = f"Hydra fails on it ({reason(error)})"
    return UserError(f"{given}: {found}; conf/ holds every group and its options")


def _misread(override: str, ambiguous: bool) -> str | None:
    """Say how to write an override that Hydra's grammar can't take; None where it can.

    `ambiguous`: Hydra takes a comma for a list of values, of which it wants one.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    key, equals, value = override.partition("=")
    try:
        OverridesParser.create().parse_override(override)
        if not (ambiguous and "," in value):
            return None
    except Exception:  # the lexer's own, too
        pass
    if not equals or not _KEY.fullmatch(key):
        return "not NAME=VALUE; expected a setting or a group, as seed=1 or predictor=ridge"
    if value[:1] in ("'", '"', "[", "{"):
        return "the value's quotes or brackets don't match; close each that is opened"
    return (
        "Hydra reads some of = ( ) , : # & ' and letters beyond ASCII as its grammar; quote the value, for a shell as "
        f"'{key}=\"{value}\"'"
    )


def compose_params(*overrides: str) -> str:
    """Compose into the current folder's params.yaml; return a line for people."""
    compose(Path("params.yaml"), overrides)
    return "params.yaml: composed from conf/" + (f" with {' '.join(overrides)}" if overrides else "")


if __name__ == "__main__":
    from promptroute.runtime.stage import run_stage

    run_stage(lambda: compose_params(*sys.argv[1:]))
