"""aMUSEd's step for a whole batch, as on a GPU, against the scheduler's own, image by image."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AmusedScheduler

from promptroute.generators.diffusers.scheduling import sample_tokens

MASK, CODES = 32, 32


def scheduler(steps: int, schedule: str = "cosine") -> Any:
    made = AmusedScheduler(mask_token_id=MASK, masking_schedule=schedule)
    made.set_timesteps(steps)
    return made


def generators(n: int) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in range(n)]


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_same_masks_and_certain_tokens(schedule: str) -> None:
    plan, own = scheduler(6, schedule), scheduler(6, schedule)
    sample = torch.full((3, 5, 4), MASK)
    for timestep in reversed(range(6)):
        codes = torch.randint(CODES, (3, 5, 4), generator=torch.Generator().manual_seed(timestep))
        logits = torch.full((3, CODES, 5, 4), -1e4).scatter(1, codes[:, None], 1e4)
        ours = sample_tokens(plan, logits, timestep, sample, generators(3))
        theirs = own.step(logits, torch.tensor(timestep), sample, generator=torch.Generator().manual_seed(0))
        assert torch.equal(ours.pred_original_sample, theirs.pred_original_sample)
        masked = [(one.prev_sample == MASK).flatten(1).sum(dim=1) for one in (ours, theirs)]
        assert torch.equal(*masked)
        assert ours.prev_sample.shape == sample.shape and bool(masked[0].all()) == (timestep > 0)
        sample = ours.prev_sample


def test_tokens_are_as_frequent_as_probable() -> None:
    wanted = torch.tensor([0.5, 0.25, 0.15, 0.06, 0.03, 0.01, 0.0])
    logits = wanted.log()[None, :, None, None].expand(1, 7, 100, 100)
    given = sample_tokens(scheduler(1), logits, 0, torch.full((1, 100, 100), MASK), generators(1))
    shares = np.bincount(given.prev_sample.flatten(), minlength=7) / 10_000
    np.testing.assert_allclose(shares, wanted, atol=4 * 0.5 / 100)
    assert shares[-1] == 0


def test_neighbours_change_nothing() -> None:
    logits = torch.randn(4, CODES, 3, 3, generator=torch.Generator().manual_seed(1))
    sample = torch.full((4, 3, 3), MASK)
    together = sample_tokens(scheduler(3), logits, 2, sample, generators(4)).prev_sample
    for i, one in enumerate(generators(4)):
        alone = sample_tokens(scheduler(3), logits[i : i + 1], 2, sample[i : i + 1], [one]).prev_sample
        assert torch.equal(alone[0], together[i])


def test_probabilities_that_are_not_finite() -> None:
    logits = torch.zeros(1, CODES, 2, 2)
    logits[0, 3, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        sample_tokens(scheduler(2), logits, 1, torch.full((1, 2, 2), MASK), generators(1))
