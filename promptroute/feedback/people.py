"""What people marked in a study's images (`promptroute annotate --mode marks`), as examples to train and judge by."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.core.outputs import words as spaced_words
from promptroute.core.plain import Plain
from promptroute.core.votes import Marks
from promptroute.feedback.richhf import MAP_FIELDS, MAP_SIDE, SCORE_FIELDS, SHARD, write_rows
from promptroute.feedback.texts import prompt_words
from promptroute.io.images import images_of
from promptroute.io.votes import Votes

RADIUS = 1 / 20
"""Of the disc that a marked place stands for, as a share of the image's side."""
SPLITS = ("train",) * 8 + ("dev", "test")
"""A prompt's text decides which of these ten its images belong to."""


def place_map(marks: Sequence[Marks], side: int = MAP_SIDE) -> np.ndarray:
    """Return the share of people who marked a place: float64 [side, side] in 0..1."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    found = np.zeros((side, side))
    for one in marks:
        near = [np.hypot(x - px, y - py) < RADIUS for px, py in one.points]
        found += np.any(near, axis=0) if near else 0
    return found / len(marks)


def missed_words(prompt: str, marks: Sequence[Marks]) -> list[bool]:
    """Tell for each of `prompt_words(prompt)` whether more than half of the people marked the word that it is part of."""
    counts = Counter(word for one in marks for word in one.words)
    return [
        2 * counts[at] > len(marks)
        for at, word in enumerate(spaced_words(prompt))
        for _ in prompt_words(word)
    ]


def split_of(prompt: str) -> str:
    """Name the split that all images of a prompt's text belong to."""
    return SPLITS[int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % len(SPLITS)]


def build_marked(votes: Path | str, images: Path | str, folder: Path | str) -> dict[str, int]:
    """Write what people marked as shards, as `build_shards` does it: FOLDER/SPLIT/SPLIT-00000.parquet.

    A person's first answer to an image counts, and none that was skipped. What nobody was asked for stays unknown: the four
    scores, and the map of what misses the prompt.

    Args:
        votes: the file of answers.
        images: the study's, a folder for each model.
        folder: of the shards; splits that are there are replaced.

    Returns:
        How many images each split has.

    Raises:
        UserError: the answers are no marks, there are none, or the study lacks an image of theirs.
    """
    with Votes(Path(votes)) as kept:
        if kept.mode != "marks":
            raise UserError(
                f"{votes}: holds {kept.mode}; expected marks, as `promptroute annotate --mode marks` asks for"
            )
        answers = kept.answers()
    given: dict[tuple[str, str, int], dict[str, Marks]] = defaultdict(dict)
    for answer, subject in answers:
        if isinstance(answer.value, Marks):
            key = (subject.models[0], subject.prompt_id, subject.seeds[0])
            given[key].setdefault(answer.rater, answer.value)
    if not given:
        raise UserError(f"{votes}: nobody has marked anything yet; ask people first")
    rows: dict[str, list[Plain]] = {name: [] for name in dict.fromkeys(SPLITS)}
    for number, ((model, prompt_id, seed), image) in enumerate(
        _images(given, Path(images), str(votes)).items()
    ):
        marks = list(given[model, prompt_id, seed].values())
        rows[split_of(image.prompt)].append(_row(number, f"{model}/{prompt_id}/{seed}", image, marks))
    for split, part in rows.items():
        for old in (Path(folder) / split).glob(f"{split}-*.parquet"):
            old.unlink()
        for start in range(0, len(part), SHARD):
            path = Path(folder) / split / f"{split}-{start // SHARD:05d}.parquet"
            write_rows(path, part[start : start + SHARD], {"split": split, "votes": str(votes)})
    return {split: len(part) for split, part in rows.items()}


def _images(
    keys: Sequence[tuple[str, str, int]] | dict[tuple[str, str, int], dict[str, Marks]],
    folder: Path,
    votes: str,
) -> dict[tuple[str, str, int], Image]:
    """Read the images that were marked: (model, prompt_id, seed) → image, in order."""
    found: dict[tuple[str, str, int], Image] = {}
    for model in sorted({key[0] for key in keys}):
        own = images_of(folder / model, {key[1] for key in keys if key[0] == model})
        found |= {(model, prompt_id, image.seed): image for prompt_id, rows in own.items() for image in rows}
    for key in keys:
        if key not in found or found[key].image is None:
            raise UserError(
                f"{votes}: marks an image that {folder} lacks (model {key[0]}, prompt {key[1]}, seed {key[2]}); "
                f"give the study that people saw"
            )
    return {key: found[key] for key in sorted(keys)}


def _row(number: int, uid: str, image: Image, marks: Sequence[Marks]) -> Plain:
    from PIL import Image as Pillow

    data = io.BytesIO()
    Pillow.fromarray(np.round(255 * place_map(marks)).astype(np.uint8)).save(data, "PNG")
    words = prompt_words(image.prompt)
    unknown: Plain = dict.fromkeys([*SCORE_FIELDS, *MAP_FIELDS])
    return unknown | {
        "record": number,
        "uid": uid,
        "prompt": image.prompt,
        "words": words,
        "missed": missed_words(image.prompt, marks) if words else None,
        "reason": None if words else "the prompt holds no word",
        "image": {"bytes": image.image, "path": None},
        "implausibility": {"bytes": data.getvalue(), "path": None},
    }
