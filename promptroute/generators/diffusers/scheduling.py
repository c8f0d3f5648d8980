"""Schedulers that use random numbers, made to take each image's from its own generator."""

from typing import Any


def step_per_image(scheduler: Any) -> None:
    """Let a scheduler's `step` take one generator per image where it knows only one for the whole batch.

    That is aMUSEd's: its `step` samples tokens with torch.multinomial, which takes a single generator. Every
    other scheduler in diffusers either uses none or takes them from `randn_tensor`, which accepts a list.
    """
    import diffusers
    import torch

    if not isinstance(scheduler, diffusers.AmusedScheduler):
        return
    whole: Any = scheduler.step  # type: ignore[attr-defined]

    def step(model_output: Any, timestep: Any, sample: Any, generator: Any = None, **options: Any) -> Any:
        if not isinstance(generator, list):
            return whole(model_output, timestep, sample, generator=generator, **options)
        steps = [
            whole(model_output[i : i + 1], timestep, sample[i : i + 1], generator=each, **options)
            for i, each in enumerate(generator)
        ]
        if isinstance(steps[0], tuple):
            return tuple(torch.cat(parts) for parts in zip(*steps, strict=True))
        return type(steps[0])(*(torch.cat([output[name] for output in steps]) for name in steps[0]))

    scheduler.step = step  # type: ignore[attr-defined]
