"""Detect the scene in an image, and check a caption's statement against it, attribute by attribute.

No network: colours by the nearest shade of the palette, objects as connected regions, shapes by their overlap with
our own rendering of each, textures by correlation with their fixed grids. The same rules judge every generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, label
from scipy.optimize import linear_sum_assignment

from mini.captions import Group, Statement
from mini.scenes import (
    BACKGROUNDS,
    COLOURS,
    PATTERNS,
    SHAPES,
    SIDE,
    SIZES,
    TEXTURES,
    Object,
    Scene,
    mask,
    pattern_weight,
    place_of,
    relation_of,
    shades,
    texture_weight,
)

UNKNOWN = "unknown"  # a shape of none of the known kinds
MIN_AREA = 30  # pixels; a smaller region is noise
MIN_OVERLAP = 0.6  # intersection over union, below which a shape is unknown
MIN_CORRELATION = 0.4  # with a texture; below it a surface is plain
TURNING_POINTS = (8.4, 11.8)  # radii in pixels between small, medium and large

_OBJECT_SHADES = np.array([shades(colour) for colour in COLOURS], float)  # [8, 2, 3]
_GROUND_SHADES = np.array([BACKGROUNDS[name] for name in BACKGROUNDS], float)  # [5, 2, 3]


def _segment_distance(pixels: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return distances in RGB from pixels [..., 3] to the segments between pairs of shades [k, 2, 3]: [..., k]."""
    start, way = ends[:, 0], ends[:, 1] - ends[:, 0]
    offset = pixels[..., None, :] - start
    along = np.clip((offset * way).sum(-1) / (way * way).sum(-1), 0, 1)
    return np.linalg.norm(offset - along[..., None] * way, axis=-1)


def _unit_areas() -> dict[str, tuple[float, float, float]]:
    """Measure each shape's area and centroid for radius 1, from a rendering of radius 20."""
    facts = {}
    for shape in SHAPES:
        cover = mask(shape, SIDE / 2, SIDE / 2, 20.0)
        y, x = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
        area = cover.sum()
        facts[shape] = (area / 400, (cover * x).sum() / area / 20, (cover * y).sum() / area / 20)
    return facts


_UNIT = _unit_areas()


def _correlation(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return Pearson's correlation, 0 where either is constant (a few grey levels are no pattern)."""
    if values.std() < 2 or weights.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(values, weights)[0, 1])


def _read_ground(pixels: NDArray[np.float64]) -> tuple[str, str, NDArray[np.bool_]]:
    """Detect the background: colour, pattern, and which pixels belong to it, bool [64, 64]."""
    distance = _segment_distance(pixels, _GROUND_SHADES)
    objects = _segment_distance(pixels, _OBJECT_SHADES).min(axis=-1)
    near = (distance.min(axis=-1) <= objects) & (distance.min(axis=-1) < 60)
    votes = np.bincount(distance.argmin(axis=-1)[near], minlength=len(BACKGROUNDS))
    index = int(votes.argmax())
    ground = distance[..., index] < np.minimum(objects + 1e-9, 45)
    name = list(BACKGROUNDS)[index]
    inner = binary_erosion(ground, iterations=1, border_value=1)
    inner = inner if inner.sum() > 200 else ground
    grey = -pixels.mean(axis=-1) if name != "black" else pixels.mean(axis=-1)  # grows with the second shade
    scores = {
        pattern: _correlation(grey[inner], pattern_weight(pattern)[inner])
        for pattern in PATTERNS
        if pattern != "plain"
    }
    pattern = max(scores, key=scores.__getitem__)
    return name, pattern if scores[pattern] >= MIN_CORRELATION else "plain", ground


