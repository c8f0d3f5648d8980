"""Batches on the CPU in which an image doesn't depend on what else is generated, or when."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np

from promptroute.generators.base import Generated, Generator
from promptroute.runtime.batching import Failure, free_memory, is_out_of_memory

_log = logging.getLogger(__name__)


def take_over_threads() -> None:
    """Let a thread that is new have as many of torch's threads as is set; until it asks, it has all."""
    import torch

    torch.get_num_threads()


class UniformBatches:
    """Batches of one fixed size, the last one filled up with copies.

    On a CPU the kernel that torch takes, and so the order of a sum and the last bits of an image, depends on
    how many images go together and on how many threads share the work, but not on which images. With both
    fixed, an image is a function of its prompt and seed: kill, resume, order, growth and the number of cores
    change no bit. Plain diffusers makes the same image, bit for bit, from a batch of the same size
    (`num_images_per_prompt`) on one thread; with a size of 1, from an ordinary call.

    Use it within `one_thread`. Cores are used by several batches at once: `generate` may be called by several
    threads, where the generator's may.

    Whether an image's place in the batch matters after all (it can where a layer's numbers per image are no
    multiple of the processor's vectors) is seen on the first batch, generated once more with every image moved up
    by one place; if it does, images are generated one at a time.

    Args:
        generator: what generates.
        size: images per batch.
    """

    def __init__(self, generator: Generator, size: int) -> None:
        self.generator, self.size = generator, size
        self._checked = size == 1
        self._checking = Lock()

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        """Generate any number of images; see `Generator.generate`."""
        take_over_threads()
        images: list[Generated] = []
        while len(images) < len(prompts):
            batch = slice(len(images), len(images) + self.size)
            images += self._fitting(list(prompts[batch]), list(seeds[batch]))
        return images

    def _fitting(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
        try:
            return self._batch(prompts, seeds)
        except Exception as error:
            if self.size == 1 or not is_out_of_memory(error):
                raise
        self._go_single("there is no memory for more")
        free_memory()
        return self._batch(prompts, seeds)

    def _batch(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
        if not self._checked:
            with self._checking:  # the other threads wait for what the first batch shows
                if not self._checked:
                    return self._first(prompts, seeds)
        return self._next(prompts, seeds)

    def _first(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
        full, their_seeds = self._filled(prompts, seeds)
        with ThreadPoolExecutor(1, initializer=take_over_threads) as pool:  # at once: the other threads wait
            other = pool.submit(
                self.generator.generate, full[-1:] + full[:-1], their_seeds[-1:] + their_seeds[:-1]
            )
            images = self.generator.generate(full, their_seeds)
            moved = other.result()
        if all(map(_equal, images, moved[1:] + moved[:1])):
            self._checked = True
            return images[: len(prompts)]
        self._go_single("an image's place in a batch changes its last bits")
        return self._next(prompts, seeds)

    def _next(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
        if self.size == 1:
            return [
                self.generator.generate([prompt], [seed])[0]
                for prompt, seed in zip(prompts, seeds, strict=True)
            ]
        return self.generator.generate(*self._filled(prompts, seeds))[: len(prompts)]

    def _filled(self, prompts: list[str], seeds: list[int]) -> tuple[list[str], list[int]]:
        lacking = self.size - len(prompts)
        return prompts + prompts[-1:] * lacking, seeds + seeds[-1:] * lacking

    def _go_single(self, why: str) -> None:
        _log.warning("generating one image at a time instead of %d: %s", self.size, why)
        self.size, self._checked = 1, True


def _equal(left: Generated, right: Generated) -> bool:
    """Tell whether two images are equal bit for bit."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.tobytes() == right.tobytes()
    if isinstance(left, Failure) or isinstance(right, Failure):
        return isinstance(left, Failure) and isinstance(right, Failure)
    return left is right or (isinstance(left, bytes) and left == right)
