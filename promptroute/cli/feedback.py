"""`promptroute feedback`: what people would say of an image and its prompt, as a network predicts it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptroute.core.errors import UserError

if TYPE_CHECKING:
    from promptroute.feedback.predictor import Feedback

IMAGE = typer.Argument(help="an image file", metavar="IMAGE")
PROMPT = typer.Option("--prompt", "-p", metavar="TEXT", help="the text that the image was generated from")
NETWORK = typer.Option("--network", "-n", metavar="DIR", help="folder of a network of rich feedback")
DEVICE = typer.Option("--device", help="torch device; auto: a GPU where there is one")
JSON = typer.Option("--json", help="print a JSON object, for programs")
OUT = typer.Option(
    "--out", "-o", metavar="FILE", help="write the image with its maps, scores and missed words, as PNG"
)


def feedback(
    image: Annotated[Path, IMAGE],
    prompt: Annotated[str, PROMPT],
    network: Annotated[Path, NETWORK] = Path("cache/weights/rahf"),
    device: Annotated[str, DEVICE] = "auto",
    as_json: Annotated[bool, JSON] = False,
    out: Annotated[Path | None, OUT] = None,
) -> None:
    """Print scores of an image (0 to 1, higher is better), and the words of its prompt that it misses."""
    from promptroute.feedback.predictor import Predictor
    from promptroute.feedback.texts import prompt_words
    from promptroute.router.types import check_prompts
    from promptroute.runtime.decoding import read_image
    from promptroute.runtime.device import pick_device

    check_prompts([prompt])
    if not prompt_words(prompt):
        raise UserError("--prompt holds no word; give the text that the image was generated from")
    opened = read_image(image)
    predictor = Predictor(network, pick_device(device))
    try:
        found = predictor.predict([opened], [prompt])[0]
    except UserError as error:
        raise UserError(f"{image}: {error}") from error
    if out is not None:
        from promptroute.feedback.overlay import overlay
        from promptroute.io.files import atomic_path

        page = overlay(opened, found, predictor.threshold)
        with atomic_path(out) as temporary:
            page.save(temporary, "PNG")
    if as_json:
        print(to_json(found, predictor.threshold))
    else:
        show(found, predictor.threshold)


def to_json(found: "Feedback", threshold: float) -> str:
    """Write feedback as JSON: scores, words with probabilities, and where each map is highest (x, y in 0..1)."""
    import numpy as np

    peaks = {}
    for name, values in found.heatmaps.items():
        y, x = np.unravel_index(int(values.argmax()), values.shape)
        peaks[name] = {
            "highest": round(float(values.max()), 4),
            "at": [
                round((float(x) + 0.5) / values.shape[1], 4),
                round((float(y) + 0.5) / values.shape[0], 4),
            ],
            "mean": round(float(values.mean()), 4),
        }
    words = [
        {"word": word, "missed": bool(probability >= threshold), "probability": round(float(probability), 4)}
        for word, probability in zip(found.words, found.probabilities, strict=True)
    ]
    scores = {name: round(value, 4) for name, value in found.scores.items()}
    return json.dumps({"scores": scores, "words": words, "maps": peaks, "threshold": threshold})


def show(found: "Feedback", threshold: float) -> None:
    """Print feedback for people: missed words struck out on a terminal, in brackets elsewhere."""
    from rich.console import Console
    from rich.text import Text

    from promptroute.core.text import one_line

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for name, value in found.scores.items():
        console.print(f"{name:>13}  {value:.3f}")
    line = Text("       prompt  ")
    for word, probability in zip(found.words, found.probabilities, strict=True):
        missed, shown = probability >= threshold, one_line(word)
        if missed:
            line.append(shown if console.is_terminal else f"[{shown}]", style="red strike").append(" ")
        else:
            line.append(f"{shown} ")
    console.print(line)
