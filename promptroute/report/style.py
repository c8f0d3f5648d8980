"""How every picture looks, and how it becomes bytes: the same input gives the same bytes on one platform."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure

INK, QUIET, FAINT = "#1a1a1a", "#5a5a5a", "#d9d9d9"
DPI = 130
_LEFT = 0.012  # of the width: where headlines begin

# Okabe & Ito's colours, which people with any common colour blindness tell apart; the order puts those that
# read well on white first. Black is kept for the router.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
_HATCHES = ("", "///", "...")
_MARKERS = ("o", "s", "^")


def colour(model: int) -> str:
    """Colour of the model in column `model`, the same in every picture."""
    return _COLOURS[model % len(_COLOURS)]


def hatch(model: int) -> str:
    """Hatch of a model's areas: with its colour it names the model where there are more than seven."""
    return _HATCHES[model // len(_COLOURS) % len(_HATCHES)]


def marker(model: int) -> str:
    """Marker of a model's points: with its colour it names the model where there are more than seven."""
    return _MARKERS[model // len(_COLOURS) % len(_MARKERS)]


def ink_on(background: str | tuple[float, float, float]) -> str:
    """White on colours that give it a contrast of 3.6 or more (WCAG 2.2), else near-black."""
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(background)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) >= 3.6 else INK


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw and save inside: our settings on matplotlib's defaults, whatever this machine's own are."""
    from matplotlib.style import context

    settings: dict[str, Any] = {
        "font.family": "DejaVu Sans",  # comes with matplotlib
        "font.size": 11,
        "text.color": INK,
        "text.parse_math": False,  # a $ in a model's label is a $
        "axes.edgecolor": QUIET,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "legend.frameon": False,
        "hatch.linewidth": 0.8,
        "figure.dpi": DPI,
    }
    with context(["default", settings], after_reset=True):
        yield


def canvas(width: float, height: float, title: str, subtitle: str, **subplots: Any) -> tuple[Figure, Any]:
    """A figure of width × height inches with a headline above its axes.

    `subplots` are those of `Figure.subplots`. Returns the figure and what `Figure.subplots` does.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    head = _wrapped(figure, title, size=14, weight="bold")
    below = _wrapped(figure, subtitle, size=10, weight="normal")
    room = 0.22 + 0.25 * len(head) + 0.19 * len(below)
    whole = height + room
    figure.set_size_inches(width, whole)
    figure.text(_LEFT, 1 - 0.1 / whole, "\n".join(head), size=14, weight="bold", va="top", linespacing=1.2)
    under = 1 - (0.14 + 0.25 * len(head)) / whole
    figure.text(_LEFT, under, "\n".join(below), size=10, color=QUIET, va="top", linespacing=1.25)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1, 1 - room / whole), w_pad=0.08, h_pad=0.06)  # type: ignore[call-arg]
    return figure, figure.subplots(**subplots)


def _wrapped(figure: Figure, text: str, *, size: float, weight: str) -> list[str]:
    """Lines of a text that fit the figure's width."""
    limit = figure.bbox.width * (1 - 2 * _LEFT)
    probe = figure.text(0, 0, "", size=size, weight=weight)
    lines: list[str] = []
    for word in text.split(" "):  # not at the spaces that hold a number and its unit together
        longer = f"{lines[-1]} {word}" if lines else word
        probe.set_text(longer)
        if lines and probe.get_window_extent(renderer(figure)).width <= limit:
            lines[-1] = longer
        else:
            lines.append(word)
    probe.remove()
    return lines


def renderer(figure: Figure) -> RendererAgg:
    """What measures texts in pixels."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    return figure.canvas.get_renderer()  # type: ignore[no-untyped-call]


def root(axes: Axes) -> Figure:
    """The figure that axes stand in."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def settle(figure: Figure) -> None:
    """Fix the layout, so that positions in pixels stay what they are."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def png(figure: Figure) -> bytes:
    """The figure as PNG, without a date or a version in it."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def plain(axes: Axes, grid: str = "both") -> None:
    """A quiet grid behind the data."""
    axes.grid(True, axis=grid)  # type: ignore[arg-type]
    axes.tick_params(length=0)
