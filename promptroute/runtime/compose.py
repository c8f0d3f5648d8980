"""Compose conf/ into params.yaml, and run nothing: `python -m promptroute.runtime.compose [OVERRIDE ...]`.

Writes byte for byte what `dvc exp run -S OVERRIDE ...` would.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from promptroute.core.errors import UserError


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
    from hydra.errors import HydraException

    try:
        compose_and_dump(
            str(output), str(project / "conf"), None, "config", str(project), [str(one) for one in overrides]
        )
    except (HydraException, ValueError) as error:  # Hydra raises plain ValueErrors too, as for GROUP=null
        raise _explained(error, [str(one) for one in overrides]) from error


def _explained(error: BaseException, overrides: Sequence[str]) -> UserError:
    """Say in a line why Hydra composes nothing: our own reason, where a resolver of ours gave it."""
    given = " ".join(overrides) or "conf/"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return UserError(f"{given}: {cause}")
        cause = cause.__cause__ or cause.__context__
    reason = " ".join(str(error).partition("Config search path")[0].split())
    grammar = any(
        sign in reason for sign in ("parsing override", "mismatched", "no viable", "Ambiguous value")
    )
    for override in overrides if grammar else ():
        key, _, value = override.partition("=")
        if value[:1] not in ("'", '"', "[", "{") and set(value) & set("=(),:#"):
            return UserError(
                f"{override}: Hydra reads some of = ( ) , : # as its grammar; quote the value, for a shell as "
                f"'{key}=\"{value}\"'"
            )
    return UserError(f"{given}: {reason}; conf/ holds every group and its options")


def compose_params(*overrides: str) -> str:
    """Compose into the current folder's params.yaml; return a line for people."""
    compose(Path("params.yaml"), overrides)
    return "params.yaml: composed from conf/" + (f" with {' '.join(overrides)}" if overrides else "")


if __name__ == "__main__":
    from promptroute.runtime.stage import run_stage

    run_stage(lambda: compose_params(*sys.argv[1:]))
