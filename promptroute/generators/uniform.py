"""Batches on the CPU in which an image doesn't depend on what else is drawn, or when."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import numpy as np

from promptroute.generators.base import Generator
from promptroute.runtime.batching import free_memory, is_out_of_memory


@contextmanager
def one_thread() -> Iterator[int]:
    """Let torch compute with one thread in each thread that begins meanwhile; gives how many it had.

    To be entered before threads draw and left after: torch's threads may not change while it computes, for
    kernels would then share work out by one number and do it by another.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def take_over_threads() -> None:
    """Let a thread that is new have as many of torch's threads as is set; until it asks, it has all."""
    import torch

    torch.get_num_threads()


class UniformBatches:
    """Draws in batches of one fixed size, the last one filled up with copies.

    On a CPU the kernel that torch takes, and so the order of a sum and the last bits of an image, depends on
    how many images go together and on how many threads share the work, but not on which images. With both
    fixed, an image is a function of its prompt and seed: kill, resume, order, growth and the number of cores
    change no bit. Plain diffusers makes the same image, bit for bit, from a batch of the same size
    (`num_images_per_prompt`) on one thread; with a size of 1, from an ordinary call.

    Use it within `one_thread`. Cores are used by drawing several batches at once: `draw` may be called by several
    threads, where the generator's may.

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
        self._checking = Lock()

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """As `Generator.generate`, for any number of images."""
        take_over_threads()
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
        if not self._checked:
            with self._checking:  # the other threads wait for what the first batch shows
                if not self._checked:
                    return self._first(prompts, seeds)
        return self._drawn(prompts, seeds)

    def _first(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
        full, their_seeds = self._filled(prompts, seeds)
        with ThreadPoolExecutor(1, initializer=take_over_threads) as pool:  # at once: the other threads wait
            other = pool.submit(
                self.generator.generate, full[-1:] + full[:-1], their_seeds[-1:] + their_seeds[:-1]
            )
            pictures = self.generator.generate(full, their_seeds)
            moved = other.result()
        if np.roll(pictures, 1, axis=0).tobytes() == moved.tobytes():
            self._checked = True
            return pictures[: len(prompts)]
        self._go_single("an image's place in a batch changes its last bits")
        return self._drawn(prompts, seeds)

    def _drawn(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
        if self.size == 1:
            return np.concatenate(
                [self.generator.generate([p], [s]) for p, s in zip(prompts, seeds, strict=True)]
            )
        return self.generator.generate(*self._filled(prompts, seeds))[: len(prompts)]

    def _filled(self, prompts: list[str], seeds: list[int]) -> tuple[list[str], list[int]]:
        lacking = self.size - len(prompts)
        return prompts + prompts[-1:] * lacking, seeds + seeds[-1:] * lacking

    def _go_single(self, why: str) -> None:
        print(f"drawing one image at a time instead of {self.size}: {why}", file=sys.stderr)
        self.size, self._checked = 1, True
