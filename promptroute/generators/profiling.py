"""Measure what a model costs: seconds, memory and operations per image."""

import platform
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from promptroute.generators.base import LocalGenerator
from promptroute.runtime.batching import free_memory, is_out_of_memory

WARM_UP = 2


def profile(
    generator: LocalGenerator, prompts: Sequence[str], images: int = 20, max_batch: int = 64
) -> dict[str, Any]:
    """Measure a model as CEMS's Table 2 does: warm, one image at a time; then at its best batch size.

    Args:
        generator: the model.
        prompts: texts to generate; taken in turn.
        images: how many single images are timed.
        max_batch: largest batch that is tried.

    Returns:
        seconds, seconds_std: wall time of one image, with its text, mean and standard deviation (n - 1).
        memory_gb: 10⁹ bytes; on a GPU the allocator's peak, on the CPU the process's largest resident set.
        gflops: 10⁹ floating-point operations of one image (a multiply-add is two), counted, not timed.
        images_per_second: batch size → rate; batches double until that gains less than 5 % or memory ends.
        best_batch: the batch size of the best rate.
        measured_on, images: the device, and how many images were timed.
    """
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
    # Each time another text, for an encoder's answer to the last one is kept.
    seconds = [timed(1, i + 1) for i in range(images)]
    # Linux gives kilobytes, macOS bytes.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    memory = torch.cuda.max_memory_allocated(generator.device) if on_gpu else resident
    rates = {1: 1 / statistics.fmean(seconds)}
    batch = 2
    while batch <= max_batch:
        try:
            timed(batch, 0)
            rate = 2 * batch / sum(timed(batch, batch * turn) for turn in (1, 2))
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
        "seconds": statistics.fmean(seconds),
        "seconds_std": statistics.stdev(seconds),
        "memory_gb": memory / 1e9,
        "gflops": count_gflops(generator),
        "images_per_second": rates,
        "best_batch": max(rates, key=lambda size: rates[size]),
        "measured_on": torch.cuda.get_device_name(generator.device)
        if on_gpu
        else processor(torch.get_num_threads()),
        "images": images,
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
