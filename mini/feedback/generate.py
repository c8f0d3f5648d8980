"""Generate images for the feedback network to learn from: params `feedback_generated` → data/feedback/generated_*/.

What the small models generate looks unlike rendered scenes. Their images stand here with captions of which the checker
says what they miss: the prompt, and others that fit the image more or less. Nobody knows how plausible such an image is,
so of scores there is the alignment alone. No prompt is one of mini/prompts, by whose images the network is judged, and
training and validation share none.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mini.captions import PROMPT_SETS, Caption, sample_captions
from mini.checker import check, read_scene
from mini.feedback.examples import MAPS, misalignment_map, missed_words
from mini.feedback.render import GENERATED_TRAIN, GENERATED_VALIDATION, Made, row_of, write_folder
from mini.feedback.targets import targets_of
from mini.measure import generate, load_model
from mini.scenes import SIDE, Scene
from mini.settings import load_settings
from mini.spread import chosen_executor, in_order
from promptroute.runtime.stage import run_stage

CANDIDATES = 60  # captions tried with an image, of which the most fitting is taken, and a random one
PAIRS = 3  # captions of an image: `pairs`
PART = 20  # prompts of a piece of work


def new_captions(train: int, validation: int, seed: int) -> tuple[list[Caption], list[Caption]]:
    """Sample captions of each prompt set, none of which is in mini/prompts: for training, for validation."""
    prompts, parts = load_settings("prompts"), ([], [])  # type: tuple[Any, tuple[list[Caption], list[Caption]]]
    for name in PROMPT_SETS:
        known = {one.text for one in sample_captions(name, prompts["n"], prompts["seed"], distinct=True)}
        wanted = prompts["n"] + train + validation
        new = [one for one in sample_captions(name, wanted, seed, distinct=True) if one.text not in known]
        parts[0].extend(new[:train])
        parts[1].extend(new[train : train + validation])
    return parts


def share_right(caption: Caption, scene: Scene) -> float:
    """Return the share of what a caption states that a scene shows, 0 to 1."""
    return float(np.mean([claim.correct for claim in check(caption.statement, scene)]))


def pairs(
    image: NDArray[np.uint8], prompt: Caption, pool: Sequence[Caption], seed: Sequence[int]
) -> list[Made]:
    """Pair an image with its prompt, with the most fitting of some random captions, and with a random one."""
    rng, scene = np.random.default_rng(seed), read_scene(image)
    others = [pool[index] for index in rng.integers(0, len(pool), CANDIDATES)]
    best = max(others, key=lambda caption: share_right(caption, scene))
    made = []
    for caption in (prompt, best, others[0]):
        maps = np.zeros((len(MAPS), SIDE, SIDE), np.uint8)
        maps[1] = np.round(255 * misalignment_map(caption.statement, scene))
        row = row_of(caption, scene, missed_words(caption, scene), {"alignment": share_right(caption, scene)})
        made.append((image, maps, *targets_of(scene), row))
    return made


def _generate(work: tuple[str, Any, list[Caption], list[Caption], int]) -> list[Made]:
    name, settings, captions, pool, seed = work
    pipe = load_model(name, "cpu")
    images = generate(pipe, [caption.text for caption in captions], seed, **settings, batch=PART)
    return [
        made
        for index, (image, caption) in enumerate(zip(images, captions, strict=True))
        for made in pairs(image, caption, pool, (seed, index))
    ]


def make(captions: list[Caption], seed: int, workers: int | None) -> Iterator[Made]:
    """Generate with each of the four models, and pair with captions; workers decide nothing but the time."""
    models = load_settings("measure")["models"]
    work = [
        (name, models[name], captions[start : start + PART], captions, seed + start)
        for start in range(0, len(captions), PART)
        for name in models
    ]
    parts = in_order(_generate, work, workers, chosen_executor(), chunk=1, start="spawn")
    for number, made in enumerate(parts, 1):
        print(f"generated {number}/{len(work)}", flush=True)
        yield from made


def main() -> str:
    settings = load_settings("feedback_generated")
    parts = new_captions(settings["train"], settings["validation"], settings["seed"])
    for folder, captions in zip((GENERATED_TRAIN, GENERATED_VALIDATION), parts, strict=True):
        n = len(captions) * len(load_settings("measure")["models"]) * PAIRS
        write_folder(folder, n, make(captions, settings["seed"], settings["workers"]))
    return f"generated: {settings}"


if __name__ == "__main__":
    run_stage(main)
