"""Draw the captioned scenes that everything else is trained on: params `scenes` → data/mini/{untidy,tidy,several}/.

Scorers learn from `untidy` scenes, whose things stand anywhere, for a model may draw them so; what draws learns from
`tidy` ones, whose things stand where one would put them, so that small networks have less to learn. `several` holds
more tidy ones, with two things or more, for the model that is trained on with them alone.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mini.captions import PROMPT_SETS, Caption, caption_from_plain, draw_captions
from mini.scenes import SIDE, draw
from mini.settings import load_settings
from promptroute.io.files import atomic_path
from promptroute.runtime.stage import run_stage

UNTIDY = Path("data/mini/untidy")
TIDY = Path("data/mini/tidy")
SEVERAL = Path("data/mini/several")


def write_scenes(folder: Path | str, captions: list[Caption]) -> None:
    """Write scenes as one folder: images.npy (uint8 [n, 64, 64, 3]) and captions.jsonl."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        images = np.lib.format.open_memmap(
            temporary / "images.npy", mode="w+", dtype=np.uint8, shape=(len(captions), SIDE, SIDE, 3)
        )
        with open(temporary / "captions.jsonl", "w", encoding="utf-8") as lines:
            for index, caption in enumerate(captions):
                images[index] = draw(caption.scene)
                lines.write(json.dumps(asdict(caption)) + "\n")
        images.flush()


def read_scenes(folder: Path | str) -> tuple[NDArray[np.uint8], list[Caption]]:
    """Read what `write_scenes` wrote: pictures (mapped, not loaded) and captions, in one order."""
    folder = Path(folder)
    with open(folder / "captions.jsonl", encoding="utf-8") as lines:
        captions = [caption_from_plain(json.loads(line)) for line in lines]
    return np.load(folder / "images.npy", mmap_mode="r"), captions


def main() -> str:
    settings = load_settings("scenes")
    for folder, least in ((UNTIDY, 1), (TIDY, 1), (SEVERAL, 2)):
        seed = settings["seed"] + (folder == SEVERAL)  # other scenes than the tidy ones
        captions = [
            caption
            for name in PROMPT_SETS
            for caption in draw_captions(name, settings[folder.name], seed, tidy=folder != UNTIDY)
            if len(caption.scene.things) >= least
        ]
        order = np.random.default_rng(settings["seed"]).permutation(len(captions))
        write_scenes(folder, [captions[index] for index in order])
    return f"scenes: {settings}"


if __name__ == "__main__":
    run_stage(main)
