"""The command `promptroute`: a module of this room for each of its commands."""

import sys
from collections.abc import Sequence

import typer

from promptroute.cli.agreement import agreement
from promptroute.cli.annotate import annotate
from promptroute.cli.compose import compose
from promptroute.cli.evaluate import evaluate
from promptroute.cli.feedback import feedback
from promptroute.cli.plan import plan
from promptroute.cli.route import route
from promptroute.cli.serve import serve
from promptroute.runtime.stage import plain_ending

app = typer.Typer(
    name="promptroute",
    help="Which text-to-image model should generate this prompt, and what does that cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Boxes and colours are for people: a pipe gets plain text.
    rich_markup_mode="markdown" if sys.stdout.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command(short_help="Choose a model for prompts.")(route)
app.command(short_help="Serve a trained router over HTTP.")(serve)
app.command(short_help="Evaluate a trained router.")(evaluate)
app.command(short_help="Predict people's feedback on an image.")(feedback)
app.command(short_help="Let people judge images, blind.")(annotate)
app.command(short_help="Measure how far raters agree.")(agreement)
app.command(short_help="Say what a study will take.")(plan)
app.command(short_help="Compose conf/ into params.yaml.")(compose)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, `sys.argv` where `arguments` is None.

    Raises:
        SystemExit: 0 done; 1 a `UserError`, told in one line; 2 wrong usage; 130 Ctrl-C.
    """
    with plain_ending():
        app(args=None if arguments is None else list(arguments), prog_name="promptroute")
