"""`promptroute plan`: what a study's images will take, before any of them is generated."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptroute.core.errors import UserError

if TYPE_CHECKING:
    from promptroute.runtime.preflight import Images

CARDS = typer.Option(
    "--cards", "-n", help="GPUs, or whatever the models' seconds are of, that work side by side", min=1
)
PROMPTS = typer.Option(
    "--prompts", help="how many prompts; those of data/prompts.parquet, or prompts.n, by default", min=1
)


def plan(
    cards: Annotated[int, CARDS] = 1,
    prompts: Annotated[int | None, PROMPTS] = None,
) -> None:
    """Print images, hours, disk and dollars of the study that params.yaml describes; nothing is generated.

    Hours and dollars are of the images that the cache lacks.
    """
    from promptroute.runtime.preflight import whole

    rows = study_images(prompts)
    if not rows:
        print("plan: no model generates images in this study")
        return
    spread = () if cards == 1 else (f"on {cards} cards",)
    head = ("model", "images", "in the cache", "hours left", *spread, "disk, GB at most", "dollars left")
    work = [one for _, one in rows]
    hours, gigabytes, dollars = (
        whole([getattr(one, name) for one in work]) for name in ("hours", "gigabytes", "dollars")
    )
    every = sum(one.count for one in work), sum(one.cached for one in work), hours, gigabytes, dollars
    lines = [
        _cells(label, one.count, one.cached, one.hours, one.gigabytes, one.dollars, cards)
        for label, one in rows
    ]
    lines.append(_cells("all", *every, cards))
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    for line in (head, *lines):
        print(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
        )
    if hours is None:
        print("–: not known; give models.NAME.profile.seconds, or time the models with cost=measured")


def study_images(prompts: int | None) -> "list[tuple[str, Images]]":
    """Work out from params.yaml, the prompts and the cache each model's label, and what its images take.

    Raises:
        UserError: the parameters are invalid, or nothing says how many prompts there are.
    """
    from promptroute.core.component import build
    from promptroute.generators.plan import planned
    from promptroute.generators.study import Generation
    from promptroute.routing.costs import CostRule, MissingFact, facts_ahead
    from promptroute.runtime.device import read_compute
    from promptroute.runtime.params import load_params, study_models

    params = load_params()
    texts, number = _prompts(params["prompts"]["n"], prompts)
    seeds = Generation.read(params["generation"], "params.yaml: generation").each_seed
    device = read_compute(params["compute"], "params.yaml: compute").device
    rule: CostRule = build(params["cost"], "params.yaml: cost", CostRule)
    models = study_models(params)
    try:
        prices = dict(zip(models, rule.cost(facts_ahead(models, params["profiled"])).tolist(), strict=True))
    except MissingFact:
        prices = {}
    work = planned(params["models"], texts, number, seeds, device, prices)
    return [(params["models"][name].get("label", name), images) for name, images in work.items()]


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


def _cells(
    label: str,
    images: int,
    cached: int,
    hours: float | None,
    gigabytes: float | None,
    dollars: float | None,
    cards: int,
) -> tuple[str, ...]:
    def shown(value: float | None) -> str:
        return "–" if value is None else "<0.01" if 0 < value < 0.005 else f"{value:,.2f}"

    spread = [] if cards == 1 else [shown(None if hours is None else hours / cards)]
    return label, f"{images:,}", f"{cached:,}", shown(hours), *spread, shown(gigabytes), shown(dollars)
