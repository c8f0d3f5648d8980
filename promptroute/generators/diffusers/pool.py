"""Several pipelines over one model's networks, so that threads can generate with it at once."""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from promptroute.generators.diffusers.scheduling import step_per_image
from promptroute.generators.diffusers.speed import DECODERS


class PipelinePool:
    """Pipelines, of which each thread acquires one; more are made as more are needed at once.

    They share the networks. What a pipeline changes while it runs, each has of its own: the scheduler; the
    tokenizers, which keep how they pad; and the decoder, which some pipelines cast to another precision and back.
    On a GPU each also has a stream of its own, so that one's decoding, copying and waiting for Python overlap with
    another's denoising.

    Args:
        pipeline: a diffusers pipeline on its device, acquired first.
        device: its torch device.
        prepare: called with each further pipeline before it is acquired.
    """

    def __init__(self, pipeline: Any, device: str, prepare: Callable[[Any], None]) -> None:
        self._first, self._device, self._prepare = pipeline, device, prepare
        self._free = [(pipeline, self._stream())]
        if device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(device)  # the weights are there before any stream reads them

    @contextmanager
    def acquire(self) -> Iterator[Any]:
        """Yield a pipeline that no other thread uses meanwhile."""
        try:
            pipeline, stream = self._free.pop()
        except IndexError:
            pipeline, stream = None, self._stream()
        try:
            with stream:
                if pipeline is None:
                    pipeline = self._another()
                yield pipeline
        finally:
            if pipeline is not None:
                self._free.append((pipeline, stream))

    def _stream(self) -> Any:
        if not self._device.startswith("cuda"):
            return nullcontext()
        import torch

        streams: Any = torch.cuda.Stream  # untyped
        return torch.cuda.stream(streams(self._device))

    def _another(self) -> Any:
        import torch

        first = self._first
        parts = {
            name: part if isinstance(part, torch.nn.Module) and name not in DECODERS else copy.deepcopy(part)
            for name, part in first.components.items()
        }
        # Not a copy, for its step may have been replaced by one that is bound to it.
        parts["scheduler"] = type(first.scheduler).from_config(first.scheduler.config)
        step_per_image(parts["scheduler"])
        # Made from its parts, not copied: some pipelines hold others, which hold the same parts.
        settings = {**first.config, **parts}
        asked_for = inspect.signature(type(first).__init__).parameters
        pipeline = type(first)(**{name: settings[name] for name in asked_for if name in settings})
        self._prepare(pipeline)
        return pipeline
