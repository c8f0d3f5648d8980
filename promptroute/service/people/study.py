"""The images of a study as people see them: without the names of their models."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.core.text import is_blank, short
from promptroute.core.votes import MARKING, QUESTIONS, RATING, Mode, Subject
from promptroute.evaluation.design import even_images, even_pairs
from promptroute.io.cache import digest
from promptroute.io.images import read_shard, shard_paths
from promptroute.io.parquet import read_parquet
from promptroute.io.votes import Asked

_log = logging.getLogger(__name__)
_COLUMNS = ("prompt_id", "prompt", "seed", "status")
LONGEST = 500
"""Signs of a question."""
Place = tuple[str, str, int]
"""Model, prompt_id and seed of an image."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """What people are asked, and where its images are.

    Attributes:
        asked: the tasks.
        models: names, in the study's order.
        images: name that tells nothing → whose image it is.
        shards: the same → the file that holds it.
    """

    asked: Asked
    models: Sequence[str]
    images: Mapping[str, Place]
    shards: Mapping[str, Path]

    @cached_property
    def names(self) -> dict[Place, str]:
        """Return the images' names."""
        return {place: name for name, place in self.images.items()}

    def png(self, name: str) -> bytes | None:
        """Read an image's file; None where there is none of this name."""
        place = self.images.get(name)
        return None if place is None else _images_in(self.shards[name])[place]

    def sides(self, subject: Subject) -> list[list[str]]:
        """Return the names of the images of each of a subject's models."""
        names = self.names
        return [[names[model, subject.prompt_id, seed] for seed in subject.seeds] for model in subject.models]

    def shown(self, task: str, subject: Subject) -> Plain:
        """Give a task as a page takes it; of a pair, the first model's images first."""
        return {
            "task": task,
            "prompt": self.asked.prompts[subject.prompt_id],
            "sides": [[f"images/{name}.png" for name in side] for side in self.sides(subject)],
        }


@lru_cache(maxsize=4)
def _images_in(path: Path) -> dict[Place, bytes]:
    return {
        (row.model, row.prompt_id, row.seed): row.image
        for row in read_shard(path)
        if row.status == "ok" and row.image is not None
    }


def open_gallery(
    data: Path,
    models: Mapping[str, Section],
    *,
    mode: Mode = "pairs",
    question: str = "preference",
    prompts: int | None = None,
    seeds: int | None = None,
    seed: int = 0,
) -> Gallery:
    """Lay out what people are asked about a study's images.

    Args:
        data: the study's folder of data.
        models: whose images, two or more for pairs, and their sections of the parameters.
        mode: pairs, ratings or marks.
        question: of pairs: a name of `QUESTIONS`, or a text of its own.
        prompts: how many of the study's prompts, chosen by `seed`; None: all.
        seeds: images of each model and prompt; None: all.
        seed: of prompts, orders and sides.

    Raises:
        UserError: images are missing; the question can't be read; consistency is asked of single images; nothing is left to show.
    """
    if len(models) < (2 if mode == "pairs" else 1):
        raise UserError(f"{len(models)} models; expected two or more, or another mode than {mode}")
    if mode == "pairs" and question == "consistency" and seeds is not None and seeds < 2:
        raise UserError(
            f"seeds is {seeds}, and one image can't be consistent; expected 2 or more, or none given"
        )
    asks = _asks(question)
    places, texts = _find(data, list(models))
    chosen = sorted(texts)
    if prompts is not None:
        order = np.random.default_rng(seed).permutation(len(chosen))[:prompts]
        chosen = [chosen[place] for place in sorted(order.tolist())]
    there = _seeds(places, chosen)
    plan = (even_pairs if mode == "pairs" else even_images)(there, list(models), seeds, seed)
    if not plan:
        raise UserError(f"{data}/images: no {mode} to show; expected images of the same prompts and seeds")
    study = digest({"seed": seed, "images": sorted(places), "prompts": texts})
    asked = Asked(
        study,
        mode,
        {"pairs": asks, "ratings": RATING, "marks": MARKING}[mode],
        seed,
        {prompt: texts[prompt] for prompt in chosen},
        {subject.task(study): subject for subject in plan},
        {name: {key: one[key] for key in ("label", "profile") if key in one} for name, one in models.items()},
    )
    used = {(model, s.prompt_id, number) for s in plan for model in s.models for number in s.seeds}
    names = {place: _name(study, place) for place in sorted(used)}
    return Gallery(
        asked,
        list(models),
        {name: place for place, name in names.items()},
        {name: places[place] for place, name in names.items()},
    )


def _seeds(places: Iterable[Place], prompts: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Return the seeds of the images that there are: prompt → model → seeds."""
    there: dict[str, dict[str, list[int]]] = {prompt: {} for prompt in prompts}
    for model, prompt, number in places:
        if prompt in there:
            there[prompt].setdefault(model, []).append(number)
    return there


def _asks(question: str) -> str:
    """Return what people read: the text of a question that has a name, or the question itself."""
    asks = QUESTIONS.get(question, question)
    if is_blank(asks) or not asks.isprintable() or len(asks) > LONGEST:
        raise UserError(
            f"the question {short(question)}: expected a line of 1 to {LONGEST} signs that can be read"
        )
    return asks


def _name(study: str, place: Place) -> str:
    return hashlib.sha256("\0".join((study, *map(str, place))).encode()).hexdigest()[:24]


def _find(data: Path, models: Sequence[str]) -> tuple[dict[Place, Path], dict[str, str]]:
    """Return where each image is, and the text of each prompt; says how many images failed."""
    places: dict[Place, Path] = {}
    texts: dict[str, str] = {}
    failed = 0
    for model in models:
        for path in shard_paths(data / "images" / model):
            table = read_parquet(path, "a shard of images", _COLUMNS)
            for prompt, text, number, status in zip(
                *(table.column(c).to_pylist() for c in _COLUMNS), strict=True
            ):
                texts[prompt] = text
                if status == "ok":
                    places[model, prompt, number] = path
                else:
                    failed += 1
    if failed:
        _log.warning("%d images failed when they were generated; they are not shown", failed)
    return places, texts
