"""Write labels beside their points, off each other: of many places for each, the best, in turns.

adjustText was tried in its place: its labels came to stand on the frontier's line, on markers and on their
neighbours' connectors, and left the axes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from promptroute.core.plain import Plain
from promptroute.report.style import INK, QUIET, halo, renderer, root

_RADII = np.array([8.0, 13.0, 20.0, 29.0, 40.0, 54.0, 72.0, 95.0, 125.0, 160.0])  # points
_ANGLES = np.deg2rad(np.arange(0, 360, 15))
_MARGIN = 2.5  # points around a label that are its own
_SIZE = 9.5  # of the font, in points
_ROUNDS = 12


def place_labels(
    axes: Axes,
    points: np.ndarray,
    texts: Sequence[str],
    *,
    markers: np.ndarray,
    lines: np.ndarray,
    boxes: Sequence[Bbox] = (),
    weights: Sequence[str],
) -> None:
    """Write a label beside each point, with a thin line to it where it had to move away.

    Each label takes one of 240 places around its point, so that overlaps with other labels, their connectors,
    markers and boxes, then with lines, then distances are small in sum; labels move in turns until none gains.

    Args:
        axes: with its final layout and limits.
        points: what is labelled, float64 [k, 2], data units.
        texts: k labels.
        markers: points that no label may cover, float64 [a, 2], data units.
        lines: samples of lines that labels should rather not cover, float64 [b, 2], data units.
        boxes: areas that labels must not cover, in pixels.
        weights: font weight of each label.
    """
    figure = root(axes)
    unit = figure.dpi / 72
    at, marks, covered = (axes.transData.transform(part) for part in (points, markers, lines))
    look: Plain = {"size": _SIZE, "color": INK, "zorder": 9, "path_effects": halo()}
    artists = [
        axes.annotate(text, (0, 0), xycoords="figure pixels", weight=weight, **look)
        for text, weight in zip(texts, weights, strict=True)
    ]
    extents = [artist.get_window_extent(renderer(figure)) for artist in artists]
    places = [
        _places(point, extent.width, extent.height, unit) for point, extent in zip(at, extents, strict=True)
    ]
    fixed = np.array([box.extents for box in boxes]).reshape(-1, 4)
    dots = np.hstack([marks - 6 * unit, marks + 6 * unit])
    inside = np.array(axes.bbox.extents)
    own = [
        np.repeat(_RADII, len(_ANGLES))
        + 50 * _outside(options, inside)
        + 50 * _overlap(options, fixed, unit).sum(axis=1)
        + 20 * _overlap(options, dots[np.hypot(*(marks - point).T) > unit], unit).sum(axis=1)
        + 6 * _covers(options, covered)
        for point, options in zip(at, places, strict=True)
    ]
    taken = _settle(own, _between(at, places, unit))
    for point, options, place, artist in zip(at, places, taken, artists, strict=True):
        box = options[place]
        artist.set_position((float(box[0]), float(box[1])))
        artist.set_verticalalignment("bottom")
        _connect(axes, point, np.clip(point, box[:2], box[2:]), unit)


def _connect(axes: Axes, point: np.ndarray, end: np.ndarray, unit: float) -> None:
    """Put a thin line from the edge of a marker to its label, where the label is away from it; in pixels."""
    length = float(np.hypot(*(end - point)))
    if length > 9 * unit:
        start = point + (end - point) * 6 * unit / length
        arrow = {"arrowstyle": "-", "color": QUIET, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            "", tuple(start), tuple(end), "figure pixels", "figure pixels", arrowprops=arrow, zorder=3
        )


def _places(point: np.ndarray, width: float, height: float, unit: float) -> np.ndarray:
    """Return where a label may stand: boxes [places, 4] in pixels, by distance, then angle."""
    half = np.array([width, height]) / 2
    turn = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    # From the point to the centre of a box whose nearest edge touches the point.
    reach = (half / np.maximum(np.abs(turn), 1e-9)).min(axis=1)
    centre = np.concatenate([point + turn * (reach + radius * unit)[:, None] for radius in _RADII])
    return np.hstack([centre - half, centre + half])


def _between(at: np.ndarray, places: Sequence[np.ndarray], unit: float) -> dict[tuple[int, int], np.ndarray]:
    """Return what each two labels' places cost together: (i, j) → [places of i, places of j]."""
    ends = [np.clip(point, options[:, :2], options[:, 2:]) for point, options in zip(at, places, strict=True)]
    cost = {}
    for j in range(len(places)):
        for i in range(j):
            cost[i, j] = 50 * _overlap(places[i], places[j], unit)
            cost[i, j] += 60 * _crosses(at[i], ends[i], places[j])
            cost[i, j] += 60 * _crosses(at[j], ends[j], places[i]).T
            cost[j, i] = cost[i, j].T
    return cost


def _settle(own: Sequence[np.ndarray], between: dict[tuple[int, int], np.ndarray]) -> list[int]:
    """Return the places that together cost least, as far as moving a label at a time can lower it."""
    taken = [int(np.argmin(cost)) for cost in own]
    for _ in range(_ROUNDS):
        before = list(taken)
        for i, cost in enumerate(own):
            others = [between[i, j][:, taken[j]] for j in range(len(own)) if j != i]
            taken[i] = int(np.argmin(cost + np.sum(others, axis=0)))
        if taken == before:
            break
    return taken


def _crosses(start: np.ndarray, ends: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Tell whether the lines from a point to `ends` [k, 2] cross boxes [j, 4]: 0 or 1 as [k, j] (Liang-Barsky)."""
    way = np.where(np.abs(ends - start) < 1e-9, 1e-9, ends - start)[:, None]
    first, second = (boxes[None, :, :2] - start) / way, (boxes[None, :, 2:] - start) / way
    enter = np.minimum(first, second).max(axis=2)
    leave = np.maximum(first, second).min(axis=2)
    return np.asarray((np.maximum(enter, 0) < np.minimum(leave, 1)).astype(np.float64))


def _overlap(boxes: np.ndarray, others: np.ndarray, unit: float) -> np.ndarray:
    """Return how much boxes [k, 4] and others [j, 4] overlap, with the margin: [k, j], 0 where they don't."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2] - _MARGIN * unit)
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:] + _MARGIN * unit)
    area = np.clip(high - low, 0, None).prod(axis=2)
    return np.asarray((area > 0) + area / (10 * unit) ** 2)


def _outside(boxes: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return how far each box stands out of the axes, in pixels."""
    return np.asarray(
        np.clip(np.hstack([inside[:2] - boxes[:, :2], boxes[:, 2:] - inside[2:]]), 0, None).sum(axis=1)
    )


def _covers(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Count the points that each box covers."""
    within = (points[None] >= boxes[:, None, :2]) & (points[None] <= boxes[:, None, 2:])
    return np.asarray(within.all(axis=2).sum(axis=1))
