"""Schedulers that use random numbers, made to take each image's from its own generator."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SAMPLED_AT_ONCE = "AmusedScheduler"
"""Class of the scheduler whose images a GPU samples in another way than the scheduler itself."""


def step_per_image(scheduler: Any) -> None:
    """Let a scheduler's `step` take one generator per image where it knows only one for the whole batch.

    That is aMUSEd's: its `step` samples tokens with torch.multinomial, which takes a single generator. Every
    other scheduler in diffusers either uses none or takes them from `randn_tensor`, which accepts a list.

    On a GPU the batch goes together, by `sample_tokens`. The scheduler's own sampling would take each image's
    probabilities to the CPU, where the generator is, and throw a die for each of 8,192 tokens at 1,024 places.
    """
    import diffusers
    import torch

    if not isinstance(scheduler, getattr(diffusers, SAMPLED_AT_ONCE)):
        return
    whole: Any = scheduler.step

    def step(model_output: Any, timestep: Any, sample: Any, generator: Any = None, **options: Any) -> Any:
        if not isinstance(generator, list):
            return whole(model_output, timestep, sample, generator=generator, **options)
        if model_output.device.type != "cpu" and not options:
            return sample_tokens(scheduler, model_output, int(timestep), sample, generator)
        steps = [
            whole(model_output[i : i + 1], timestep, sample[i : i + 1], generator=each, **options)
            for i, each in enumerate(generator)
        ]
        if isinstance(steps[0], tuple):
            return tuple(torch.cat(parts) for parts in zip(*steps, strict=True))
        return type(steps[0])(*(torch.cat([output[name] for output in steps]) for name in steps[0]))

    scheduler.step = step


def sample_tokens(
    scheduler: Any,
    logits: "torch.Tensor",
    timestep: int,
    sample: "torch.Tensor",
    generators: "Sequence[torch.Generator]",
) -> Any:
    """Fill in masked tokens and mask the least certain again: a step of aMUSEd (arXiv 2401.01808) for a whole batch.

    As the scheduler's own step, but a token is found by one number in 0..1 (where the cumulated probabilities
    pass it), so that the CPU's generators give only two numbers a token and step.

    Args:
        scheduler: aMUSEd's, its timesteps set.
        logits: [b, codes, height, width].
        timestep: steps that follow this one.
        sample: int64 [b, height, width], some of them masked.
        generators: b, on the CPU.

    Returns:
        The scheduler's output.

    Raises:
        ValueError: a probability is not finite.
    """
    import torch
    from diffusers.schedulers.scheduling_amused import AmusedSchedulerOutput

    before, n = sample.flatten(1), sample[0].numel()
    masked = before == scheduler.config.mask_token_id
    probabilities = logits.flatten(2).transpose(1, 2).softmax(dim=-1, dtype=torch.float32)
    uniform = torch.stack([torch.rand(2, n, generator=one) for one in generators]).to(logits.device)
    cumulated = probabilities.cumsum(dim=-1)
    if not bool(cumulated[..., -1].isfinite().all()):
        raise ValueError("the model gave probabilities that are not finite")
    wanted = uniform[:, 0, :, None] * cumulated[..., -1:]
    found = torch.searchsorted(cumulated, wanted, right=True).clamp(max=probabilities.shape[-1] - 1)
    tokens = torch.where(masked, found[..., 0], before)
    after = tokens
    if timestep > 0:
        done = 1 - timestep / len(scheduler.timesteps)
        cosine = scheduler.config.masking_schedule == "cosine"
        left = torch.tensor(done * torch.pi / 2).cos() if cosine else torch.tensor(1 - done)
        count = (n * left).floor().long().to(logits.device)
        count = torch.minimum(masked.sum(dim=1, keepdim=True) - 1, count).clamp(min=1)
        chance = probabilities.gather(2, tokens[..., None])[..., 0]
        chance = torch.where(masked, chance, torch.finfo(torch.float32).max)
        gumbel = -(-uniform[:, 1].clamp(min=1e-20).log()).clamp(min=1e-20).log()
        temperature = scheduler.temperatures[len(scheduler.timesteps) - 1 - timestep]
        certainty = chance.clamp(min=1e-20).log() + temperature * gumbel
        limit = certainty.sort(dim=1).values.gather(1, count)
        after = torch.where(certainty < limit, scheduler.config.mask_token_id, tokens)
    output: Any = AmusedSchedulerOutput  # whose types are wrong
    return output(after.reshape(sample.shape), tokens.reshape(sample.shape))