def _read_object(pixels: NDArray[np.float64], region: NDArray[np.bool_], ground: str) -> Object | None:
    """Detect the object that fills a region; None where it is only noise."""
    core = binary_erosion(region)
    votes = _segment_distance(pixels[core if core.sum() >= 8 else region], _OBJECT_SHADES).argmin(axis=-1)
    colour = list(COLOURS)[int(np.bincount(votes, minlength=len(COLOURS)).argmax())]
    own = np.array([shades(colour)], float)
    around = binary_dilation(region, iterations=1)
    mine = _segment_distance(pixels, own)[..., 0]
    theirs = _segment_distance(pixels, np.array([BACKGROUNDS[ground]], float))[..., 0]
    cover = np.where(around, theirs / np.maximum(mine + theirs, 1e-9), 0)  # 1 on the object, 0 on the ground
    area = cover[cover > 0.5].sum()
    if area < MIN_AREA:
        return None
    solid = cover > 0.5
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    cx, cy = (solid * x).sum() / solid.sum(), (solid * y).sum() / solid.sum()
    best = (0.0, UNKNOWN, 0.0, cx, cy)
    for shape, (unit, dx, dy) in _UNIT.items():
        radius = float(np.sqrt(solid.sum() / unit))
        px, py = float(cx - dx * radius), float(cy - dy * radius)
        rendered = mask(shape, px, py, radius) > 0.5
        overlap = (rendered & solid).sum() / max(1, (rendered | solid).sum())
        if overlap > best[0]:
            best = (float(overlap), shape, radius, px, py)
    overlap, shape, radius, px, py = best
    size = list(SIZES)[int(np.searchsorted(TURNING_POINTS, radius))]
    inner = binary_erosion(solid)
    inner = inner if inner.sum() >= 12 else solid
    dark = -pixels.mean(axis=-1)
    scores = {
        name: _correlation(dark[inner], texture_weight(name)[inner]) for name in TEXTURES if name != "solid"
    }
    texture = max(scores, key=scores.__getitem__)
    return Object(
        shape=shape if overlap >= MIN_OVERLAP else UNKNOWN,
        colour=colour,
        size=size,
        texture=texture if scores[texture] >= MIN_CORRELATION else "solid",
        x=px,
        y=py,
    )


def read_scene(image: NDArray[np.uint8]) -> Scene:
    """Detect the scene in an image, uint8 [64, 64, 3].

    Objects are in no order. A shape of none of the known kinds is `UNKNOWN`.
    """
    pixels = image.astype(float)
    background, pattern, ground = _read_ground(pixels)
    regions, count = label(~ground)
    found = [
        _read_object(pixels, regions == index, background)
        for index in range(1, count + 1)
        if (regions == index).sum() >= MIN_AREA
    ]
    return Scene(tuple(item for item in found if item), background, pattern)


@dataclass(frozen=True)
class Check:
    """A claim of a caption, and whether an image shows it.

    Attributes:
        kind: "count", "shape", "colour", "size", "texture", "place", "relation", "background" or "pattern".
        correct: whether it does.
    """

    kind: str
    correct: bool


def check(statement: Statement, scene: Scene) -> list[Check]:
    """Check all that a caption states against a scene.

    The requested objects are matched with the detected ones so that most attributes fit; an attribute of a group is
    correct where all of the group's objects have it. The number of objects is checked as a whole: too many is as
    wrong as too few.
    """
    paired, _ = _matched(statement, scene)
    items = {row: scene.objects[column] for row, column in paired.items()}
    checks = [Check("count", sum(group.count for group in statement.groups) == len(scene.objects))]
    for own, group in zip(_rows(statement), statement.groups, strict=True):
        for part, value in _stated(group).items():
            checks.append(Check(part, all(row in items and _has(items[row], part, value) for row in own)))
    if statement.relation:
        correct = 0 in items and 1 in items and relation_of(items[0], items[1]) == statement.relation
        checks.append(Check("relation", correct))
    for kind in ("background", "pattern"):
        value = getattr(statement, kind)
        if value is not None:
            checks.append(Check(kind, getattr(scene, kind) == value))
    return checks


