"""Time many small operations by torch's threads, on idle cores and beside other processes.

    python -m benchmarks.threads            200 prompts through a sentence encoder in torch, one by one and in batches
    python -m benchmarks.threads --quick    20 prompts

*busy* is with one other process for each core, which only counts. What else runs on the machine is not known, so its
load is printed.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.reporting import markdown
from promptroute.runtime.stage import run_stage

HEAD = (
    "cores | threads | waiting | a prompt, ms (median) | a prompt, ms (95 %) | in batches, prompts/s | bits"
)
WAYS = ((1, "spin"), (2, "spin"), (2, "passive"))
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def child(threads: int, prompts: int) -> str:
    """Return the median and 95 % milliseconds of a prompt, prompts a second, and a digest of the vectors."""
    import torch
    from sentence_transformers import SentenceTransformer

    from promptroute.encoders.sentence import SentenceEncoder

    torch.set_num_threads(threads)
    encoder = SentenceTransformer(SentenceEncoder().place(), device="cpu")
    texts = [f"number {i}: {'a red star and a blue square, ' * (1 + i % 6)}" for i in range(prompts)]
    encoder.encode(texts[:1])
    took = []
    for text in texts:
        started = time.perf_counter()
        encoder.encode([text])
        took.append(1000 * (time.perf_counter() - started))
    started = time.perf_counter()
    vectors = encoder.encode(texts, batch_size=64, show_progress_bar=False)
    rate = prompts / (time.perf_counter() - started)
    median, high = np.percentile(took, [50, 95])
    digest = hashlib.sha256(vectors.tobytes()).hexdigest()[:8]
    return f"{median:.0f} {high:.0f} {rate:.0f} {digest}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.threads",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="20 prompts")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    prompts = 20 if chosen.quick else 200
    if chosen.child:
        return child(chosen.child, prompts)
    load, rows = os.getloadavg()[0], []
    for cores in ("idle", "busy"):
        count = [sys.executable, "-c", "while True: pass"]
        others = [subprocess.Popen(count) for _ in range(os.cpu_count() or 1)] if cores == "busy" else []
        try:
            for threads, waiting in WAYS:
                ours = [sys.executable, "-m", "benchmarks.threads", "--child", str(threads)]
                done = subprocess.run(
                    ours + ["--quick"] * chosen.quick,
                    env={**os.environ, **(PASSIVE if waiting == "passive" else {})},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                rows.append([cores, str(threads), waiting, *done.stdout.split()])
        finally:
            for other in others:
                other.kill()
                other.wait()
    return f"{prompts} prompts; load of other work {load:.1f} on {os.cpu_count()} cores.\n\n{markdown(HEAD, rows)}"


if __name__ == "__main__":
    run_stage(main)
