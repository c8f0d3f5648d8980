"""Examples of rich feedback whose truth is known exactly: what a caption states is altered, places of the image are spoiled.

A caption comes with a scene of which all that it states is true. Some of that is altered, so that we know which of its
words the image misses, and where; some places are spoiled, so that we know where it is implausible. The checker, which
judges the generators' images, must find just what was altered; what it resolves otherwise is thrown away.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mini.captions import PROMPT_SETS, Caption, Statement
from mini.checker import Finding, check, find
from mini.degradations import DEGRADATIONS, local, score_distribution
from mini.scenes import (
    BACKGROUNDS,
    CELL,
    COLOURS,
    JITTER,
    PATTERNS,
    SHAPES,
    SIDE,
    SIZES,
    TEXTURES,
    Object,
    Scene,
    apart,
    mask,
    random_objects,
    render,
)

Random = np.random.Generator
Map = NDArray[np.float64]

ALTERED = SPOILED = 0.6  # share of the examples
ARRANGED = 0.5  # share of captions whose objects have fixed places, as the generators' scenes
MOST = 3  # things altered, places spoiled
VISIBLE = 6.0  # grey levels that a spoiled place changes by, on average: less can't be seen
FULL = 400.0  # pixels; the sum of the implausibility map at which plausibility is 0
TRIES = 30

SCORES = ("plausibility", "alignment", "aesthetics", "overall")
MAPS = ("implausibility", "misalignment")
VALUES: dict[str, Sequence[str]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "texture": TEXTURES,
    "background": tuple(BACKGROUNDS),
    "pattern": PATTERNS,
}
_WORD = re.compile(r'[^ ,.?!":;]+')  # as `promptroute.feedback.texts.prompt_words` splits captions


@dataclass(frozen=True)
class Example:
    """An image with its caption and what people would say of it, if they saw everything.

    Attributes:
        caption: words, what they state, and the scene of which all of that is true.
        scene: what the image shows.
        image: uint8 [64, 64, 3].
        missed: for each of `prompt_words(caption.text)`, whether the image misses it.
        maps: name of `MAPS` → float64 [64, 64] in 0…1.
        scores: name of `SCORES` → 0…1, higher is better.
    """

    caption: Caption
    scene: Scene
    image: NDArray[np.uint8]
    missed: tuple[bool, ...]
    maps: dict[str, Map]
    scores: dict[str, float]


def word_findings(caption: Caption, scene: Scene) -> list[Finding | None]:
    """Return what a scene shows of each of a caption's words; None for a word that states nothing."""
    found = {(finding.group, finding.part): finding for finding in find(caption.statement, scene)}
    given: list[Finding | None] = []
    for word in _WORD.finditer(caption.text):
        spans = [span for span in caption.spans if span.start < word.end() and word.start() < span.end]
        given.append(found[spans[0].group, spans[0].part] if spans else None)
    return given


def missed_words(caption: Caption, scene: Scene) -> tuple[bool, ...]:
    """Tell for each of a caption's words whether a scene misses it."""
    return tuple(finding is not None and not finding.correct for finding in word_findings(caption, scene))


def cover(item: Object) -> Map:
    """Return how much of each pixel an object covers, float64 [64, 64]; one of no known shape, as if it were round."""
    return mask(item.shape if item.shape in SHAPES else "circle", item.x, item.y, SIZES[item.size])


def misalignment_map(statement: Statement, scene: Scene) -> Map:
    """Return where a scene misses what is stated: float64 [64, 64] in 0…1.

    That is, things with a wrong attribute or in a wrong relation, things too many, and the ground where it is wrong; what
    is absent is nowhere.
    """
    covers = [cover(item) for item in scene.objects]
    where = np.zeros((SIDE, SIDE))
    for finding in find(statement, scene):
        for index in finding.objects:
            where = np.maximum(where, covers[index])
        if not finding.correct and finding.part in ("background", "pattern"):
            where = np.maximum(where, 1 - np.max([0 * where, *covers], axis=0))
    return where


def _owners(statement: Statement) -> list[int]:
    """Return the group of each object of the scene that a caption was made of."""
    return [index for index, group in enumerate(statement.groups) for _ in range(group.count)]