@dataclass(frozen=True)
class Finding:
    """What an image shows of one thing that a caption states.

    Attributes:
        group: index of the statement's group; None: of the whole scene.
        part: as `captions.Span.part`.
        correct: whether it shows what is stated.
        shown: what it shows in its place or, where correct, as stated; None where nothing does, or several things.
        objects: indices of the scene's objects that make it wrong.
    """

    group: int | None
    part: str
    correct: bool
    shown: str | int | None
    objects: tuple[int, ...] = ()


def find(statement: Statement, scene: Scene) -> list[Finding]:
    """Find what a scene shows of all that a caption states: which words it misses, and where.

    Objects are matched as `check` does it, but a missing one makes its group's attributes wrong only where no other of
    the group is there: of "three red stars", two red ones miss "three". Objects too many count to the group that they
    fit best. Of each group, its number comes first.
    """
    paired, fits = _matched(statement, scene)
    extra = sorted(set(range(len(scene.objects))) - set(paired.values()))
    rows = _rows(statement)
    joined = [int(fits[[own[0] for own in rows], column].argmax()) for column in extra]
    findings = []
    for index, (own, group) in enumerate(zip(rows, statement.groups, strict=True)):
        columns = [paired[row] for row in own if row in paired]
        more = tuple(column for column, owner in zip(extra, joined, strict=True) if owner == index)
        number = len(columns) + len(more)
        findings.append(Finding(index, "count", number == group.count, number, more))
        for part, value in _stated(group).items():
            values = {column: _value(scene.objects[column], part) for column in columns}
            wrong = tuple(column for column, seen in values.items() if seen != value)
            shown = next(iter(values.values())) if len(set(values.values())) == 1 else None
            findings.append(Finding(index, part, bool(values) and not wrong, shown, wrong))
    if statement.relation:
        both = tuple(paired[row] for row in (0, 1) if row in paired)
        seen = relation_of(scene.objects[both[0]], scene.objects[both[1]]) if len(both) == 2 else None
        right = seen == statement.relation
        findings.append(Finding(None, "relation", right, seen, () if right or len(both) < 2 else both))
    for part in ("background", "pattern"):
        if getattr(statement, part) is not None:
            seen = getattr(scene, part)
            findings.append(Finding(None, part, seen == getattr(statement, part), seen))
    return findings


def _value(item: Object, part: str) -> str:
    value: str = place_of(item.x, item.y) if part == "place" else getattr(item, part)
    return value


def _has(item: Object, part: str, value: str) -> bool:
    return _value(item, part) == value


def _stated(group: Group) -> dict[str, str]:
    """Return what a caption states of a group, but its number."""
    parts = ("shape", "colour", "size", "texture", "place")
    return {part: getattr(group, part) for part in parts if getattr(group, part) is not None}


def _rows(statement: Statement) -> list[list[int]]:
    """Number the requested objects; those of each group."""
    ends = np.cumsum([group.count for group in statement.groups]).tolist()
    return [list(range(end - group.count, end)) for end, group in zip(ends, statement.groups, strict=True)]


def _matched(statement: Statement, scene: Scene) -> tuple[dict[int, int], NDArray[np.float64]]:
    """Match requested objects with a scene's: row → column; and how many attributes of each pair fit."""
    said = [_stated(group) for group in statement.groups for _ in range(group.count)]
    fits = np.zeros((len(said), len(scene.objects)))
    for row, stated in enumerate(said):
        for column, item in enumerate(scene.objects):
            fits[row, column] = sum(_has(item, part, value) for part, value in stated.items())
    return _pair(fits, statement, scene.objects), fits


def _pair(fits: NDArray[np.float64], statement: Statement, objects: Sequence[Object]) -> dict[int, int]:
    """Match requested with detected objects; of equally good matchings, take the one that keeps the relation."""
    rows, columns = linear_sum_assignment(fits, maximize=True)
    paired: dict[int, int] = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    if statement.relation and len(paired) == len(fits) == 2:
        same = fits[0, paired[0]] + fits[1, paired[1]] == fits[0, paired[1]] + fits[1, paired[0]]
        if same and relation_of(objects[paired[1]], objects[paired[0]]) == statement.relation:
            paired = {0: paired[1], 1: paired[0]}
    return paired
