"""Scenes of a few flat shapes on a background, and their rendering in 64 × 64 pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SIDE = 64  # pixels

COLOURS = {
    "red": (215, 40, 40),
    "orange": (240, 130, 30),
    "yellow": (245, 215, 50),
    "green": (40, 160, 70),
    "teal": (40, 180, 190),
    "blue": (40, 80, 220),
    "purple": (130, 60, 180),
    "pink": (240, 130, 180),
}
SHADE = 0.6  # the second colour of a textured object is its colour times this

# colour of a background → its two shades; a plain background shows only the first
BACKGROUNDS = {
    "white": ((250, 250, 250), (205, 205, 205)),
    "black": ((15, 15, 15), (60, 60, 60)),
    "grey": ((140, 140, 140), (108, 108, 108)),
    "sand": ((225, 203, 162), (182, 162, 128)),
    "sky": ((165, 208, 242), (130, 165, 195)),
}
SIZES = {"small": 7.0, "medium": 10.0, "large": 14.0}  # radius in pixels
TEXTURES = ("solid", "striped", "checked")
PATTERNS = ("plain", "striped", "dotted", "gradient")
# name of a place → column and row of a 3 × 3 grid
PLACES = {
    "top left": (0, 0), "top": (1, 0), "top right": (2, 0),
    "left": (0, 1), "centre": (1, 1), "right": (2, 1),
    "bottom left": (0, 2), "bottom": (1, 2), "bottom right": (2, 2),
}  # fmt: skip
CELL = 16  # pixels between the grid's points, which are at 16, 32 and 48
JITTER = 2  # pixels: how far along each axis an object of a free scene may be from its grid point


@dataclass(frozen=True)
class Object:
    """A shape of a scene.

    Attributes:
        shape, colour, size, texture: keys of `SHAPES`, `COLOURS`, `SIZES`, `TEXTURES`.
        x, y: centre in pixels, from the left and from the top.
    """

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """What an image shows: objects that do not touch, on a background.

    Attributes:
        objects: one to four.
        background: key of `BACKGROUNDS`.
        pattern: one of `PATTERNS`.
    """

    objects: tuple[Object, ...]
    background: str
    pattern: str


def _regular(corners: int, radius: float, turn: float) -> NDArray[np.float64]:
    angle = 2 * np.pi * np.arange(corners) / corners + turn
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _star() -> NDArray[np.float64]:
    points = _regular(10, 1.15, -np.pi / 2)
    points[1::2] *= 0.42
    return points


def _heart() -> NDArray[np.float64]:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y + 2.5], axis=1) / 15.5


# Outlines in units of the radius, y downwards; None: round, see `mask`.
SHAPES: dict[str, NDArray[np.float64] | None] = {
    "circle": None,
    "ring": None,
    "square": _regular(4, 1.2, np.pi / 4),
    "diamond": _regular(4, 1.15, 0) * np.array([0.72, 1.0]),
    "triangle": _regular(3, 1.2, -np.pi / 2) + np.array([0, 0.12]),
    "star": _star(),
    "cross": np.array(
        [[-0.35, -1], [0.35, -1], [0.35, -0.35], [1, -0.35], [1, 0.35], [0.35, 0.35],
         [0.35, 1], [-0.35, 1], [-0.35, 0.35], [-1, 0.35], [-1, -0.35], [-0.35, -0.35]]
    ),
    "heart": _heart(),
}  # fmt: skip
HOLE = 0.55  # inner radius of a ring


@cache
def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    return x, y


def _outline_distance(
    points: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the signed distance to a closed polygon, negative inside; same shape as x."""
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        dx, dy = bx - ax, by - ay
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        nearest = np.minimum(nearest, (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2)
        if dy != 0:
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (x < ax + dx * (y - ay) / dy)
    return np.where(inside, -1, 1) * np.sqrt(nearest)


def mask(shape: str, x: float, y: float, radius: float) -> NDArray[np.float64]:
    """Return how much of each pixel a shape covers, 0 to 1, float64 [64, 64], antialiased by distance to its outline.

    Args:
        shape: key of `SHAPES`.
        x, y: centre in pixels.
        radius: in pixels.
    """
    cover = np.zeros((SIDE, SIDE))
    reach = 1.3 * radius + 2
    rows = slice(max(0, int(y - reach)), max(0, int(y + reach) + 1))
    columns = slice(max(0, int(x - reach)), max(0, int(x + reach) + 1))
    gx, gy = (axis[rows, columns] - centre for axis, centre in zip(_grid(), (x, y), strict=True))
    outline = SHAPES[shape]
    if outline is None:
        distance = np.hypot(gx, gy) - radius
        if shape == "ring":
            distance = np.maximum(distance, HOLE * radius - np.hypot(gx, gy))
    else:
        distance = _outline_distance(outline * radius, gx, gy)
    cover[rows, columns] = np.clip(0.5 - distance, 0, 1)
    return cover


@cache
def texture_weight(texture: str) -> NDArray[np.float64]:
    """Return where an object's texture shows the second shade: 0 or 1, float64 [64, 64]; fixed to the image's grid."""
    x, y = (axis.astype(int) for axis in _grid())
    weights = {"solid": 0 * x, "striped": y // 2 % 2, "checked": (x // 2 + y // 2) % 2}
    return weights[texture].astype(float)


@cache
def pattern_weight(pattern: str) -> NDArray[np.float64]:
    """Return how much of its second shade a background shows: 0 to 1, float64 [64, 64]."""
    x, y = _grid()
    weights = {
        "plain": 0 * x,
        "striped": (x.astype(int) // 4 % 2).astype(float),
        "dotted": np.clip(2.5 - np.hypot(x % 8 - 4, y % 8 - 4), 0, 1),
        "gradient": y / SIDE,
    }
    return weights[pattern]


def _mix(shades: tuple[tuple[int, ...], ...], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second = np.array(shades, float)
    return first + weight[..., None] * (second - first)


def shades(colour: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the two shades of an object's colour, RGB 0 to 255."""
    rgb = COLOURS[colour]
    return rgb, tuple(round(SHADE * part) for part in rgb)


def render(scene: Scene) -> NDArray[np.uint8]:
    """Render a scene: RGB, uint8 [64, 64, 3]. The same scene gives the same pixels."""
    image = _mix(BACKGROUNDS[scene.background], pattern_weight(scene.pattern))
    for item in scene.objects:
        paint = _mix(shades(item.colour), texture_weight(item.texture))
        cover = mask(item.shape, item.x, item.y, SIZES[item.size])[..., None]
        image += cover * (paint - image)
    return np.round(image).astype(np.uint8)


def place_of(x: float, y: float) -> str:
    """Name the place of a point in pixels: the nearest point of the 3 × 3 grid."""
    column, row = (int(np.clip(round(value / CELL) - 1, 0, 2)) for value in (x, y))
    return next(name for name, cell in PLACES.items() if cell == (column, row))


def relation_of(first: Object, second: Object, margin: float = 0) -> str | None:
    """Name where `first` is, seen from `second`: "left of", "right of", "above", "below".

    The axis along which they are farther apart decides; None where that is clearer by less than `margin`
    pixels.
    """
    dx, dy = first.x - second.x, first.y - second.y
    if abs(abs(dx) - abs(dy)) < margin or dx == dy == 0:
        return None
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def random_objects(
    count: int,
    rng: np.random.Generator,
    places: Sequence[str] | None = None,
    jitter: float = 0,
    tries: int = 200,
) -> list[Object]:
    """Place random objects that keep 2 pixels apart; of four or more, none is large.

    Args:
        count: how many.
        rng: source of the randomness.
        places: keys of `PLACES`, one an object; None: anywhere on the grid.
        jitter: pixels that an object may be from its grid point, along each axis.
        tries: objects to try before all of them are placed again.
    """
    sizes = list(SIZES)[: 3 if count <= 3 else 2]
    while True:
        objects: list[Object] = []
        for _ in range(tries):
            column, row = PLACES[places[len(objects)]] if places else rng.integers(0, 3, 2)
            x, y = CELL * (np.array([column, row]) + 1) + rng.uniform(-jitter, jitter, 2)
            item = Object(
                shape=str(rng.choice(list(SHAPES))),
                colour=str(rng.choice(list(COLOURS))),
                size=str(rng.choice(sizes)),
                texture=str(rng.choice(TEXTURES, p=[0.5, 0.25, 0.25])),
                x=float(x),
                y=float(y),
            )
            if all(apart(item, other) for other in objects):
                objects.append(item)
            if len(objects) == count:
                return objects


def apart(first: Object, second: Object) -> bool:
    """Tell whether two objects keep 2 pixels between them."""
    reach = 1.15 * (SIZES[first.size] + SIZES[second.size]) + 2
    return bool(np.hypot(first.x - second.x, first.y - second.y) >= reach)


def random_background(rng: np.random.Generator) -> tuple[str, str]:
    """Sample a background's colour and pattern; half of them are plain."""
    colour = str(rng.choice(list(BACKGROUNDS)))
    return colour, str(rng.choice(PATTERNS, p=[0.52, 0.16, 0.16, 0.16]))
