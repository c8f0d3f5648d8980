"""Set the look of every figure, and render it: the same input gives the same bytes on one platform."""

import contextlib
import io
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure

from promptroute.core.plain import Plain

if TYPE_CHECKING:
    from matplotlib.patheffects import AbstractPathEffect

INK, QUIET, FAINT = "#1a1a1a", "#5a5a5a", "#d9d9d9"
DPI = 130
_LEFT = 0.012  # of the width: where headlines begin

# Okabe & Ito's colours, which people with any common colour blindness tell apart; the order puts those that
# read well on white first. Black is kept for the router.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
_HATCHES = ("", "///", "...", "xxx")
_MARKERS = ("o", "s", "^", "v")


class Chart(NamedTuple):
    """A figure before it is rendered: its headline, what it shows in words, and itself."""

    title: str
    alt: str
    figure: Figure


def colour(model: int) -> str:
    """Return the colour of the model in column `model`, the same in every figure."""
    return _COLOURS[model % len(_COLOURS)]


def hatch(model: int) -> str:
    """Return the hatch of a model's areas: with its colour it tells up to 28 models apart."""
    return _HATCHES[model // len(_COLOURS) % len(_HATCHES)]


def marker(model: int) -> str:
    """Return the marker of a model's points: with its colour it tells up to 28 models apart."""
    return _MARKERS[model // len(_COLOURS) % len(_MARKERS)]


def halo() -> list["AbstractPathEffect"]:
    """Return the effect that keeps a text readable where lines cross it: a white edge."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="white")]


def ink_on(background: str | tuple[float, float, float]) -> str:
    """Return white for backgrounds that give it a contrast of 3.6 or more (WCAG 2.2), else near-black."""
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(background)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) >= 3.6 else INK


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Apply our settings on matplotlib's defaults, whatever this machine's own are."""
    from matplotlib.style import context

    settings: Plain = {
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
    """Make a figure of width × height inches with a headline above its axes.

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
    """Break a text into lines that fit the figure's width."""
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


def text_width(figure: Figure, texts: Sequence[str], size: float) -> float:
    """Return the width in inches of the longest of some texts, at a font size in points."""
    probe = figure.text(0, 0, "", size=size)
    widest = 0.0
    for text in texts:
        probe.set_text(text)
        widest = max(widest, probe.get_window_extent(renderer(figure)).width / figure.dpi)
    probe.remove()
    return widest


def key(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], size: float = 9.5) -> None:
    """Put a legend below the axes, in as many columns as fit, and make the figure higher by its height."""
    width, height = figure.get_size_inches()
    columns = max(1, min(len(labels), int((width - 0.2) / (text_width(figure, labels, size) + 0.45))))
    room = -(-len(labels) // columns) * size * 1.62 / 72 + 0.12
    engine = figure.get_layout_engine()
    assert engine is not None
    _, _, _, top = engine.get()["rect"]
    for text in figure.texts:  # the headline keeps its distance from the upper edge
        x, y = text.get_position()
        text.set_position((x, 1 - (1 - y) * height / (height + room)))
    figure.set_size_inches(width, height + room)
    engine.set(rect=(0, 0, 1, 1 - (1 - top) * height / (height + room)))  # type: ignore[call-arg]
    figure.legend(
        handles, labels, loc="outside lower left", ncols=columns, fontsize=size, handlelength=1.2,
        columnspacing=1.2, labelspacing=0.5,
    )  # fmt: skip


def name_rows(
    axes: Axes,
    at: Sequence[float],
    names: Sequence[str],
    bold: Collection[int] = (),
    size: float | None = None,
) -> None:
    """Write the names of rows at the left; those at the positions `bold` stand out."""
    axes.set_yticks(at, names, size=size)
    for place, tick in enumerate(axes.get_yticklabels()):
        tick.set(color=INK, weight="bold" if place in bold else "normal")


def renderer(figure: Figure) -> RendererAgg:
    """Return what measures texts in pixels."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    return figure.canvas.get_renderer()  # type: ignore[no-untyped-call]


def root(axes: Axes) -> Figure:
    """Return the figure of some axes."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def settle(figure: Figure) -> None:
    """Fix the layout, so that positions in pixels stay what they are."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def png(figure: Figure) -> bytes:
    """Render a figure as PNG, without a date or a version in it."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def plain(axes: Axes, grid: str = "both") -> None:
    """Put a quiet grid behind the data."""
    axes.grid(True, axis=grid)  # type: ignore[arg-type]
    axes.tick_params(length=0)
