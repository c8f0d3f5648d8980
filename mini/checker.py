"""Read a picture back into a scene, and check a caption's statement against it, attribute by attribute.

No network: colours by the nearest shade of the palette, things as connected regions, shapes by the overlap with
our own drawing of each, textures by correlation with their fixed grids. A caption's generator may be anything;
what it drew is judged by the same rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, label
from scipy.optimize import linear_sum_assignment

from mini.captions import Statement
from mini.scenes import (
    BACKGROUNDS,
    COLOURS,
    PATTERNS,
    SHAPES,
    SIDE,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
    mask,
    pattern_weight,
    place_of,
    relation_of,
    shades,
    texture_weight,
)

UNKNOWN = "unknown"  # a shape that is none of ours
LEAST_AREA = 30  # pixels; what is smaller is a speck
LEAST_OVERLAP = 0.6  # intersection over union, below which a shape is unknown
LEAST_CORRELATION = 0.4  # below which a surface is plain
TURNING_POINTS = (8.4, 11.8)  # radii in pixels between small, medium and large

_THING_SHADES = np.array([shades(colour) for colour in COLOURS], float)  # [8, 2, 3]
_GROUND_SHADES = np.array([BACKGROUNDS[name] for name in BACKGROUNDS], float)  # [5, 2, 3]


def _segment_distance(pixels: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance in RGB from pixels [..., 3] to the segments between pairs of shades [k, 2, 3]: [..., k]."""
    start, way = ends[:, 0], ends[:, 1] - ends[:, 0]
    offset = pixels[..., None, :] - start
    along = np.clip((offset * way).sum(-1) / (way * way).sum(-1), 0, 1)
    return np.linalg.norm(offset - along[..., None] * way, axis=-1)


def _unit_areas() -> dict[str, tuple[float, float, float]]:
    """Each shape's area and centroid for radius 1, from a drawing of radius 20."""
    facts = {}
    for shape in SHAPES:
        cover = mask(shape, SIDE / 2, SIDE / 2, 20.0)
        y, x = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
        area = cover.sum()
        facts[shape] = (area / 400, (cover * x).sum() / area / 20, (cover * y).sum() / area / 20)
    return facts


_UNIT = _unit_areas()


