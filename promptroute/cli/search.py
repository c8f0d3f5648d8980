"""`promptroute route --search`: a person, or a program at the other end of a pipe, generates and scores the images."""

import sys
from collections.abc import Sequence
from dataclasses import asdict

from promptroute.cli.lines import json_line
from promptroute.core.errors import UserError
from promptroute.core.text import number, one_line, short
from promptroute.router.looking import Look
from promptroute.router.router import Router
from promptroute.router.types import Next

LINE = 8192  # bytes; a terminal gives no more than 4,096


def walk(router: Router, prompt: str, models: Sequence[str] | None, as_json: bool) -> None:
    """Ask for the score of each image that the router asks for, until it has seen enough.

    Args:
        router: warm.
        prompt: the text.
        models: that may be asked; None: all.
        as_json: print a step a line, for programs.

    Raises:
        UserError: what the router refuses; standard input ended early, or holds no score where it isn't a terminal.
    """
    labels = {model.name: one_line(model.label) for model in router.models}
    seen: dict[str, list[Look]] = {}
    spent = 0.0
    if not as_json:
        print(repr(prompt))
    while True:
        step = router.next(prompt, seen, models=models)
        print(
            json_line({"prompt": prompt, **asdict(step)}) if as_json else told(step, labels, spent),
            flush=True,
        )
        if step.model is None or step.price is None:
            return
        spent += step.price
        seen.setdefault(step.model, []).append(ask(router, labels[step.model]))


def told(step: Next, labels: dict[str, str], spent: float) -> str:
    """Say a step to people, its reason first."""
    why = f"  {one_line(step.reason)}\n"
    if step.model is not None:
        return f"{why}  → generate with {labels[step.model]} (${step.price:.3g} with its score)"
    ending = f"deliver {labels[step.keep]}'s image" if step.keep else "no image to deliver"
    return f"{why}  → {ending}; spent ${spent:.3g}"


def ask(router: Router, label: str) -> Look:
    """Read the scores of an image from a line of standard input; None where the line is empty: the image failed."""
    names = router.quality.scores
    while True:
        if sys.stdin.isatty():
            which = " and ".join(names)
            print(
                f"    {which} of {label}'s image (nothing: it failed): ", end="", file=sys.stderr, flush=True
            )
        read = sys.stdin.buffer.readline(LINE)
        if len(read) == LINE:  # its rest would be taken for the next image's score
            raise UserError(f"standard input: a line of {LINE} bytes or more; expected {len(names)} numbers")
        line = read.decode("utf-8", "replace")
        if not line:
            raise UserError(
                f"standard input: no score of {label}'s image; give {' and '.join(names)} a line, or an empty line "
                f"where the image failed"
            )
        values = [number(word) for word in line.split()]
        if not values:
            return None
        if len(values) == len(names) and None not in values:
            return {name: value for name, value in zip(names, values, strict=True) if value is not None}
        said = f"standard input: {short(line.strip())} is not {' and '.join(names)} of an image"
        if not sys.stdin.isatty():
            raise UserError(f"{said}; expected {len(names)} number{'s' * (len(names) > 1)} a line")
        print(f"    {one_line(said)}", file=sys.stderr)
