"""Captions of scenes: what a caption states, the grammar that words it, and the five prompt sets.

A prompt set samples a scene first and then states part of it, so everything that a caption says is true of its
scene. What it says is kept beside the words, as a `Statement`, and which word says what, as `Span`s, so no text is ever
parsed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mini.scenes import (
    JITTER,
    SHAPES,
    Object,
    Scene,
    place_of,
    random_background,
    random_objects,
    relation_of,
)

Random = np.random.Generator

WORDS = {
    "red": ["red", "red", "crimson"], "orange": ["orange"], "yellow": ["yellow", "yellow", "golden"],
    "green": ["green", "green", "emerald"], "teal": ["teal", "turquoise"], "blue": ["blue", "blue", "cobalt"],
    "purple": ["purple", "violet"], "pink": ["pink", "pink", "rosy"],
    "white": ["white"], "black": ["black"], "grey": ["grey", "gray"], "sand": ["sand", "beige"],
    "sky": ["sky blue", "pale blue"],
    "circle": ["circle", "circle", "disc"], "ring": ["ring", "hoop"], "square": ["square", "square", "box"],
    "diamond": ["diamond", "rhombus"], "triangle": ["triangle"], "star": ["star"], "cross": ["cross", "plus"],
    "heart": ["heart"],
    "small": ["small", "small", "little", "tiny"], "medium": ["medium", "medium sized"],
    "large": ["large", "big", "huge"],
    "solid": ["solid", "filled"], "striped": ["striped", "stripy"], "checked": ["checked", "chequered"],
    "plain": ["plain", "even"], "dotted": ["dotted", "spotted"], "gradient": ["shaded", "fading"],
    "left of": ["left of", "to the left of"], "right of": ["right of", "to the right of"],
    "above": ["above", "over"], "below": ["below", "under", "beneath"],
    "centre": ["centre", "middle"],
}  # fmt: skip
NUMBERS = {1: ["one"], 2: ["two", "2", "a pair of"], 3: ["three", "3"], 4: ["four", "4"]}
PLURALS = {"box": "boxes", "cross": "crosses", "plus": "pluses", "rhombus": "rhombuses"}
# Places of an arranged scene's objects, by their number and by the relation of the first to the second.
LAYOUTS = {
    1: ("centre",),
    2: ("left", "right"),
    3: ("top", "bottom left", "bottom right"),
    4: ("top left", "top right", "bottom left", "bottom right"),
}
RELATIONS = {
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Group:
    """What a caption says of one object, or of several equal ones; None: not stated.

    Attributes:
        count: how many, 1 to 4.
        shape, colour, size, texture: keys as in `Object`.
        place: key of `PLACES`; only for a single object.
    """

    count: int = 1
    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    texture: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Statement:
    """All that a caption says of its scene.

    Attributes:
        groups: the objects, in the order in which they are named.
        relation: where the first group's object is, seen from the second's, as `relation_of` has it.
        background, pattern: of the background, or None.
    """

    groups: tuple[Group, ...]
    relation: str | None = None
    background: str | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class Span:
    """The words of a caption that say one thing.

    Attributes:
        start, end: first character, and the one after the last.
        group: which of the statement's groups it is said of; None: of the whole scene.
        part: "count", "shape", "colour", "size", "texture", "place", "relation", "background" or "pattern".
    """

    start: int
    end: int
    group: int | None
    part: str


@dataclass(frozen=True)
class Caption:
    """A caption: its words, what they say, a scene of which all of that is true, and which words say what.

    Articles, verbs and words that ask for nothing are in no span.
    """

    text: str
    statement: Statement
    scene: Scene
    spans: tuple[Span, ...] = ()


def statement_from_plain(plain: Mapping[str, Any]) -> Statement:
    """Invert `dataclasses.asdict` of a statement."""
    return Statement(**{**plain, "groups": tuple(Group(**group) for group in plain["groups"])})


def caption_from_plain(plain: Mapping[str, Any]) -> Caption:
    """Invert `dataclasses.asdict` of a caption."""
    scene = {**plain["scene"], "objects": tuple(Object(**item) for item in plain["scene"]["objects"])}
    spans = tuple(Span(**span) for span in plain.get("spans", ()))
    return Caption(plain["text"], statement_from_plain(plain["statement"]), Scene(**scene), spans)


# While a caption is being worded, a span stands between two marks, characters that no caption holds: an opening one,
# which says whose and what it is, and `_CLOSE`.
_SPANS = [(group, part) for group in (None, 0, 1, 2) for part in
          ("count", "shape", "colour", "size", "texture", "place", "relation", "background", "pattern")]  # fmt: skip
_OPEN, _CLOSE = 0xE001, "\ue000"
_MARKS = re.compile(f"[{_CLOSE}-{chr(_OPEN + len(_SPANS))}]")


def _said(words: str, group: int | None, part: str) -> str:
    """Mark words as a span."""
    return f"{chr(_OPEN + _SPANS.index((group, part)))}{words}{_CLOSE}"


def _caption(marked: str, statement: Statement, scene: Scene) -> Caption:
    """Take the marks out of a text, and keep them as spans."""
    spans, text, opened = [], "", (0, 0)
    for letter in marked:
        if letter == _CLOSE:
            spans.append(Span(opened[0], len(text), *_SPANS[opened[1]]))
        elif _MARKS.match(letter):
            opened = (len(text), ord(letter) - _OPEN)
        else:
            text += letter
    return Caption(text, statement, scene, tuple(spans))


def _choice(options: Sequence[str], rng: Random) -> str:
    return options[int(rng.integers(len(options)))]


def _word(key: str, rng: Random) -> str:
    return _choice(WORDS[key], rng)


def _article(words: str) -> str:
    return ("an " if _MARKS.sub("", words)[0] in "aeiou" else "a ") + words


def _noun(group: Group, index: int, rng: Random) -> str:
    """Word a group, the statement's `index`-th, without article or number, as "small red striped stars"."""
    said = {"size": group.size, "colour": group.colour, "texture": group.texture}
    parts = [_said(_word(key, rng), index, part) for part, key in said.items() if key]
    if rng.random() < 0.3:
        parts = parts[::-1]
    noun = _word(group.shape, rng) if group.shape else "shape"
    if group.count > 1:
        noun = PLURALS.get(noun, noun + "s")
    return " ".join([*parts, _said(noun, index, "shape") if group.shape else noun])


