"""`promptroute plan`: what a study's images will take, before any of them is generated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from promptroute.core.errors import UserError

CARDS = typer.Option(
    "--cards", "-n", help="GPUs, or whatever the models' seconds are of, that work side by side", min=1
)
PROMPTS = typer.Option(
    "--prompts", help="how many prompts; those of data/prompts.parquet, or prompts.n, by default", min=1
)


@dataclass(frozen=True)
class Row:
    """What one model's images take; None where it is not known.

    Attributes:
        label: how people write the model.
        images, cached: asked for, and of those what the cache has already.
        seconds: of one image, as its profile says.
        gigabytes: of all of them on disk, at most.
        dollars: of those that the cache lacks, by the study's cost rule.
    """

    label: str
    images: int
    cached: int
    seconds: float | None
    gigabytes: float | None
    dollars: float | None

    @property
    def hours(self) -> float | None:
        """Return the hours on one card of what the cache lacks."""
        return None if self.seconds is None else (self.images - self.cached) * self.seconds / 3600


def plan(
    cards: Annotated[int, CARDS] = 1,
    prompts: Annotated[int | None, PROMPTS] = None,
) -> None:
    """Print images, hours, disk and dollars of the study that params.yaml describes; nothing is generated."""
    rows = study_rows(prompts)
    if not rows:
        typer.echo("plan: no model generates images in this study")
        return
    head = ("model", "images", "in the cache", "hours on 1 card", f"on {cards}", "GB at most", "dollars")
    total = Row(
        "all",
        sum(row.images for row in rows),
        sum(row.cached for row in rows),
        None,
        _sum([row.gigabytes for row in rows]),
        _sum([row.dollars for row in rows]),
    )
    hours = _sum([row.hours for row in rows])
    lines = [_cells(row, row.hours, cards) for row in rows] + [_cells(total, hours, cards)]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    for line in (head, *lines):
        typer.echo(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
        )
    if hours is None:
        typer.echo("–: not known; give models.NAME.profile.seconds, or time the models with cost=measured")


def study_rows(prompts: int | None) -> list[Row]:
    """Work out each model's row from params.yaml, the prompts and the cache.

    Raises:
        UserError: the parameters are invalid, or nothing says how many prompts there are.
    """
    from promptroute.core.component import build
    from promptroute.generators.base import build_generator
    from promptroute.generators.study import Generation
    from promptroute.io.images import ImageCache
    from promptroute.routing.costs import CostRule, MissingFact, facts_ahead
    from promptroute.runtime.device import read_compute
    from promptroute.runtime.params import load_params, study_models
    from promptroute.runtime.preflight import Images, check_once

    params = load_params()
    texts, number = _prompts(params["prompts"]["n"], prompts)
    generation = Generation.read(params["generation"], "params.yaml: generation")
    seeds = generation.each_seed
    device = read_compute(params["compute"], "params.yaml: compute").device
    rule: CostRule = build(params["cost"], "params.yaml: cost", CostRule)
    models = study_models(params)
    try:
        cost = dict(zip(models, rule.cost(facts_ahead(models, params["profiled"])).tolist(), strict=True))
    except MissingFact:
        cost = {}
    rows = []
    for name, section in params["models"].items():
        generator = build_generator(section["generator"], f"params.yaml: models.{name}.generator", device)
        kept = ImageCache.of(generator.fingerprint()).keys()
        cached = sum((text, seed) in kept for text in texts for seed in seeds)
        images = Images(
            number * len(seeds),
            check_once(generator, generator.check),
            (section.get("profile") or {}).get("seconds"),
        )
        price = cost.get(name)
        rows.append(
            Row(
                section.get("label", name),
                images.count,
                cached,
                images.seconds,
                None if images.size is None else images.bytes / 1e9,
                None if price is None else price * (images.count - cached),
            )
        )
    return rows


def _prompts(n: int | None, given: int | None) -> tuple[list[str], int]:
    """Return the texts that are known, and how many prompts there will be."""
    from promptroute.core.rows import Prompt
    from promptroute.io.tables import read_table

    sampled = Path("data/prompts.parquet")
    texts = read_table(sampled, Prompt)["prompt"].tolist() if sampled.is_file() else []
    number = given or (len(texts) if sampled.is_file() else n)
    if number is None:
        raise UserError(
            f"{sampled}: not there yet, and prompts.n is null; sample the prompts, or give --prompts"
        )
    return texts[:number], number


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _cells(row: Row, hours: float | None, cards: int) -> tuple[str, ...]:
    def shown(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:,.{digits}f}"

    spread = None if hours is None else hours / cards
    return (
        row.label,
        f"{row.images:,}",
        f"{row.cached:,}",
        shown(hours, 2),
        shown(spread, 2),
        shown(row.gigabytes, 2),
        shown(row.dollars, 2),
    )
