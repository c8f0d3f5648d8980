"""Render examples of rich feedback: params `feedback_examples` → mini/pipeline/data/feedback/{train,validation,held_out}/.

A folder holds images.npy (uint8 [n, 64, 64, 3]), maps.npy (uint8 [n, 2, 64, 64], 255 for 1, in the order of
`examples.MAPS`), patches.npy and covers.npy (as `targets_of`), and examples.jsonl: text, missed (for each word), scores,
what each word's place shows, the scene that is shown, and the caption with the scene that it is true of.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mini.captions import Caption
from mini.feedback.examples import MAPS, new_example, word_findings
from mini.feedback.targets import targets_of
from mini.scenes import Scene
from mini.settings import DATA, load_settings
from mini.spread import chosen_executor, in_order
from promptroute.io.files import atomic_path
from promptroute.runtime.stage import run_stage

FOLDER = DATA / "feedback"
TRAIN, VALIDATION, HELD_OUT = (FOLDER / name for name in ("train", "validation", "held_out"))
GENERATED_TRAIN, GENERATED_VALIDATION = FOLDER / "generated_train", FOLDER / "generated_validation"


ARRAYS = ("images", "maps", "patches", "covers")
Row = dict[str, Any]
Made = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], Row]
"""What a folder holds of an example: `ARRAYS`, and its line of examples.jsonl."""


@dataclass(frozen=True)
class Examples:
    """Examples of a folder.

    Attributes:
        images, maps, patches, covers: as the files, memory-mapped.
        rows: a mapping for each example, as a line of examples.jsonl.
    """

    images: NDArray[np.uint8]
    maps: NDArray[np.uint8]
    patches: NDArray[np.uint8]
    covers: NDArray[np.uint8]
    rows: list[Row]


def row_of(caption: Caption, scene: Scene, missed: Sequence[bool], scores: Mapping[str, float]) -> Row:
    """Return what a line of examples.jsonl holds; of an image that was generated, scores may be absent."""
    seen = word_findings(caption, scene)
    return {
        "text": caption.text,
        "missed": [int(word) for word in missed],
        "parts": [finding.part if finding else None for finding in seen],
        "shown": [finding.shown if finding else None for finding in seen],
        "scores": {name: round(value, 6) for name, value in scores.items()},
        "scene": asdict(scene),
        "caption": asdict(caption),
    }


def _make(seed: tuple[int, int]) -> Made:
    example = new_example(seed)
    maps = np.stack([np.round(255 * example.maps[name]) for name in MAPS]).astype(np.uint8)
    row = row_of(example.caption, example.scene, example.missed, example.scores)
    return example.image, maps, *targets_of(example.scene), row


def write_folder(folder: Path, n: int, made: Iterable[Made]) -> None:
    """Write n examples."""
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        arrays: list[NDArray[np.uint8]] = []
        with open(temporary / "examples.jsonl", "w", encoding="utf-8") as lines:
            for index, (*parts, row) in enumerate(made):
                if not arrays:
                    arrays = [
                        np.lib.format.open_memmap(
                            temporary / f"{name}.npy", mode="w+", dtype=np.uint8, shape=(n, *part.shape)
                        )
                        for name, part in zip(ARRAYS, parts, strict=True)
                    ]
                for array, part in zip(arrays, parts, strict=True):
                    array[index] = part
                lines.write(json.dumps(row) + "\n")
        for array in arrays:
            array.flush()  # type: ignore[attr-defined]


def write_examples(folder: Path, n: int, seed: int, workers: int | None = 1) -> None:
    """Write the examples of seeds (seed, 0) to (seed, n - 1); workers (None: a core each) decide nothing but the time."""
    write_folder(folder, n, _in_order(n, seed, workers))


def _in_order(n: int, seed: int, workers: int | None) -> Iterator[Made]:
    seeds = [(seed, index) for index in range(n)]
    return in_order(_make, seeds, workers, chosen_executor())


def read_examples(folder: Path | str) -> Examples:
    """Read what `write_folder` wrote."""
    folder = Path(folder)
    with open(folder / "examples.jsonl", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return Examples(**arrays, rows=rows)


def main() -> str:
    settings = load_settings("feedback_examples")
    for more, folder in enumerate((TRAIN, HELD_OUT, VALIDATION)):  # each with a seed of its own
        write_examples(folder, settings[folder.name], settings["seed"] + more, settings["workers"])
    return f"examples: {settings}"


if __name__ == "__main__":
    run_stage(main)
