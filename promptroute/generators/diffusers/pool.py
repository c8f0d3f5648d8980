"""Several pipelines over one model's networks, so that threads can generate with it at once."""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from promptroute.core.plain import Plain, Section
from promptroute.generators.diffusers.scheduling import step_per_image
from promptroute.generators.diffusers.speed import DECODERS


class Pipeline(Protocol):
    """What is used of a diffusers pipeline: its own classes carry no types."""

    config: Section
    components: Plain
    scheduler: Any

    def __call__(self, **call: object) -> Any: ...
    def to(self, device: str) -> "Pipeline": ...
    def set_progress_bar_config(self, *, disable: bool) -> None: ...
    def load_lora_weights(self, place: str, **settings: object) -> None: ...
    def set_adapters(self, names: list[str], scales: list[float]) -> None: ...


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

    def __init__(self, pipeline: Pipeline, device: str, prepare: Callable[[Pipeline], None]) -> None:
        self._first, self._device, self._prepare = pipeline, device, prepare
        self._free = [(pipeline, self._stream())]
        if device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(device)  # the weights are there before any stream reads them

    @contextmanager
    def acquire(self) -> Iterator[Pipeline]:
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

    def _stream(self) -> AbstractContextManager[object]:
        if not self._device.startswith("cuda"):
            return nullcontext()
        import torch

        return torch.cuda.stream(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]

    def _another(self) -> Pipeline:
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
