"""`promptroute recover`: from images back to prompts that a person can edit."""

import json
from pathlib import Path
from typing import Annotated

import typer

from promptroute.core.plain import Plain
from promptroute.core.text import one_line

IMAGES = typer.Argument(help="image files", metavar="IMAGE")
FOLDER = typer.Option("--recovery", "-r", metavar="DIR", help="folder of a trained recovery")
K = typer.Option("--k", "-k", help="candidates of each image", min=1)
ALLOW = typer.Option(
    "--allow",
    metavar="CLASS",
    help="a class, or a package ending with a dot, that the folder may name besides our own; again for each",
)
JSON = typer.Option("--json", help="print a JSON object a line, for programs")


def recover(
    images: Annotated[list[Path], IMAGES],
    folder: Annotated[Path, FOLDER] = Path("data/recovery"),
    k: Annotated[int, K] = 5,
    allow: Annotated[list[str] | None, ALLOW] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Print, for each image, prompts that it may have been generated from, the likeliest first."""
    from promptroute.runtime.decoding import read_image

    opened = [read_image(path) for path in images]

    from promptroute.recovery.recovered import Recovery

    for path, found in zip(images, Recovery.load(folder, allow or ()).prompts(opened, k), strict=True):
        rows: list[Plain] = [
            {"prompt": one.text, "cosine": round(one.cosine, 4), "how": one.how} for one in found
        ]
        if as_json:
            print(json.dumps({"image": str(path), "prompts": rows}))
            continue
        print(one_line(str(path)))
        for row in rows:
            # A prompt of a bank is other people's text.
            print(f"  {row['cosine']:6.3f}  {row['how']:8}  {one_line(row['prompt'])}")
