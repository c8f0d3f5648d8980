"""Check all that a study names before any of it is computed: what fails now doesn't fail after a day."""

import contextlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptroute.core.component import TARGET, Component, build, locate
from promptroute.core.errors import UserError
from promptroute.core.plain import Section
from promptroute.core.text import short
from promptroute.io.cache import cache_path, digest
from promptroute.io.files import read_json, write_json

BYTES_PER_PIXEL = 2.0
"""Of a stored PNG, at most: 3 bytes a pixel, of which a photograph's compression leaves about half to two thirds."""
COPIES = 2
"""Of each image on disk: DVC's cache may hold its own."""


def components(
    params: Section, kinds: Mapping[str, type[Component]], device: str, where: str = "params.yaml"
) -> dict[str, Component]:
    """Build every component that the parameters name, and see that its weights are there.

    Args:
        params: the parameters.
        kinds: dotted name of a section → what its class must be; `*` stands for each name of a section.
        device: what those that compute on one are given.
        where: the file, for the message.

    Returns:
        Dotted name → component, in the order of `kinds`.

    Raises:
        UserError: a section is invalid, or weights are missing.
    """
    built = {}
    for pattern, kind in kinds.items():
        for name, section in _sections(params, pattern.split(".")):
            place = f"{where}: {name}"
            target = section.get(TARGET) if isinstance(section, Mapping) else None
            on_device = "device" in locate(target, kind, place).model_fields and "device" not in section
            built[name] = build(section, place, kind, **({"device": device} if on_device else {}))
            built[name].weights()
    return built


def check_needs(
    built: Mapping[str, Component],
    encoders: Collection[str],
    votes: object = None,
    where: str = "params.yaml",
) -> None:
    """Refuse components that ask for a text encoder which the study lacks, and a file of votes that isn't there.

    Args:
        built: as `components` gives them; those with `needs` are asked.
        encoders: names of the study's text encoders.
        votes: path of people's answers, or None.
        where: the file, for the message.

    Raises:
        UserError: names the section.
    """
    for name, component in built.items():
        if lost := sorted(getattr(component, "needs", frozenset()) - set(encoders)):
            raise UserError(
                f"{where}: {name} asks for text encoder {lost[0]!r}, but the study has "
                f"{', '.join(encoders) or 'none'}; name one of these, or add it to text_encoder"
            )
    if votes is not None and not (isinstance(votes, str) and Path(votes).exists()):
        raise UserError(f"{where}: agreement.votes is {short(votes)}; expected the path of a file, or null")


def _sections(section: Any, path: list[str], name: str = "") -> Iterator[tuple[str, Any]]:
    """List the sections that a pattern names; absent and empty ones are passed over."""
    if not path:
        yield name, section
    elif isinstance(section, Mapping):
        for key in section if path[0] == "*" else [path[0]]:
            if (part := section.get(key)) is not None or path[0] == "*":
                yield from _sections(part, path[1:], f"{name}.{key}".strip("."))


def check_once(component: Component, check: Callable[[], Any]) -> Any:
    """Return what a check gave, as JSON-able values; a component that passed before isn't checked again."""
    path = cache_path("preflight", component.fingerprint()).with_suffix(".json")
    with contextlib.suppress(UserError):  # what is absent, corrupt or not what was written is checked again
        kept = read_json(path)
        if isinstance(kept, dict) and kept.get("digest") == digest(kept.get("gave")):
            return kept["gave"]
    gave = json.loads(json.dumps(check()))  # as it will be read
    write_json(path, {"gave": gave, "digest": digest(gave)}, digits=17)
    return gave


@dataclass(frozen=True)
class Images:
    """The images that one model is asked for.

    Attributes:
        count: how many.
        size: width and height in pixels; None where only the first image tells.
        seconds: per image, as the model's profile says; None where it doesn't.
        cached: how many of them the cache has already.
        price: dollars an image by the study's cost rule; None where that is not known.
    """

    count: int
    size: Sequence[int] | None
    seconds: float | None
    cached: int = 0
    price: float | None = None

    @property
    def hours(self) -> float | None:
        """Return the hours on one card of what the cache lacks."""
        return None if self.seconds is None else (self.count - self.cached) * self.seconds / 3600

    @property
    def dollars(self) -> float | None:
        """Return the price of what the cache lacks."""
        return None if self.price is None else (self.count - self.cached) * self.price

    @property
    def gigabytes(self) -> float | None:
        """Return what they take on disk at most."""
        return None if self.size is None else self.bytes / 1e9

    @property
    def bytes(self) -> float:
        """Return what they take on disk at most; nothing is said of an unknown size."""
        width, height = self.size or (0, 0)
        return self.count * width * height * BYTES_PER_PIXEL * COPIES


def check_disk(work: Mapping[str, Images], folder: Path) -> None:
    """Refuse images that the disk has no room for.

    Args:
        work: model → its images.
        folder: where they are written.

    Raises:
        UserError: with what is free and what they take.
    """
    needed, free = sum(images.bytes for images in work.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder.resolve()}: {free / 1e9:.1f} GB are free, but the study's images may take "
            f"{needed / 1e9:.1f} GB; free some space, or generate fewer images"
        )


def plan(work: Mapping[str, Images], prompts: int, seeds: int) -> str:
    """Describe in a line what will be generated, and about how long on one card by the models' profiles."""
    if not work:
        return "no image to generate"
    total = sum(images.count for images in work.values())
    known = [images.hours for images in work.values() if images.hours is not None]
    unknown = len(work) - len(known)
    length = (
        f"about {_duration(3600 * sum(known))} by the models' profiles" if known else "of unknown duration"
    )
    more = f", {unknown} of unknown duration besides" if known and unknown else ""
    cached = sum(images.cached for images in work.values())
    had = f", {cached} of them in the cache" if cached else ""
    disk, dollars = (
        whole([one.gigabytes for one in work.values()]),
        whole([one.dollars for one in work.values()]),
    )
    takes = "" if disk is None else f"; at most {disk:,.2f} GB"
    takes += "" if dollars is None else f"; ${dollars:,.2f} by the cost rule"
    return (
        f"{len(work)} models × {prompts} prompts × {seeds} seeds = {total} images{had}; {length}{more}{takes}"
    )


def whole(values: Sequence[float | None]) -> float | None:
    """Return the sum of values; None where any is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _duration(seconds: float) -> str:
    """Write seconds in the unit that suits them."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
