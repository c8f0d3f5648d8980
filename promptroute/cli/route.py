"""`promptroute route`: choose a model for prompts, with the trained router."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptroute.cli.lines import json_line
from promptroute.core.errors import UserError
from promptroute.core.text import one_line

if TYPE_CHECKING:
    from promptroute.router.types import Decision

PROMPTS = typer.Argument(help="prompts; without any, standard input is read", metavar="PROMPT")
FILE = typer.Option(
    "--file", "-f", metavar="FILE", help="a text file, one prompt a line (empty lines are skipped)"
)
ROUTER = typer.Option("--router", "-r", metavar="DIR", help="router folder")
MODEL = typer.Option(
    "--model", "-m", metavar="MODEL", help="a model that may be chosen, again for each; all by default"
)
TRADEOFF = typer.Option(
    "--tradeoff", help="decide by quality - tradeoff * dollars instead", show_default=False
)
SLACK = typer.Option(
    "--slack",
    help="decide by the cheapest model within so much of the best quality instead",
    show_default=False,
)
ALLOW = typer.Option(
    "--allow",
    metavar="CLASS",
    help="a class, or a package ending with a dot, that the router folder may name besides our own; again for each",
)
SEARCH = typer.Option(
    "--search",
    help="walk through the images of each prompt: asks for the score of each image that it has you generate",
)
JSON = typer.Option("--json", help="print a JSON object a line, for programs")


def route(
    prompts: Annotated[list[str] | None, PROMPTS] = None,
    file: Annotated[Path | None, FILE] = None,
    router: Annotated[Path, ROUTER] = Path("data/router"),
    model: Annotated[list[str] | None, MODEL] = None,
    tradeoff: Annotated[float | None, TRADEOFF] = None,
    slack: Annotated[float | None, SLACK] = None,
    search: Annotated[bool, SEARCH] = False,
    allow: Annotated[list[str] | None, ALLOW] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Print, for each prompt, the chosen model, its cost, each model's predicted quality, and why."""
    if search:
        check_search(prompts, file, tradeoff, slack)
    texts = read_prompts(prompts or [], file)

    from promptroute.router.router import Router
    from promptroute.runtime.device import set_threads

    loaded = Router.load(router, allow or ())
    loaded.warm()
    # A prompt is many small operations: threads would wait for each other, and for other processes.
    set_threads(1)
    # A label comes with the router folder, so it is other people's text.
    labels = {known.name: one_line(known.label) for known in loaded.models}
    if search:
        from promptroute.cli.search import walk

        for text in texts:
            walk(loaded, text, model or None, as_json)
        return
    decisions = loaded.route(texts, models=model or None, tradeoff=tradeoff, slack=slack)
    if as_json:
        for decision in decisions:
            print(to_json(decision))
    else:
        show(decisions, labels)


def check_search(
    prompts: list[str] | None, file: Path | None, tradeoff: float | None, slack: float | None
) -> None:
    """Refuse what does not go with `--search`.

    Raises:
        UserError: there is no prompt but standard input, which the scores come from, or an operating point is given.
    """
    if not prompts and file is None:
        raise UserError(
            "--search reads scores from standard input; give the prompt as an argument or with --file"
        )
    if tradeoff is not None or slack is not None:
        raise UserError(
            "--search decides at the router's own operating point; leave --tradeoff and --slack out"
        )


def read_prompts(prompts: list[str], file: Path | None) -> list[str]:
    """Read prompts from the arguments, a file or standard input.

    Raises:
        UserError: the file can't be read as UTF-8 text, or there is no prompt at all.
    """
    if prompts and file:
        raise UserError("prompts are given as arguments and with --file; give one of the two")
    if prompts:
        return prompts
    where = file or "standard input"
    try:
        content = file.read_bytes() if file else sys.stdin.buffer.read()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{where}: can't be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{where}: line {line} is not UTF-8 text; convert the file to UTF-8") from error
    # Splitting at anything but line ends would break prompts that hold, say, a line separator sign.
    found = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    if not found:
        raise UserError(f"{where}: no prompt; give at least one line of text")
    return found


def to_json(decision: "Decision") -> str:
    """Write a decision as a line of JSON."""
    fields = {
        "prompt": decision.prompt,
        "model": decision.model,
        "cost": decision.cost,
        "quality": dict(decision.quality),
        "reason": decision.reason,
    }
    return json_line(fields)


def show(decisions: "list[Decision]", labels: dict[str, str]) -> None:
    """Print decisions for people: with colours on a terminal, plain elsewhere."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for decision in decisions:
        rows = sorted(decision.quality.items(), key=lambda item: -item[1])
        quality = "   ".join(f"{labels[name]} {value:.3f}" for name, value in rows)
        # repr keeps control characters of an untrusted prompt off the terminal.
        console.print(Text(repr(decision.prompt), style="dim"))
        console.print(
            Text("  → ").append(labels[decision.model], style="bold green"),
            Text(f", ${decision.cost:.3g} an image: {one_line(decision.reason)}"),
            sep="",
        )
        console.print(Text(f"    predicted quality: {quality}"))