def _phrase(group: Group, index: int, rng: Random) -> str:
    """Word a group with its article or number, as "a small red star" or "three stars"."""
    if group.count > 1:
        number = _said(_choice(NUMBERS[group.count], rng), index, "count")
        return f"{number} {_noun(group, index, rng)}"
    return _article(_noun(group, index, rng))


def _place(place: str, index: int, rng: Random) -> str:
    words = place.replace("centre", _word("centre", rng))
    return _said(f"{words} corner" if " " in place and rng.random() < 0.5 else words, index, "place")


def _ground(background: str | None, pattern: str | None, rng: Random) -> str:
    """Word a background, as "striped grey"."""
    said = {"pattern": pattern, "background": background}
    return " ".join(_said(_word(key, rng), None, part) for part, key in said.items() if key)


def _say(item: Object, rng: Random, **chances: float) -> Group:
    """State each attribute of an object with the given probability: shape, colour, size, texture, place; 0 if not given."""
    found = {
        "shape": item.shape,
        "colour": item.colour,
        "size": item.size,
        "texture": item.texture,
        "place": place_of(item.x, item.y),
    }
    return Group(**{name: found[name] for name, chance in chances.items() if rng.random() < chance})  # type: ignore[arg-type]


def _objects(count: int, rng: Random, arranged: bool, places: Sequence[str] | None = None) -> list[Object]:
    return random_objects(count, rng, places) if arranged else random_objects(count, rng, jitter=JITTER)


