"""Tell of a router that looks at images: its gain by the score it looks at, never without what is left on fresh images."""

from collections.abc import Sequence
from dataclasses import dataclass

from promptroute.report.format import NARROW, interval, number, percent
from promptroute.report.result import LARGEST_SHARE, Result, SearchFrontier

FRESH = (
    "Fresh images are others by the model whose image was kept, which the search did not look at: the best of several "
    "scores is partly luck, and on them that luck is gone. Who values these very images by this very score has the whole "
    "gain; who takes the score for a noisy sign of something else has what is left on fresh images."
)
NONE_FRESH = (
    "The best of several scores is partly luck, so another image by the same model would score less. How much less is "
    "not known here: this study has no scores of single images to judge on."
)


@dataclass(frozen=True)
class Shot:
    """A step of a search.

    Attributes:
        model: its column.
        image: which of the model's images, from 0.
        score: quality of the image; None: it was not asked for, and the search ended here.
        reservation: the quality in hand at which it would just have paid; None: whatever was in hand.
        price: dollars with its look.
        kept: this image is delivered.
    """

    model: int
    image: int
    score: float | None
    reservation: float | None
    price: float
    kept: bool


def shots(result: Result, prompt_id: str) -> tuple[Shot, ...]:
    """Return what the search did with a prompt, in order; nothing of a router that doesn't look."""
    if result.strips is None:
        return ()
    rows = result.strips[result.strips["prompt_id"] == prompt_id].sort_values("place")
    columns = [rows[name].tolist() for name in ("model", "image", "score", "reservation", "price", "kept")]
    return tuple(
        Shot(result.labels.index(model), int(image), _known(score), _known(reservation), price, bool(kept))
        for model, image, score, reservation, price, kept in zip(*columns, strict=True)
    )


def _known(value: float) -> float | None:
    return None if value != value else value


def searched_lines(result: Result) -> list[str]:
    """Return what came out of a search, in sentences with 95 % intervals: first at the operating point set beforehand."""
    searched, own = result.values.searched, result.values.router
    assert searched is not None
    best = result.labels[result.best_single]
    left = (
        "what of it is left on fresh images is not known"
        if searched.fresh is None
        else f"on fresh images by {interval(searched.fresh.quality_gain, 3, signed=True)}"
    )
    lines = [
        f"Against {best}, the best single model, the search's cost changes by "
        f"{interval(own.cost_change, 1, share=True, signed=True)}, every image and look included, and mean quality by "
        f"{interval(own.quality_gain, 3, signed=True)} by the score that it looks at; {left}. Its operating point was set "
        f"beforehand on other prompts.",
        FRESH if searched.fresh else NONE_FRESH,
        took(result),
    ]
    for frontier, most in (
        (result.values.search, ""),
        (result.values.search_two_draws, " with at most two images"),
    ):
        if frontier is not None:
            lines.append(_read_off(frontier, most))
    return lines


def took(result: Result) -> str:
    """Say how many images and seconds a prompt took, what a look costs, and how well the belief held."""
    searched = result.values.searched
    assert searched is not None
    shares = ", ".join(
        f"{many} for {percent(share, 0)}" for many, share in searched.images.items() if share > 0
    )
    text = f"A prompt takes {number(searched.mean_images, 2)} images on average ({shares} of the prompts)"
    if (seconds := searched.seconds) is not None:
        text += (
            f", one after the other in {number(seconds['mean'], 2)} seconds on average, {number(seconds['p50'], 2)} at "
            f"the median and {number(seconds['p95'], 2)} at the 95th percentile"
        )
    if searched.look is not None:
        text += f"; a look costs ${1000 * searched.look:.3g} per 1,000 images"
    if searched.coverage:
        held = ", ".join(
            f"{percent(share, 0)} after {'no' if looks == '0' else looks} image{'s' * (looks != '1')}"
            for looks, share in searched.coverage.items()
        )
        text += f". Of the scores not seen yet there lie in the belief's 90{NARROW}% intervals {held}"
    return f"{text}."


def _read_off(frontier: SearchFrontier, most: str) -> str:
    """Say what is read off the search's frontier; each figure by fresh images beside that by the score."""

    def both(name: str, missing: str) -> str:
        figures = [
            interval(
                getattr(part, name).bounded(LARGEST_SHARE),
                1,
                share=True,
                signed=missing != "–",
                missing=missing,
            )
            for part in (frontier, frontier.fresh)
            if part is not None
        ]
        return figures[0] if len(figures) == 1 else f"{figures[0]}, on fresh images {figures[1]}"

    unknown = "" if frontier.fresh else "; on fresh images not known"
    return (
        f"Read off the search's frontier{most} on these test prompts, so without an operating point set beforehand: cost "
        f"at the best single model's quality {both('iso_quality_cost', 'not reached')}; oracle gap closed at no more than "
        f"its cost {both('oracle_gap_closed', '–')}{unknown}."
    )


def ending(result: Result, steps: Sequence[Shot]) -> str:
    """Say why a search ended, from its last step."""
    kept = next((step for step in steps if step.kept), None)
    have = "" if kept is None else f" against {number(kept.score, 2)} in hand"
    last = steps[-1]
    if last.score is not None:
        return "no model was left"
    if last.reservation is None or (
        kept is not None and kept.score is not None and last.reservation > kept.score
    ):
        return "no more images may be made"
    return f"not asked: {result.labels[last.model]}, reservation value {number(last.reservation, 2)}{have}"
