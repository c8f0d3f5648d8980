"""Labels beside their points, none on another: the best of many places for each, in turns."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from promptroute.report.style import INK, QUIET, renderer, root

_RADII = (8.0, 13.0, 20.0, 29.0, 40.0, 54.0, 72.0, 95.0, 125.0, 160.0)  # points
_ANGLES = np.deg2rad(np.arange(0, 360, 15))
_MARGIN = 2.5  # points around a label that are its own
_ROUNDS = 6


def place_labels(
    axes: Axes,
    points: np.ndarray,
    texts: Sequence[str],
    *,
    avoid: np.ndarray,
    boxes: Sequence[Bbox] = (),
    weights: Sequence[str] | None = None,
    size: float = 9.5,
) -> list[Bbox]:
    """Write a label beside each point, with a thin line to it where it had to move away.

    Each label takes one of 240 places around its point, so that overlaps with other labels, points and
    boxes, then with lines, then distances are small in sum; it is moved, alone or with one other, until
    that helps no more.

    Args:
        axes: with its final layout and limits.
        points: [k, 2] in data units.
        texts: k labels.
        avoid: [a, 2] in data units: samples of lines that labels should rather not cover.
        boxes: in pixels, that labels must not cover.
        weights: font weight of each.
        size: of the font, in points.

    Returns:
        Where each label came to stand, in pixels.
    """
    figure = root(axes)
    unit = figure.dpi / 72
    at = axes.transData.transform(points)
    lines = axes.transData.transform(avoid) if len(avoid) else np.empty((0, 2))
    artists = [
        axes.annotate(text, (0, 0), xycoords="figure pixels", size=size, color=INK, weight=weight, zorder=9)
        for text, weight in zip(texts, weights or ["normal"] * len(texts), strict=True)
    ]
    extents = [artist.get_window_extent(renderer(figure)) for artist in artists]
    fixed = np.array([box.extents for box in boxes]).reshape(-1, 4)
    markers = np.hstack([at - 6 * unit, at + 6 * unit])
    inside = np.array(axes.bbox.extents)

    places = [
        _places(point, extent.width, extent.height, unit) for point, extent in zip(at, extents, strict=True)
    ]
    away = np.repeat(_RADII, len(_ANGLES))
    own = [
        away
        + 50 * _outside(options, inside)
        + 50 * _overlap(options, fixed, unit).sum(axis=1)
        + 20 * _overlap(options, np.delete(markers, k, axis=0), unit).sum(axis=1)
        + 6 * _covered(options, lines)
        for k, options in enumerate(places)
    ]
    taken = _settle(own, _between(at, places, unit))
    for point, options, k, artist in zip(at, places, taken, artists, strict=True):
        box = options[k]
        artist.set_position((float(box[0]), float(box[1])))
        artist.set_verticalalignment("bottom")
        end = np.clip(point, box[:2], box[2:])
        length = float(np.hypot(*(end - point)))
        if length > 9 * unit:
            start = point + (end - point) * 6 * unit / length
            axes.annotate(
                "", start, end, "figure pixels", "figure pixels",
                arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0},
                zorder=3,
            )  # fmt: skip
    return [Bbox.from_extents(*options[k]) for options, k in zip(places, taken, strict=True)]


def _places(point: np.ndarray, width: float, height: float, unit: float) -> np.ndarray:
    """Where a label may stand: boxes [places, 4] in pixels, by distance, then angle."""
    half = np.array([width, height]) / 2
    turn = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    # From the point to the centre of a box whose nearest edge touches the point.
    reach = (half / np.maximum(np.abs(turn), 1e-9)).min(axis=1)
    centre = np.concatenate([point + turn * (reach + radius * unit)[:, None] for radius in _RADII])
    return np.hstack([centre - half, centre + half])


def _between(at: np.ndarray, places: Sequence[np.ndarray], unit: float) -> dict[tuple[int, int], np.ndarray]:
    """What each two labels' places cost together: (i, j), i < j → [places of i, places of j]."""
    ends = [np.clip(point, options[:, :2], options[:, 2:]) for point, options in zip(at, places, strict=True)]
    cost = {}
    for j in range(len(places)):
        for i in range(j):
            apart = 50 * _overlap(places[i], places[j], unit)
            apart += 60 * _crosses(at[i], ends[i], places[j])
            apart += 60 * _crosses(at[j], ends[j], places[i]).T
            cost[i, j] = apart
    return cost


def _settle(own: Sequence[np.ndarray], between: dict[tuple[int, int], np.ndarray]) -> list[int]:
    """The places that together cost least, as far as moving one label, or two at once, can lower it."""
    count = len(own)

    def pair(i: int, j: int) -> np.ndarray:
        return between[i, j] if i < j else between[j, i].T

    taken = [int(np.argmin(cost)) for cost in own]

    def given(i: int, without: int = -1) -> np.ndarray:
        """Cost of each place of label i, given the others (but one)."""
        others = [pair(i, j)[:, taken[j]] for j in range(count) if j not in (i, without)]
        return own[i] + sum(others, np.zeros(len(own[i])))

    for _ in range(_ROUNDS):
        before = list(taken)
        for i in range(count):
            taken[i] = int(np.argmin(given(i)))
        for (i, j), together in between.items():
            if (
                together[taken[i], taken[j]] > 0
                or own[i][taken[i]] > _RADII[2]
                or own[j][taken[j]] > _RADII[2]
            ):
                both = given(i, j)[:, None] + given(j, i)[None, :] + together
                taken[i], taken[j] = (int(k) for k in np.unravel_index(np.argmin(both), both.shape))
        if taken == before:
            break
    return taken


def _crosses(start: np.ndarray, ends: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether the lines from a point to `ends` [k, 2] cross boxes [j, 4]: 0 or 1 as [k, j] (Liang-Barsky)."""
    way = np.where(np.abs(ends - start) < 1e-9, 1e-9, ends - start)[:, None]
    first, second = (boxes[None, :, :2] - start) / way, (boxes[None, :, 2:] - start) / way
    enter = np.minimum(first, second).max(axis=2)
    leave = np.maximum(first, second).min(axis=2)
    return np.asarray((np.maximum(enter, 0) < np.minimum(leave, 1)).astype(np.float64))


def _overlap(boxes: np.ndarray, others: np.ndarray, unit: float) -> np.ndarray:
    """How much boxes [k, 4] and others [j, 4] overlap, with the margin: [k, j], 0 where they don't."""
    if not len(others):
        return np.zeros((len(boxes), 0))
    low = np.maximum(boxes[:, None, :2], others[None, :, :2] - _MARGIN * unit)
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:] + _MARGIN * unit)
    area = np.clip(high - low, 0, None).prod(axis=2)
    return np.asarray((area > 0) + area / (10 * unit) ** 2)


def _outside(boxes: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """How far each box stands out of the axes, in pixels."""
    return np.asarray(
        np.clip(inside[:2] - boxes[:, :2], 0, None).sum(axis=1)
        + np.clip(boxes[:, 2:] - inside[2:], 0, None).sum(axis=1)
    )


def _covered(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How many points each box covers."""
    if not len(points) or not len(boxes):
        return np.zeros(len(boxes))
    within = (points[None] >= boxes[:, None, :2]) & (points[None] <= boxes[:, None, 2:])
    return np.asarray(within.all(axis=2).sum(axis=1).astype(float))