def _fits(items: Sequence[Object]) -> bool:
    pairs = [(one, other) for index, one in enumerate(items) for other in items[:index]]
    return all(apart(one, other) for one, other in pairs)


def _other(options: Sequence[str], present: str, rng: Random) -> str:
    return str(rng.choice([option for option in options if option != present]))


def _moved(item: Object, rng: Random) -> Object:
    x, y = CELL * rng.integers(1, 4, 2) + rng.uniform(-JITTER, JITTER, 2)
    return replace(item, x=float(x), y=float(y))


Altered = tuple[list[Object], list[int]]
"""Objects, and the group that each belongs to."""


def _alter_attribute(items: list[Object], owners: list[int], group: int, part: str, rng: Random) -> Altered:
    """Change an attribute of one of a group's objects, or of all."""
    own = [index for index, owner in enumerate(owners) if owner == group]
    chosen = own if rng.random() < 0.5 else [int(rng.choice(own))]
    if part == "place":
        return [_moved(item, rng) if index in chosen else item for index, item in enumerate(items)], owners
    value = _other(VALUES[part], getattr(items[chosen[0]], part), rng)
    return [
        Object(**{**asdict(item), part: value}) if index in chosen else item
        for index, item in enumerate(items)
    ], owners


def _alter_count(items: list[Object], owners: list[int], group: int, rng: Random) -> Altered:
    """Remove one of a group's objects, or add one like them, or any other."""
    own = [index for index, owner in enumerate(owners) if owner == group]
    if rng.random() < 0.5 and len(items) > 1:
        gone = int(rng.choice(own))
        kept = [index for index in range(len(items)) if index != gone]
        return [items[index] for index in kept], [owners[index] for index in kept]
    model = items[own[0]] if rng.random() < 0.6 else random_objects(1, rng)[0]
    return [*items, _moved(replace(model, size="small"), rng)], [*owners, group]


def _alter_relation(items: list[Object], rng: Random) -> list[Object]:
    """Exchange the places of two objects, or move one."""
    first, second, *rest = items
    if rng.random() < 0.5:
        return [replace(first, x=second.x, y=second.y), replace(second, x=first.x, y=first.y), *rest]
    return [_moved(first, rng), second, *rest] if rng.random() < 0.5 else [first, _moved(second, rng), *rest]


def alter(caption: Caption, rng: Random) -> Scene | None:
    """Alter one to three of the things that a caption states; None where the checker sees it otherwise.

    Objects keep apart. With an object that is gone, all that was said of it alone is wrong.
    """
    statement, scene = caption.statement, caption.scene
    things = list(dict.fromkeys((found.group, found.part) for found in find(statement, scene)))
    number = min(int(rng.integers(1, MOST + 1)), len(things))
    picked = [things[index] for index in rng.choice(len(things), number, replace=False)]
    items, owners = list(scene.objects), _owners(statement)
    ground = {"background": scene.background, "pattern": scene.pattern}
    for group, part in sorted(
        picked, key=lambda thing: thing[1] == "count"
    ):  # so that what is gone isn't altered
        if part in ground:
            ground[part] = _other(VALUES[part], ground[part], rng)
        elif part == "relation":
            items = _alter_relation(items, rng)
        elif part == "count":
            items, owners = _alter_count(items, owners, group or 0, rng)
        else:
            items, owners = _alter_attribute(items, owners, group or 0, part, rng)
    made = Scene(tuple(items), **ground)
    if not _fits(items) or not 1 <= len(items) <= 6:
        return None
    gone = {index for index in range(len(statement.groups)) if index not in owners}
    expected = set(picked) | {thing for thing in things if thing[0] in gone}
    if gone and statement.relation:
        expected.add((None, "relation"))
    wrong = {(found.group, found.part) for found in find(statement, made) if not found.correct}
    return made if wrong == expected else None


