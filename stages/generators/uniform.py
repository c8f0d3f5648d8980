"""Batches on the CPU in which an image doesn't depend on what else is drawn, or when."""

import sys
from collections.abc import Sequence

import numpy as np

from stages.generators.generator import Generator
from stages.runtime.batching import free_memory, is_out_of_memory


class UniformBatches:
    """Draws in batches of one fixed size, the last one filled up with copies.

    On a CPU the kernel that torch takes, and so the order of a sum and the last bits of an image, depends on
    how many images go together, but not on which. With the size fixed, an image is a function of its prompt
    and seed: kill, resume, order and growth change no bit. Plain diffusers makes the same image, bit for bit,
    from a batch of the same size (`num_images_per_prompt`); with a size of 1, from an ordinary call.

    Whether an image's place in the batch matters after all (it can where a layer's numbers per image are no
    multiple of the processor's vectors) is seen on the first batch, drawn once more with every image moved up
    by one place; if it does, images are drawn one at a time.

    Args:
        generator: what draws.
        size: images per batch.
    """

    def __init__(self, generator: Generator, size: int) -> None:
        self.generator, self.size = generator, size
        self._checked = size == 1

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """As `Generator.draw`, for any number of images."""
        parts: list[np.ndarray] = []
        start = 0
        while start < len(prompts):
            batch = slice(start, start + self.size)
            drawn = self._fitting(list(prompts[batch]), list(seeds[batch]))
            parts.append(drawn)
            start += len(drawn)
        return np.concatenate(parts)

    def _fitting(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
        try:
            return self._batch(prompts, seeds)
        except Exception as error:
            if self.size == 1 or not is_out_of_memory(error):
                raise
        self._go_single("there is no memory for more")
        free_memory()
        return self._batch(prompts, seeds)

    def _batch(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
        n = len(prompts)
        if self.size == 1:
            return np.concatenate(
                [self.generator.draw([p], [s]) for p, s in zip(prompts, seeds, strict=True)]
            )
        prompts, seeds = prompts + prompts[-1:] * (self.size - n), seeds + seeds[-1:] * (self.size - n)
        pictures = self.generator.draw(prompts, seeds)
        if not self._checked:
            self._checked = True
            moved = self.generator.draw(prompts[-1:] + prompts[:-1], seeds[-1:] + seeds[:-1])
            if np.roll(pictures, 1, axis=0).tobytes() != moved.tobytes():
                self._go_single("an image's place in a batch changes its last bits")
                return self._batch(prompts[:n], seeds[:n])
        return pictures[:n]

    def _go_single(self, why: str) -> None:
        print(f"drawing one image at a time instead of {self.size}: {why}", file=sys.stderr)
        self.size = 1
