"""Render the captioned training scenes: params `scenes` → mini/pipeline/data/{free,arranged,multiple}/.

Scorers learn from `free` scenes, whose objects are anywhere, since a generator may place them so; generators learn from
`arranged` scenes, whose objects have fixed places, so that small networks have less to learn. `multiple` holds more
arranged scenes, each with two objects or more, for the model that is fine-tuned on them.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mini.captions import PROMPT_SETS, Caption, caption_from_plain, sample_captions
from mini.scenes import SIDE, render
from mini.settings import DATA, load_settings
from mini.spread import chosen_executor, in_order
from promptroute.io.files import atomic_path
from promptroute.runtime.executors import Executor
from promptroute.runtime.stage import run_stage

FREE = DATA / "free"
ARRANGED = DATA / "arranged"
MULTIPLE = DATA / "multiple"


def write_scenes(folder: Path | str, captions: list[Caption], executor: Executor | None = None) -> None:
    """Write scenes to a folder: images.npy (uint8 [n, 64, 64, 3]) and captions.jsonl. `executor`: see `in_order`."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        images = np.lib.format.open_memmap(
            temporary / "images.npy", mode="w+", dtype=np.uint8, shape=(len(captions), SIDE, SIDE, 3)
        )
        with open(temporary / "captions.jsonl", "w", encoding="utf-8") as lines:
            made = in_order(render, [caption.scene for caption in captions], executor=executor)
            for index, (caption, image) in enumerate(zip(captions, made, strict=True)):
                images[index] = image
                lines.write(json.dumps(asdict(caption)) + "\n")
        images.flush()


def read_scenes(folder: Path | str) -> tuple[NDArray[np.uint8], list[Caption]]:
    """Read what `write_scenes` wrote: images (memory-mapped) and captions, in the same order."""
    folder = Path(folder)
    with open(folder / "captions.jsonl", encoding="utf-8") as lines:
        captions = [caption_from_plain(json.loads(line)) for line in lines]
    return np.load(folder / "images.npy", mmap_mode="r"), captions


def main() -> str:
    settings = load_settings("scenes")
    for folder, least in ((FREE, 1), (ARRANGED, 1), (MULTIPLE, 2)):
        seed = settings["seed"] + (folder == MULTIPLE)  # not the scenes of `arranged`
        captions = [
            caption
            for name in PROMPT_SETS
            for caption in sample_captions(name, settings[folder.name], seed, arranged=folder != FREE)
            if len(caption.scene.objects) >= least
        ]
        order = np.random.default_rng(settings["seed"]).permutation(len(captions))
        write_scenes(folder, [captions[index] for index in order], chosen_executor())
    return f"scenes: {settings}"


if __name__ == "__main__":
    run_stage(main)