def _disc(scene: Scene, rng: Random) -> Map:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    cx, cy = rng.uniform(8, SIDE - 8, 2)
    if rng.random() < 0.6 and scene.objects:  # over a thing
        item = scene.objects[int(rng.integers(len(scene.objects)))]
        cx, cy = np.array([item.x, item.y]) + rng.uniform(-6, 6, 2)
    inside: Map = (np.hypot(x - cx, y - cy) < rng.uniform(6, 13)).astype(float)
    return inside


def _half(scene: Scene, rng: Random) -> Map:
    item = scene.objects[int(rng.integers(len(scene.objects)))]
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    angle = rng.uniform(0, 2 * np.pi)
    side = (x - item.x) * np.cos(angle) + (y - item.y) * np.sin(angle) > 0
    return mask(item.shape, item.x, item.y, SIZES[item.size]) * side


def _strip(scene: Scene, rng: Random) -> Map:
    start, width = rng.uniform(0, SIDE - 12), rng.uniform(6, 12)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    along = x if rng.random() < 0.5 else y
    inside: Map = ((along >= start) & (along < start + width)).astype(float)
    return inside


PLACES: tuple[Callable[[Scene, Random], Map], ...] = (_disc, _half, _strip)


def spoil(image: NDArray[np.uint8], scene: Scene, rng: Random) -> tuple[NDArray[np.uint8], Map, float]:
    """Spoil one to three places of an image, where it shows.

    Returns:
        The image, uint8 [64, 64, 3]; where it is implausible: the spoiling mask times its level, the largest of all,
        float64 [64, 64]; the strongest level.
    """
    where, strongest = np.zeros((SIDE, SIDE)), 0.0
    wanted = int(rng.integers(1, MOST + 1))
    for _ in range(TRIES):
        place = gaussian_filter(PLACES[int(rng.integers(len(PLACES)))](scene, rng), 0.8)
        level = float(rng.uniform(0.4, 1))
        made = local(image, str(rng.choice(list(DEGRADATIONS))), level, place, rng)
        change = np.abs(made.astype(float) - image).mean(axis=2)
        if (change * place).sum() < VISIBLE * place.sum():
            continue
        image, where, strongest = made, np.maximum(where, level * place), max(strongest, level)
        wanted -= 1
        if not wanted:
            break
    return image, where, strongest


def scores(statement: Statement, scene: Scene, implausible: Map, level: float) -> dict[str, float]:
    """Score an image, each score 0…1, higher is better.

    Args:
        statement: of its caption.
        scene: what it shows.
        implausible: its implausibility map.
        level: the strongest level that a place is spoiled to; aesthetics is what NIMA's truth is for it.
    """
    plausibility = 1 - float(np.clip(implausible.sum() / FULL, 0, 1))
    alignment = float(np.mean([claim.correct for claim in check(statement, scene)]))
    nima = float(score_distribution(level) @ np.arange(1, 11))
    aesthetics = float(np.clip((nima - 2) / 7, 0, 1))
    overall = (plausibility + alignment + aesthetics) / 3
    return dict(zip(SCORES, (plausibility, alignment, aesthetics, overall), strict=True))


def new_example(seed: Sequence[int], prompt_set: str | None = None) -> Example:
    """Make an example, which its seed decides.

    Args:
        seed: any numbers.
        prompt_set: key of `PROMPT_SETS`; None: a random one.
    """
    rng = np.random.default_rng(seed)
    make = PROMPT_SETS[prompt_set or str(rng.choice(list(PROMPT_SETS)))]
    arranged, altered = bool(rng.random() < ARRANGED), bool(rng.random() < ALTERED)
    scene: Scene | None = None
    while scene is None:
        caption = make(rng, arranged)
        scene = caption.scene
        if altered:
            tried = (alter(caption, rng) for _ in range(TRIES))
            scene = next((made for made in tried if made is not None), None)
    image, where, level = render(scene), np.zeros((SIDE, SIDE)), 0.0
    if rng.random() < SPOILED:
        image, where, level = spoil(image, scene, rng)
    maps = {"implausibility": where, "misalignment": misalignment_map(caption.statement, scene)}
    return Example(
        caption,
        scene,
        image,
        missed_words(caption, scene),
        maps,
        scores(caption.statement, scene, where, level),
    )
