"""Choose a model for prompts, with the trained router.

python -m promptroute.cli.route "a red car and a white sheep"
python -m promptroute.cli.route --file prompts.txt --json
some-program | python -m promptroute.cli.route
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from promptroute.core.errors import UserError
from promptroute.router.router import Router
from promptroute.router.types import Decision
from promptroute.runtime.stage import run_stage


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m promptroute.cli.route",
        description="Print, for each prompt, the chosen model, its cost, each model's predicted quality, and why.",
    )
    parser.add_argument(
        "prompts", nargs="*", metavar="PROMPT", help="prompts; without any, standard input is read"
    )
    parser.add_argument("--file", type=Path, help="a text file, one prompt a line (empty lines are skipped)")
    parser.add_argument(
        "--router", type=Path, default=Path("data/router"), help="router folder (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
    return parser.parse_args(arguments)


def read_prompts(options: argparse.Namespace) -> list[str]:
    """Prompts from the arguments, a file or standard input.

    Raises:
        UserError: the file can't be read as UTF-8 text, or there is no prompt at all.
    """
    if options.prompts and options.file:
        raise UserError("prompts are given as arguments and with --file; give one of the two")
    if options.prompts:
        return list(options.prompts)
    try:
        content = options.file.read_bytes() if options.file else sys.stdin.buffer.read()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{options.file}: can't be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        where = options.file or "standard input"
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{where}: line {line} is not UTF-8 text; convert the file to UTF-8") from error
    # Splitting at anything but line ends would tear prompts that hold, say, a line separator sign.
    prompts = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    if not prompts:
        raise UserError(f"{options.file or 'standard input'}: no prompt; give at least one line of text")
    return prompts


def show(decision: Decision, labels: dict[str, str]) -> str:
    """A decision as a few lines for people."""
    rows = sorted(decision.quality.items(), key=lambda item: -item[1])
    quality = "   ".join(f"{labels[name]} {value:.3f}" for name, value in rows)
    # repr keeps control characters of an untrusted prompt off the terminal.
    return (
        f"{decision.prompt!r}\n  → {labels[decision.model]}, ${decision.cost:.3g} an image: {decision.reason}\n"
        f"    predicted quality: {quality}"
    )


def main() -> str | None:
    options = parse()
    prompts = read_prompts(options)
    router = Router.load(options.router)
    labels = {model.name: model.label for model in router.models}
    for decision in router.route(prompts):
        print(json.dumps(asdict(decision), ensure_ascii=False) if options.json else show(decision, labels))
    return None


if __name__ == "__main__":
    run_stage(main)
