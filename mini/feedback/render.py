"""Render examples of rich feedback: params `feedback_examples` → mini/pipeline/data/feedback/{train,validation,held_out}/.

A folder holds images.npy (uint8 [n, 64, 64, 3]), maps.npy (uint8 [n, 2, 64, 64], 255 for 1, in the order of
`examples.MAPS`) and examples.jsonl: text, missed (for each word), scores, what each word's place shows, the scene that is
shown, and the caption with the scene that it is true of.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mini.feedback.examples import MAPS, Example, new_example, word_findings
from mini.scenes import SIDE
from mini.settings import DATA, load_settings
from mini.spread import chosen_executor, in_order
from promptroute.io.files import atomic_path
from promptroute.runtime.stage import run_stage

FOLDER = DATA / "feedback"
TRAIN, VALIDATION, HELD_OUT = (FOLDER / name for name in ("train", "validation", "held_out"))


@dataclass(frozen=True)
class Examples:
    """Examples of a folder.

    Attributes:
        images, maps: as the files, memory-mapped.
        rows: a mapping for each example, as a line of examples.jsonl.
    """

    images: NDArray[np.uint8]
    maps: NDArray[np.uint8]
    rows: list[dict[str, Any]]


def row_of(example: Example) -> dict[str, Any]:
    """Return what a line of examples.jsonl holds."""
    seen = word_findings(example.caption, example.scene)
    return {
        "text": example.caption.text,
        "missed": [int(missed) for missed in example.missed],
        "parts": [finding.part if finding else None for finding in seen],
        "shown": [finding.shown if finding else None for finding in seen],
        "scores": {name: round(value, 6) for name, value in example.scores.items()},
        "scene": asdict(example.scene),
        "caption": asdict(example.caption),
    }


def _make(seed: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    example = new_example(seed)
    maps = np.stack([np.round(255 * example.maps[name]) for name in MAPS]).astype(np.uint8)
    return example.image, maps, row_of(example)


def write_examples(folder: Path, n: int, seed: int, workers: int = 1) -> None:
    """Write the examples of seeds (seed, 0) to (seed, n - 1); workers decide nothing but the time."""
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        images = np.lib.format.open_memmap(
            temporary / "images.npy", mode="w+", dtype=np.uint8, shape=(n, SIDE, SIDE, 3)
        )
        maps = np.lib.format.open_memmap(
            temporary / "maps.npy", mode="w+", dtype=np.uint8, shape=(n, len(MAPS), SIDE, SIDE)
        )
        with open(temporary / "examples.jsonl", "w", encoding="utf-8") as lines:
            for index, made in enumerate(_in_order(n, seed, workers)):
                images[index], maps[index] = made[0], made[1]
                lines.write(json.dumps(made[2]) + "\n")
        images.flush()
        maps.flush()


def _in_order(
    n: int, seed: int, workers: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]]:
    seeds = [(seed, index) for index in range(n)]
    return in_order(_make, seeds, workers, chosen_executor())


def read_examples(folder: Path | str) -> Examples:
    """Read what `write_examples` wrote."""
    folder = Path(folder)
    with open(folder / "examples.jsonl", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "maps")]
    return Examples(arrays[0], arrays[1], rows)


def main() -> str:
    settings = load_settings("feedback_examples")
    for more, folder in enumerate((TRAIN, HELD_OUT, VALIDATION)):  # each with a seed of its own
        write_examples(folder, settings[folder.name], settings["seed"] + more, settings["workers"])
    return f"examples: {settings}"


if __name__ == "__main__":
    run_stage(main)
