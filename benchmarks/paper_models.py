"""The papers' models: parameters, memory and operations, counted; speed, measured on a GPU.

python -m benchmarks.paper_models              count at the true architectures, without weights; a minute
python -m benchmarks.paper_models --measure    generate with random weights at the true architectures, on a GPU
python -m benchmarks.paper_models --table      print what was counted and measured last
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from pydantic import PrivateAttr

from benchmarks.architectures import Architecture, architecture_of
from benchmarks.counting import count, network, scheduler
from benchmarks.reporting import RESULTS, ROOT, options, write_csv
from promptroute.core.errors import UserError
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.generators.run import generate_images
from promptroute.io.images import ImageCache, ImageRequest
from promptroute.runtime.device import pick_device
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "paper_models.csv"
MEASURED = RESULTS / "paper_models_measured.csv"
SETS = ("paper", "steps")
"""Options of conf/models that are counted."""
WAYS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "channels last": {"channels_last": True},
    "channels last, compiled": {"channels_last": True, "compile": {"mode": "max-autotune-no-cudagraphs"}},
}
"""Settings of a generator whose speed is compared."""
STREAMS = (1, 2)
"""Numbers of concurrent batches that are compared."""
PROMPT = "a photograph of a red fox in deep snow under a clear winter sky, {}"


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


class RandomModel(DiffusersModel):
    """A model of conf/model with random weights at its true architecture; nothing is downloaded.

    Args:
        architecture: what to build.
        settings: as for `DiffusersModel`.
    """

    _architecture: Architecture = PrivateAttr()

    def __init__(self, architecture: Architecture, **settings: Any) -> None:
        super().__init__(**{**settings, "components": {}, "scheduler": None})
        self._architecture = architecture

    def _read(self) -> Any:
        import diffusers

        parts = {
            name: network(part, self.device).to(self.dtype_of(name))
            for name, part in self._architecture.parts.items()
        }
        tokenizers = {
            name.replace("text_encoder", "tokenizer"): tokenizer(part)
            for name, part in parts.items()
            if name.startswith("text_encoder")
        }
        kind = getattr(diffusers, self._architecture.pipeline)
        more: dict[str, Any] = {}
        if self._architecture.pipeline == "StableDiffusionPipeline":
            more = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        elif self._architecture.pipeline == "StableDiffusionXLPipeline":
            more = {"add_watermarker": False}
        return kind(**parts, **tokenizers, scheduler=scheduler(self._architecture), **more)


def tokenizer(encoder: Any) -> Any:
    """Make a substitute for a CLIP tokenizer: letters, with the encoder's vocabulary size and length."""
    import string

    from transformers import CLIPTokenizer

    size, length = encoder.config.vocab_size, encoder.config.max_position_embeddings
    letters = string.ascii_lowercase + string.digits + ","
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [f"<|{number}|>" for number in range(size - 2 - len(words))]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def measured(device: str, ways: Sequence[str], images: int, max_batch: int, tolerance: float) -> pd.DataFrame:
    """Measure each model of the paper in each way: a row each.

    Seconds of an image, and images a second by batch: of the generator alone, call after call; and of the generate
    stage, which writes PNG and shards, with one batch at a time and with two concurrent ones.
    """
    import torch

    from promptroute.generators.profiling import profile

    prompts = [PROMPT.format(number) for number in range(64)]
    rows = []
    for name, model in models("paper").items():
        settings = {key: value for key, value in model["generator"].items() if key != "_target_"}
        for way in ways:
            generator = RandomModel(architecture_of(settings), **{**settings, **WAYS[way], "device": device})
            found = profile(generator, prompts, images=images, max_batch=max_batch, tolerance=tolerance)
            rates = found["images_per_second"]
            rows.append(
                {
                    "model": name,
                    "way": way,
                    "measured_on": found["measured_on"],
                    "seconds": found["seconds"],
                    "seconds_std": found["seconds_std"],
                    "images_per_second": rates[1],
                    "best_batch": found["best_batch"],
                    "best_images_per_second": rates[found["best_batch"]],
                    **{
                        f"stage_{streams}_streams": stage_rate(
                            generator, prompts, found["best_batch"], streams
                        )
                        for streams in STREAMS
                    },
                    "memory_gb": found["memory_gb"],
                }
            )
            print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
            del generator
            if device.startswith("cuda"):
                torch.cuda.empty_cache()
    return pd.DataFrame(rows).round(4)


def stage_rate(generator: DiffusersModel, prompts: Sequence[str], batch: int, streams: int) -> float:
    """Return images a second of the generate stage: three seeds a prompt, six batches after a warm-up."""
    generator = generator.model_copy(update={"batch_size": batch, "streams": streams})
    texts = -(-6 * batch // 3)
    requests = [
        ImageRequest(f"P{n}", f"{prompts[n % len(prompts)]} {n}", seed)
        for n in range(texts)
        for seed in range(3)
    ]
    with TemporaryDirectory() as folder:
        warm, real = ImageCache(Path(folder) / "warm"), ImageCache(Path(folder) / "real")
        # Random weights in half precision may well give no finite image; the time is the same.
        generate_images(generator, "warm", [requests[: streams * batch]], warm, max_failed=1.0)
        generated = generate_images(generator, "real", [requests], real, max_failed=1.0)
    return generated.images / generated.now.seconds


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
    """Word each model's measured speed, in its fastest way."""
    if not MEASURED.exists():
        return {}
    rows = pd.read_csv(MEASURED)
    stage = [f"stage_{streams}_streams" for streams in STREAMS]
    best = rows.loc[rows[stage].max(axis=1).groupby(rows["model"]).idxmax()]
    return {
        row["model"]: f"{row[stage].max():.2f} images/s by the stage, in batches of {row['best_batch']} "
        f"({row['way']}, {STREAMS[stage.index(row[stage].astype(float).idxmax())]} at once; "
        f"one call an image {row['images_per_second']:.2f}) on {row['measured_on']}"
        for _, row in best.iterrows()
    }


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("paper_models", __doc__)
    parser.add_argument("--measure", action="store_true", help="generate with random weights, on a GPU")
    parser.add_argument("--device", default="cuda", help="of --measure (default: %(default)s)")
    parser.add_argument("--way", action="append", choices=list(WAYS), help="of --measure (default: all)")
    parser.add_argument("--images", type=int, default=20, help="timed one by one (default: %(default)s)")
    parser.add_argument("--max-batch", type=int, default=64, help="largest batch (default: %(default)s)")
    parser.add_argument("--tolerance", type=float, default=0.05, help="of the median (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    if chosen.measure:
        device = pick_device(chosen.device)
        rows = measured(device, chosen.way or list(WAYS), chosen.images, chosen.max_batch, chosen.tolerance)
        write_csv(MEASURED, rows)
    elif not chosen.table:
        write_csv(CSV, counted())
    if not CSV.exists():
        raise UserError(f"{CSV.name}: nothing counted yet; run python -m benchmarks.paper_models")
    return table(pd.read_csv(CSV))


if __name__ == "__main__":
    run_stage(main)
