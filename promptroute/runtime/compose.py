"""`python -m promptroute.runtime.compose [OVERRIDE ...]`: compose conf/ into params.yaml, and run nothing.

Writes byte for byte what `dvc exp run -S OVERRIDE ...` would.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from promptroute.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def compose(output: Path, overrides: Sequence[str] = ()) -> None:
    """Write the composed parameters to `output`.

    Raises:
        UserError: an override that Hydra refuses; its message lists the options.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException

    try:
        compose_and_dump(str(output), str(ROOT / "conf"), None, "config", str(ROOT), list(overrides))
    except (HydraException, ValueError) as error:  # Hydra raises plain ValueErrors too, as for GROUP=null
        reason = " ".join(str(error).partition("Config search path")[0].split())
        raise UserError(
            f"{' '.join(overrides)}: {reason}; conf/ holds every group and its options"
        ) from error


def main() -> str:
    """Compose into the project's params.yaml."""
    compose(ROOT / "params.yaml", sys.argv[1:])
    return "params.yaml: composed from conf/" + (f" with {' '.join(sys.argv[1:])}" if sys.argv[1:] else "")


if __name__ == "__main__":
    from promptroute.runtime.stage import run_stage

    run_stage(main)
