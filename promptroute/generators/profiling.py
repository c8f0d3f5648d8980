"""Measure what a model costs: seconds, memory and operations per image."""

import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.generators.base import LocalGenerator
from promptroute.runtime.batching import free_memory, is_out_of_memory
from promptroute.runtime.device import one_thread

WARM_UP = 2
LEAST = 6
"""Images below which no order statistics bound a median with 95 % confidence."""


def profile(
    generator: LocalGenerator,
    prompts: Sequence[str],
    images: int = 60,
    max_batch: int = 64,
    tolerance: float = 0.05,
) -> Plain:
    """Measure a model as CEMS's Table 2 does: warm, one image at a time; then at its best batch size.

    On the CPU an image is computed on one thread, as `generate_images` does: more threads wait for each other, and
    on a shared machine for other processes.

    Args:
        generator: the model.
        prompts: texts to generate; taken in turn.
        images: how many single images are timed at most, and 6 at least: until the median is known to `tolerance`.
        max_batch: largest batch that is tried.
        tolerance: half of the 95 % interval of the median seconds, as a share of them.

    Returns:
        seconds, seconds_low, seconds_high: wall time of one image, with its text: median and its 95 % interval.
        seconds_std: standard deviation over the images (n - 1).
        memory_gb: 10⁹ bytes; on a GPU the allocator's peak, on the CPU the process's largest resident set.
        gflops: 10⁹ floating-point operations of one image (a multiply-add is two), counted, not timed.
        images_per_second: batch size → rate; batches double until that gains less than 5 % or memory ends.
        best_batch: the batch size of the best rate.
        measured_on, images: the device, and how many images were timed.

    Raises:
        UserError: the times scatter so much that `images` of them don't settle the median.
    """
    with one_thread() if generator.on_cpu else nullcontext():
        return _profile(generator, prompts, images, max_batch, tolerance)


def median_interval(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a median, from 6 values or more: two order statistics, whatever the distribution."""
    from scipy.stats import binom

    low = int(binom.ppf(0.025, len(seconds), 0.5))  # at most 2.5 % that fewer lie below the median
    ranked = sorted(seconds)
    return ranked[low - 1], ranked[-low]


def _settled(
    timed: Callable[[int], float], images: int, tolerance: float
) -> tuple[list[float], float, float]:
    """Time single images until their median is known; returns the seconds, and the median's interval.

    Raises:
        UserError: as `profile`.
    """
    seconds = [
        timed(number + 1) for number in range(LEAST)
    ]  # each another text, for an encoder keeps its last answers
    while True:
        low, high = median_interval(seconds)
        share = (high - low) / 2 / statistics.median(seconds)
        if share <= tolerance:
            return seconds, low, high
        if len(seconds) >= images:
            raise UserError(
                f"one image takes {statistics.median(seconds):.3g} s, but after {len(seconds)} images the median lies "
                f"anywhere from {low:.3g} to {high:.3g} s (± {share:.0%}; expected ± {tolerance:.0%} or less): stop what "
                f"else runs on this machine and measure again, or state the model's seconds yourself"
            )
        seconds.append(timed(len(seconds) + 1))


def _profile(
    generator: LocalGenerator, prompts: Sequence[str], images: int, max_batch: int, tolerance: float
) -> Plain:
    """Measure; see `profile`."""
    import torch

    on_gpu = generator.device.startswith("cuda")

    def timed(batch: int, first: int) -> float:
        texts = [prompts[(first + i) % len(prompts)] for i in range(batch)]
        started = time.perf_counter()
        generator.generate(texts, list(range(first, first + batch)))
        if on_gpu:
            torch.cuda.synchronize(generator.device)
        return time.perf_counter() - started

    if on_gpu:
        torch.cuda.reset_peak_memory_stats(generator.device)
    for _ in range(WARM_UP):
        timed(1, 0)
    seconds, low, high = _settled(partial(timed, 1), images, tolerance)
    # Linux gives kilobytes, macOS bytes.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    memory = torch.cuda.max_memory_allocated(generator.device) if on_gpu else resident
    rates = {1: 1 / statistics.median(seconds)}
    batch = 2
    while batch <= max_batch:
        try:
            timed(batch, 0)
            rate = batch / statistics.median(timed(batch, batch * turn) for turn in (1, 2, 3))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            free_memory()
            break
        gain = rate / max(rates.values())
        rates[batch] = rate
        if gain < 1.05:
            break
        batch *= 2
    return {
        "seconds": statistics.median(seconds),
        "seconds_low": low,
        "seconds_high": high,
        "seconds_std": statistics.stdev(seconds),
        "memory_gb": memory / 1e9,
        "gflops": count_gflops(generator),
        "images_per_second": rates,
        "best_batch": max(rates, key=lambda size: rates[size]),
        "measured_on": torch.cuda.get_device_name(generator.device)
        if on_gpu
        else processor(torch.get_num_threads()),
        "images": len(seconds),
    }


def count_gflops(generator: LocalGenerator) -> float:
    """Count the 10⁹ floating-point operations of matrix products, convolutions and attention behind one image."""
    with flop_counter() as counter:
        generator.generate(["a text that no prompt set has, so that its encoding counts"], [0])
    return counter.get_total_flops() / 1e9


def flop_counter() -> Any:
    """Return torch's counter of operations, which knows the CPU's fused attention too."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    rule: Any = sdpa_flop_count  # untyped

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        """Count by the shapes alone: a mask, causal or not, spares nothing."""
        return int(rule(query, key, value))

    fused: Any = (
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,
        torch.ops.aten._scaled_dot_product_fused_attention_overrideable,
    )
    return FlopCounterMode(display=False, custom_mapping=dict.fromkeys(fused, attention))


def processor(threads: int) -> str:
    """Name this machine's processor and how many threads torch uses of it, for people."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {threads} thread{'s' * (threads > 1)}"
