"""The papers' models: parameters, memory and operations, counted; speed, measured on a GPU.

python -m benchmarks.paper_models              count at the true architectures, without weights; a minute
python -m benchmarks.paper_models --measure    speed with random weights at the true architectures, on a GPU; ten minutes
python -m benchmarks.paper_models --table      print what was counted and measured last
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from benchmarks.architectures import architecture_of
from benchmarks.counting import count
from benchmarks.reporting import RESULTS, ROOT, options, write_csv
from promptroute.core.errors import UserError
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.runtime.device import pick_device
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "paper_models.csv"
MEASURED = RESULTS / "paper_models_measured.csv"
SETS = ("paper", "steps")
"""Options of conf/models that are counted."""


def models(option: str) -> dict[str, Any]:
    """Compose the models of an option of conf/models, with every setting of their generators."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        composed = OmegaConf.to_container(compose(None, overrides=[f"+models={option}"]), resolve=True)
    assert isinstance(composed, dict)
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in DiffusersModel.model_fields.items()
        if not field.is_required() and name != "device"
    }
    return {
        name: {**model, "generator": {**defaults, **model["generator"]}}
        for name, model in composed["models"].items()
    }


def counted() -> pd.DataFrame:
    """Count each network of each model: rows of set, model, part, parameters, gigabytes, calls, rows, gflops.

    Gigabytes (10⁹ bytes) are those of the weights on a GPU: half precision except the parts in `float32`.
    """
    rows = []
    for option in SETS:
        for name, model in models(option).items():
            how = model["generator"]
            for network_count in count(
                architecture_of(how), how["steps"], how["guidance"], how["width"], how["height"]
            ):
                size = 4 if network_count.part in how["float32"] else 2
                rows.append(
                    {
                        "set": option,
                        "model": name,
                        "gigabytes": size * network_count.parameters / 1e9,
                        **asdict(network_count),
                    }
                )
    return pd.DataFrame(rows).round({"gigabytes": 4, "gflops": 1})


def table(rows: pd.DataFrame) -> str:
    """Format the counted models in Markdown, with what CEMS published and what was measured here."""
    facts = {name: model for option in SETS for name, model in models(option).items()}
    speed = _speed()
    lines = [
        "| model | steps | guidance | parameters, M (largest parts) | weights, GB | TFLOPs an image | seconds an image, published | measured here |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    for name, parts in rows.groupby("model", sort=False):
        model = facts[str(name)]
        largest = parts.sort_values("parameters", ascending=False).head(2)
        named = ", ".join(f"{row.part} {row.parameters / 1e6:.1f}" for row in largest.itertuples())
        published = (model.get("profile") or {}).get("seconds")
        how = model["generator"]
        lines.append(
            f"| {model['label']} | {how['steps']} | {how['guidance']:g} | {parts['parameters'].sum() / 1e6:,.1f} ({named}) "
            f"| {parts['gigabytes'].sum():.2f} | {parts['gflops'].sum() / 1000:.2f} "
            f"| {'–' if published is None else f'{published:g}'} | {speed.get(str(name), 'unmeasured')} |"
        )
    return "\n".join(lines)


def _speed() -> dict[str, str]:
    """Word each model's measured speed: the stage's best, and one image a call of plain diffusers."""
    if not MEASURED.exists():
        return {}
    rows = pd.read_csv(MEASURED)
    words = {}
    for name, own in rows[rows["images_per_second"].notna()].groupby("model"):
        stage, plain = own[own["what"] == "stage"], own[own["what"] == "plain call, saved"]
        if stage.empty or plain.empty:
            continue
        best, alone = stage.loc[stage["images_per_second"].idxmax()], plain.iloc[0]["images_per_second"]
        words[str(name)] = (
            f"{best['images_per_second']:.1f} images/s by the stage ({best['way']}, batches of {best['batch']:.0f}, "
            f"{best['streams']:.0f} at once), {best['images_per_second'] / alone:.1f} × one call an image, on {best['device']}"
        )
    return words


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("paper_models", __doc__)
    parser.add_argument("--measure", action="store_true", help="measure with random weights, on a GPU")
    parser.add_argument("--seconds", type=float, default=600, help="of --measure (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for what --measure finds (default: the results')")
    parser.add_argument(
        "--part", action="append", help="of --measure, as PART, MODEL or PART:MODEL (default: all)"
    )
    parser.add_argument("--device", default="cuda", help="of --measure (default: %(default)s)")
    parser.add_argument(
        "--tiny", action="store_true", help="try --measure with tiny networks; needs --out, means nothing"
    )
    chosen = parser.parse_args(arguments)
    if chosen.measure:
        return measured(chosen)
    if not chosen.table:
        write_csv(CSV, counted())
    if not CSV.exists():
        raise UserError(f"{CSV.name}: nothing counted yet; run python -m benchmarks.paper_models")
    return table(pd.read_csv(CSV))


def measured(chosen: argparse.Namespace) -> str:
    """Measure as the command line says; returns what was found."""
    from benchmarks.paper_speed import Bench, measure

    if chosen.tiny and chosen.out is None:
        raise UserError("--tiny needs --out: its figures mean nothing, so they don't go to the results")
    gflops = pd.read_csv(CSV).groupby("model")["gflops"].sum().to_dict()
    with TemporaryDirectory() as folder:
        bench = Bench(pick_device(chosen.device), models("paper"), gflops, Path(folder), chosen.tiny)
        results = MEASURED if chosen.out is None else chosen.out / MEASURED.name
        rows = measure(bench, chosen.seconds, results, chosen.part or ())
    return f"{len(rows)} rows, {rows['reason'].notna().sum() if 'reason' in rows else 0} with a reason: {results}"


if __name__ == "__main__":
    run_stage(main)
