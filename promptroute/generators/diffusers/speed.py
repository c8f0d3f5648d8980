"""Ways to make a pipeline's networks faster: memory layout, and torch.compile."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from promptroute.core.plain import Section
from promptroute.runtime.batching import is_out_of_memory

Result = TypeVar("Result")
_log = logging.getLogger(__name__)
DENOISERS, DECODERS = ("unet", "transformer"), ("vae", "vqvae")
"""Names that a diffusers pipeline gives them."""


def speed_up(
    pipeline: object,
    channels_last: bool,
    compile: Section | None,
    networks: Sequence[str] = (*DENOISERS, *DECODERS),
) -> None:
    """Change the denoiser and the decoder of a diffusers pipeline; both change the last bits of an image.

    Args:
        pipeline: a diffusers pipeline, on its device.
        channels_last: whether the four-dimensional weights are laid out with their channels last.
        compile: arguments of torch.compile; None compiles nothing. Compiling itself happens at the first call.
        networks: which parts of the pipeline to change.
    """
    import torch

    for name in networks:
        network = getattr(pipeline, name, None)
        if network is None:
            continue
        if channels_last:
            network.to(memory_format=torch.channels_last)
        if compile is not None and name in DENOISERS:
            network.compile(**compile)
        elif compile is not None:  # its decode is what is called, not its forward
            network.decoder.compile(**compile)


def or_uncompiled(pipeline: object, call: Callable[[], Result]) -> Result:
    """Call; where that fails with compiled networks, once more with the networks as they are, from then on."""
    try:
        return call()
    except Exception as error:
        compiled = [
            module
            for network in (getattr(pipeline, name, None) for name in (*DENOISERS, *DECODERS))
            if network is not None
            for module in network.modules()
            if module._compiled_call_impl is not None
        ]
        if is_out_of_memory(error) or not compiled:
            raise
        lines = str(error).strip().splitlines() or ["no message"]
        _log.warning(
            "going on without torch.compile, which failed (%s: %s)", type(error).__name__, lines[0][:200]
        )
        for module in compiled:
            module._compiled_call_impl = None
    return call()