def _correlation(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Pearson correlation, 0 where either is constant (a difference of a few grey levels is no pattern)."""
    if values.std() < 2 or weights.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(values, weights)[0, 1])


def _read_ground(pixels: NDArray[np.float64]) -> tuple[str, str, NDArray[np.bool_]]:
    """Background colour and pattern, and which pixels are background."""
    distance = _segment_distance(pixels, _GROUND_SHADES)
    things = _segment_distance(pixels, _THING_SHADES).min(axis=-1)
    near = (distance.min(axis=-1) <= things) & (distance.min(axis=-1) < 60)
    votes = np.bincount(distance.argmin(axis=-1)[near], minlength=len(BACKGROUNDS))
    index = int(votes.argmax())
    ground = distance[..., index] < np.minimum(things + 1e-9, 45)
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
    return name, pattern if scores[pattern] >= LEAST_CORRELATION else "plain", ground


def _read_thing(pixels: NDArray[np.float64], region: NDArray[np.bool_], ground: str) -> Thing | None:
    """The thing that fills a region, or None where it is only a speck."""
    core = binary_erosion(region)
    votes = _segment_distance(pixels[core if core.sum() >= 8 else region], _THING_SHADES).argmin(axis=-1)
    colour = list(COLOURS)[int(np.bincount(votes, minlength=len(COLOURS)).argmax())]
    own = np.array([shades(colour)], float)
    around = binary_dilation(region, iterations=1)
    mine = _segment_distance(pixels, own)[..., 0]
    theirs = _segment_distance(pixels, np.array([BACKGROUNDS[ground]], float))[..., 0]
    cover = np.where(around, theirs / np.maximum(mine + theirs, 1e-9), 0)  # 1 on the thing, 0 on the ground
    area = cover[cover > 0.5].sum()
    if area < LEAST_AREA:
        return None
    solid = cover > 0.5
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    cx, cy = (solid * x).sum() / solid.sum(), (solid * y).sum() / solid.sum()
    best = (0.0, UNKNOWN, 0.0, cx, cy)
    for shape, (unit, dx, dy) in _UNIT.items():
        radius = float(np.sqrt(solid.sum() / unit))
        px, py = float(cx - dx * radius), float(cy - dy * radius)
        drawn = mask(shape, px, py, radius) > 0.5
        overlap = (drawn & solid).sum() / max(1, (drawn | solid).sum())
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
    return Thing(
        shape=shape if overlap >= LEAST_OVERLAP else UNKNOWN,
        colour=colour,
        size=size,
        texture=texture if scores[texture] >= LEAST_CORRELATION else "solid",
        x=px,
        y=py,
    )


def read_scene(picture: NDArray[np.uint8]) -> Scene:
    """Read a picture, uint8 [64, 64, 3], as a scene: what it shows, as far as it can be told.

    Things are in no order. A shape that is none of ours is `UNKNOWN`.
    """
    pixels = picture.astype(float)
    background, pattern, ground = _read_ground(pixels)
    regions, count = label(~ground)
    found = [
        _read_thing(pixels, regions == index, background)
        for index in range(1, count + 1)
        if (regions == index).sum() >= LEAST_AREA
    ]
    return Scene(tuple(thing for thing in found if thing), background, pattern)


@dataclass(frozen=True)
class Check:
    """One thing that a caption states, and whether a picture shows it.

    Attributes:
        kind: "count", "shape", "colour", "size", "texture", "place", "relation", "background" or "pattern".
        right: whether it is so.
    """

    kind: str
    right: bool


def check(statement: Statement, scene: Scene) -> list[Check]:
    """Check all that a caption states against a scene.

    The things asked for are paired with those there are so that most attributes fit; then each attribute of each
    group is right where all of the group's things have it. The number of things is checked as a whole: too many
    is as wrong as too few.
    """
    wanted = [(index, group) for index, group in enumerate(statement.groups) for _ in range(group.count)]
    parts = ("shape", "colour", "size", "texture", "place")

    def has(thing: Thing, part: str, value: str) -> bool:
        return (place_of(thing.x, thing.y) if part == "place" else getattr(thing, part)) == value

    fits = np.zeros((len(wanted), len(scene.things)))
    for row, (_, group) in enumerate(wanted):
        for column, thing in enumerate(scene.things):
            said = [(part, getattr(group, part)) for part in parts if getattr(group, part) is not None]
            fits[row, column] = sum(has(thing, part, value) for part, value in said)
    paired = _pair(fits, statement, wanted, scene.things)
    checks = [Check("count", len(wanted) == len(scene.things))]
    for index, group in enumerate(statement.groups):
        own = [paired.get(row) for row, (owner, _) in enumerate(wanted) if owner == index]
        for part in parts:
            value = getattr(group, part)
            if value is not None:
                checks.append(
                    Check(part, all(thing is not None and has(thing, part, value) for thing in own))
                )
    if statement.relation:
        one, other = paired.get(0), paired.get(1)
        right = one is not None and other is not None and relation_of(one, other) == statement.relation
        checks.append(Check("relation", right))
    for kind in ("background", "pattern"):
        value = getattr(statement, kind)
        if value is not None:
            checks.append(Check(kind, getattr(scene, kind) == value))
    return checks


def _pair(
    fits: NDArray[np.float64], statement: Statement, wanted: Sequence[object], things: Sequence[Thing]
) -> dict[int, Thing]:
    """Pair things asked for with things there are; among equally good pairings, one that keeps the relation."""
    rows, columns = linear_sum_assignment(fits, maximize=True)
    paired = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    if statement.relation and len(paired) == len(wanted) == 2:
        swapped = {0: paired[1], 1: paired[0]}
        total = fits[0, paired[0]] + fits[1, paired[1]]
        same = fits[0, swapped[0]] + fits[1, swapped[1]] == total
        if same and relation_of(things[swapped[0]], things[swapped[1]]) == statement.relation:
            paired = swapped
    return {row: things[column] for row, column in paired.items()}


def share_right(checks: Sequence[Check]) -> float:
    """Share of checks that are right, 0 to 1, higher is better."""
    return sum(one.right for one in checks) / len(checks)
