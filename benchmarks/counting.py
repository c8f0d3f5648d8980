"""Parameters, bytes and operations of a pipeline's networks, counted on torch's meta device: no weights, no time."""

import importlib
from dataclasses import dataclass
from typing import Any

from benchmarks.architectures import Architecture, Part
from promptroute.generators.profiling import flop_counter

_TEXT = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Counted:
    """A network's share of an image.

    Attributes:
        part: its name in the pipeline.
        parameters: how many numbers it has.
        calls: how often it runs for one image.
        rows: inputs of each call: 2 where guidance needs the empty prompt too.
        gflops: 10⁹ operations of all calls; a multiply-add is two.
    """

    part: str
    parameters: int
    calls: int
    rows: int
    gflops: float


def network(part: Part, device: str = "meta") -> Any:
    """Build the network of a part, with torch's own random weights (on `meta`, with none)."""
    import torch

    library, name = part.kind.split(".")
    kind = getattr(importlib.import_module(library), name)
    with torch.device(device):
        if library == "diffusers":
            return kind(**part.config).eval()
        return kind(kind.config_class(**part.config)).eval()


def scheduler(architecture: Architecture) -> Any:
    """Build the scheduler of an architecture."""
    import diffusers

    return getattr(diffusers, architecture.scheduler).from_config(architecture.scheduler_config)


def count(
    architecture: Architecture,
    steps: int,
    guidance: float,
    width: int,
    height: int,
) -> list[Counted]:
    """Count the operations of an image, network by network, as its pipeline in diffusers calls them.

    Matrix products, convolutions and attention count, as torch's FlopCounterMode has them.
    """
    plan = scheduler(architecture)
    plan.set_timesteps(steps)
    rows = 2 if guidance > 1 else 1
    counted = []
    for name in architecture.parts:
        numbers, once = one_row(name, architecture, width, height)
        if name in _TEXT:
            calls, batch = rows, 1  # the prompt, then the empty one
        elif name in ("vae", "vqvae"):
            calls, batch = 1, 1
        else:
            calls, batch = len(plan.timesteps), rows
        counted.append(Counted(name, numbers, calls, batch, calls * batch * once))
    return counted


_COUNTED: dict[str, tuple[int, float]] = {}
"""What was counted in this process, since models share networks."""


def one_row(name: str, architecture: Architecture, width: int, height: int) -> tuple[int, float]:
    """Count a network's parameters, and 10⁹ operations of a call on one input. (Further inputs take as much each.)"""
    part = architecture.parts[name]
    key = repr((name, part, architecture.tokens, width, height))
    if key not in _COUNTED:
        built = network(part)
        numbers = sum(weight.numel() for weight in built.parameters())
        _COUNTED[key] = numbers, _gflops(name, built, architecture, width, height)
    return _COUNTED[key]


def _gflops(name: str, built: Any, architecture: Architecture, width: int, height: int) -> float:
    import torch

    with flop_counter() as counter, torch.no_grad(), torch.device("meta"):
        _call(name, built, architecture, width, height)
    return counter.get_total_flops() / 1e9


def _call(name: str, built: Any, architecture: Architecture, width: int, height: int) -> None:
    """Run a network as its pipeline does, on one input of the right shape."""
    import torch

    decoder = architecture.parts.get("vae") or architecture.parts["vqvae"]
    factor = 2 ** (len(decoder.config.get("block_out_channels", (64,) * 4)) - 1)
    latent = (1, height // factor, width // factor)
    if name in _TEXT:
        built(torch.zeros(1, architecture.tokens, dtype=torch.long))
    elif name == "vae":
        built.decode(torch.zeros(1, built.config.latent_channels, *latent[1:]))
    elif name == "vqvae":
        ids = torch.zeros(*latent, dtype=torch.long)
        built.decode(ids, force_not_quantize=True, shape=(*latent, built.config.latent_channels))
    elif name == "transformer":
        built(
            torch.zeros(*latent, dtype=torch.long),
            encoder_hidden_states=torch.zeros(1, architecture.tokens, built.config.encoder_hidden_size),
            pooled_text_emb=torch.zeros(1, built.config.cond_embed_dim),
            micro_conds=torch.zeros(1, 5),
        )
    else:
        more = {}
        if built.config.addition_embed_type == "text_time":
            times = 6 * built.config.addition_time_embed_dim
            more["added_cond_kwargs"] = {
                "text_embeds": torch.zeros(1, built.config.projection_class_embeddings_input_dim - times),
                "time_ids": torch.zeros(1, 6),
            }
        built(
            torch.zeros(1, built.config.in_channels, *latent[1:]),
            torch.zeros(()),
            encoder_hidden_states=torch.zeros(1, architecture.tokens, built.config.cross_attention_dim),
            **more,
        )