def _scene(objects: Sequence[Object], rng: Random) -> Scene:
    return Scene(tuple(objects), *random_background(rng))


def labels(rng: Random, arranged: bool = True) -> Caption:
    """Describe one object in one to five words: "star", "a small red star"."""
    scene = _scene(_objects(1, rng, arranged, LAYOUTS[1]), rng)
    group = _say(scene.objects[0], rng, shape=0.93, colour=0.75, size=0.25, texture=0.12)
    if group.shape is None:
        group = Group(colour=scene.objects[0].colour)
    if group.shape is None and rng.random() < 0.5:
        text = _said(_word(scene.objects[0].colour, rng), 0, "colour")
    else:
        text = _noun(group, 0, rng) if rng.random() < 0.6 else _phrase(group, 0, rng)
    return _caption(text, Statement((group,)), scene)


def relations(rng: Random, arranged: bool = True) -> Caption:
    """Describe two objects and their spatial relation: "a red ring left of a blue star"."""
    while True:
        scene = _scene(_objects(2, rng, arranged, RELATIONS[_choice(list(RELATIONS), rng)]), rng)
        relation = relation_of(scene.objects[0], scene.objects[1], margin=6)
        if relation:
            break
    said = {"shape": 1.0, "colour": 0.85, "size": 0.15, "texture": 0.1}
    one, other = (_say(item, rng, **said) for item in scene.objects)
    how, back = (_said(_word(key, rng), None, "relation") for key in (relation, OPPOSITE[relation]))
    first, second = _phrase(one, 0, rng), _phrase(other, 1, rng)
    text = _choice(
        [
            f"{first} {how} {second}",
            f"{first} {how} {second}",
            f"there is {first} {how} {second}",
            f"{how} {second} there is {first}",
            f"{first} and {second}, the first {how} the second",
            f"{first} with {second} {back} it",
        ],
        rng,
    )
    return _caption(text, Statement((one, other), relation=relation), scene)


def counts(rng: Random, arranged: bool = True) -> Caption:
    """Count one to four objects, equal or in two groups: "three small stars", "two red rings and a star"."""
    number = int(rng.integers(1, 5))
    objects = _objects(number, rng, arranged, LAYOUTS[number])
    split = int(rng.integers(1, number)) if number > 1 and rng.random() < 0.4 else number
    models = [objects[0], replace(objects[-1], size=objects[0].size)]
    if split < number and models[0].shape == models[1].shape:  # two groups differ in shape
        models[1] = replace(models[1], shape=_choice([key for key in SHAPES if key != models[0].shape], rng))
    objects = [
        replace(
            models[int(index >= split)], size="small" if number > 2 else models[0].size, x=item.x, y=item.y
        )
        for index, item in enumerate(objects)
    ]
    if number == 2 and np.hypot(objects[0].x - objects[1].x, objects[0].y - objects[1].y) < 36:
        objects = [replace(item, size="small") for item in objects]
    scene = _scene(objects, rng)
    parts = [(objects[0], split)] + ([(objects[-1], number - split)] if split < number else [])
    groups = tuple(
        replace(_say(item, rng, shape=1, colour=0.7, size=0.1, texture=0.15), count=count)
        for item, count in parts
    )
    background = scene.background if rng.random() < 0.4 else None
    text = " and ".join(_phrase(group, index, rng) for index, group in enumerate(groups))
    if background:
        text += f" on {_article(_ground(background, None, rng))} {_choice(['background', 'ground'], rng)}"
    text = _choice([text, text, f"a picture of {text}", f"exactly {text}"], rng)
    return _caption(text, Statement(groups, background=background), scene)


