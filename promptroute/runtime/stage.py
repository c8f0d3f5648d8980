"""How a stage or command starts, and how it fails: one line for people, and a status for programs."""

import argparse
import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from promptroute.core.errors import NotMade, UserError
from promptroute.core.text import one_line

REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file is larger than files may be here; raise `ulimit -f`",
    errno.EROFS: "the file system is read-only; make it writable, or work in a folder that is",
    errno.EACCES: "no permission; change its owner or mode",
    errno.EPERM: "no permission; change its owner or mode",
    errno.EMFILE: "too many open files; raise `ulimit -n`",
    errno.EIO: "the disk fails to read or write; check it",
    errno.ENOENT: "no such file or folder; check the path",
    errno.EISDIR: "is a folder, where a file is expected; name a file",
    errno.EBUSY: "is in use and can't be replaced; name another path",
    errno.ENOTDIR: "a part of this path is no folder; check the path",
    errno.ELOOP: "links lead round in a circle; check the path",
    errno.ENAMETOOLONG: "the name is too long; give a shorter one",
}
"""errno → what is wrong with the machine or a path, and the fix; any other `OSError` is a fault of ours."""
PATHS = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Those that say something of a path, and nothing where there is none."""
INTERRUPTED = 130
"""The status of what Ctrl-C ended, as shells give it."""


def stage_arguments(doc: str | None, *names: str, arguments: Sequence[str] | None = None) -> list[str]:
    """Read a stage's command line; `--help` prints its docstring, and a surplus or missing argument ends it.

    Args:
        doc: the stage's docstring.
        names: of the arguments that it takes, for people, as "MODEL".
        arguments: the command line without its program; `sys.argv` where None.

    Returns:
        A value for each of `names`.

    Raises:
        SystemExit: 0 after `--help`, 2 for wrong arguments.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    parser = argparse.ArgumentParser(
        prog=f"python -m {spec.name}" if spec else None,
        description=(doc or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in names:
        parser.add_argument(name)
    given = vars(parser.parse_args(arguments))
    return [given[name] for name in names]


def run_stage(main: Callable[..., str | None], doc: str | None = None, *names: str) -> None:
    """Run a stage: print its one summary line, or one clear error and exit with status 1.

    Args:
        main: does the work and returns the line to print. A `UserError` is the user's mistake, so its
            message alone is shown; anything else is ours, so the traceback stays.
        doc: the stage's docstring, for `--help`; without it, `main` reads the command line by itself.
        names: of the arguments that `main` takes; see `stage_arguments`.
    """
    with plain_ending(), _shown_log():
        line = main() if doc is None else main(*stage_arguments(doc, *names))
        if line:
            print(line)


@contextlib.contextmanager
def plain_ending() -> Iterator[None]:
    """End without a traceback where nothing is our fault.

    A `UserError`, a full disk or a lack of permission prints one line and exits with 1, Ctrl-C exits with 130, and a reader that went away
    (`| head`) ends quietly with 0. A terminal that can't show a sign gets it escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        how = " with `dvc repro`" if isinstance(error, NotMade) else ""
        print("error:", f"{error}{how}{_in_a_copy()}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        _forget_output()
        raise SystemExit(0) from None
    except OSError as error:
        if error.errno not in REMEDIES or (error.errno in PATHS and error.filename is None):
            raise
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        said = f"{place}{REMEDIES[error.errno]} and run it again; what was finished is kept"
        print("error:", one_line(said), file=sys.stderr)
        if error.filename is None:
            _forget_output()
        raise SystemExit(1) from None


@contextlib.contextmanager
def _shown_log() -> Iterator[None]:
    """Show on stderr what the library logs meanwhile: warnings, and which worker did which shard."""
    logger, handler = logging.getLogger("promptroute"), logging.StreamHandler()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def _in_a_copy() -> str:
    """Say what a queued experiment, or one in a temporary folder, can't see; nothing elsewhere."""
    root = os.environ.get("DVC_ROOT")
    if not root or Path(root).resolve() == Path.cwd().resolve():
        return ""
    return " (an experiment that is queued, or run with --temp, sees only what git tracks: `git add` what it lacks)"


def _forget_output() -> None:
    """Let the interpreter's own flush at the end meet neither a closed pipe nor a full disk."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
