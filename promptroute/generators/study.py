"""Which images a study asks of each model."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from promptroute.core.component import TARGET, Component, build
from promptroute.core.plain import Section
from promptroute.io.images import ImageRequest

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Generation(Component):
    """How a study's images are generated, whatever the model.

    Args:
        seeds: an image of each prompt for each; see `Generator.generate`. Order and repeats don't count. A number
            n stands for 0 to n - 1.
        shard_prompts: prompts in a parquet file.
        max_failed: share of a model's images that may fail before the stage does.
    """

    seeds: Annotated[int, Field(ge=1, le=1_000_000)] | Annotated[list[Seed], Field(min_length=1)]
    shard_prompts: int = Field(200, ge=1)
    max_failed: float = Field(0.01, ge=0, le=1)

    @classmethod
    def read(cls, section: Section, where: str) -> "Generation":
        """Read a section of the parameters.

        Raises:
            UserError: a setting is missing, unknown, of the wrong type or out of range.
        """
        return build({TARGET: cls.class_path(), **section}, where, cls)

    @property
    def each_seed(self) -> list[int]:
        """Give every seed once, in ascending order."""
        return sorted(set(range(self.seeds) if isinstance(self.seeds, int) else self.seeds))

    def asked(self, prompt_ids: Sequence[str], prompts: Sequence[str]) -> list[ImageRequest]:
        """Return the images of every shard, one after the other."""
        return [request for shard in self.shards(prompt_ids, prompts) for request in shard]

    def shards(self, prompt_ids: Sequence[str], prompts: Sequence[str]) -> list[list[ImageRequest]]:
        """Return the images of each shard: every seed of a run of prompts, in the order of (prompt, seed)."""
        seeds = self.each_seed
        requests = [
            ImageRequest(prompt_id, prompt, seed)
            for prompt_id, prompt in zip(prompt_ids, prompts, strict=True)
            for seed in seeds
        ]
        size = self.shard_prompts * len(seeds)
        return [requests[start : start + size] for start in range(0, len(requests), size)]