def narratives(rng: Random, arranged: bool = True) -> Caption:
    """Describe one to three objects and nearly all of their attributes, in two to five sentences."""
    scene = _scene(_objects(int(rng.choice([1, 2, 3], p=[0.3, 0.4, 0.3])), rng, arranged), rng)
    said = {"shape": 1.0, "colour": 1.0, "size": 0.8, "texture": 0.6, "place": 1.0}
    groups = tuple(_say(item, rng, **said) for item in scene.objects)
    pattern = scene.pattern if rng.random() < 0.8 else None
    ground = _ground(scene.background, pattern, rng)
    opening = _choice(
        [
            f"This picture has {_article(ground)} background.",
            f"The background is {ground}.",
            f"In this image we can see {_article(ground)} background.",
        ],
        rng,
    )
    sentences = []
    for index, group in enumerate(groups):
        place, noun = _place(group.place or "", index, rng), _phrase(group, index, rng)
        sentences.append(
            _choice(
                [
                    f"At the {place} there is {noun}.",
                    f"There is {noun} at the {place}.",
                    f"{noun[0].upper()}{noun[1:]} is drawn at the {place} of the picture.",
                    f"At the {place} we see {noun}.",
                ],
                rng,
            )
        )
    order = [opening, *sentences] if rng.random() < 0.7 else [*sentences, opening]
    return _caption(" ".join(order), Statement(groups, None, scene.background, pattern), scene)


PRAISE = ["flat design", "vector art", "sharp edges", "minimal", "high quality", "clean lines", "4k", "trending",
          "simple shapes", "digital art", "masterpiece"]  # fmt: skip


def tags(rng: Random, arranged: bool = True) -> Caption:
    """Describe one object by keywords, some of which ask for nothing: "star, purple, striped, 4k, minimal"."""
    told = rng.random() < 0.4
    scene = _scene(_objects(1, rng, arranged, None if told else LAYOUTS[1]), rng)
    group = _say(scene.objects[0], rng, shape=1, colour=0.95, size=0.5, texture=0.75, place=float(told))
    background = scene.background if rng.random() < 0.8 else None
    pattern = scene.pattern if rng.random() < 0.6 else None
    first = {"colour": group.colour, "shape": group.shape}
    rest = [
        _said(_word(key, rng), 0, part)
        for part, key in (("size", group.size), ("texture", group.texture))
        if key
    ]
    if group.place:
        rest.append(_place(group.place, 0, rng))
    if background or pattern:
        rest.append(f"{_ground(background, pattern, rng)} background")
    praise = [str(word) for word in rng.choice(PRAISE, int(rng.integers(1, 4)), replace=False)]
    rest = [str(word) for word in rng.permutation(rest + praise)]
    named = " ".join(_said(_word(key, rng), 0, part) for part, key in first.items() if key)
    return _caption(
        ", ".join([named, *rest]), Statement((group,), background=background, pattern=pattern), scene
    )


# name of a prompt set → what samples a caption of it; like the published study's five sets, they differ in kind
PROMPT_SETS: dict[str, Callable[[Random, bool], Caption]] = {
    "labels": labels,
    "relations": relations,
    "counts": counts,
    "narratives": narratives,
    "tags": tags,
}


def sample_captions(
    prompt_set: str, n: int, seed: int, distinct: bool = False, arranged: bool = True
) -> list[Caption]:
    """Sample captions of a prompt set.

    A sample of n is a prefix of the sample of n + k with the same seed.

    Args:
        prompt_set: key of `PROMPT_SETS`.
        n: how many.
        seed: of the sample.
        distinct: without duplicate texts.
        arranged: objects are on the grid and, unless the caption says where, in the centre or a fixed layout; else
            anywhere, a little off the grid.
    """
    make = PROMPT_SETS[prompt_set]
    rng = np.random.default_rng([seed, list(PROMPT_SETS).index(prompt_set)])
    captions: list[Caption] = []
    texts: set[str] = set()
    while len(captions) < n:
        caption = make(rng, arranged)
        if distinct and caption.text in texts:
            continue
        texts.add(caption.text)
        captions.append(caption)
    return captions
