"""Work of benchmarks.cluster that a cluster's processes import."""

import time

from promptroute.generators.run import GenerateWork, Shard


class Timed(GenerateWork):
    """Generates images; answers with the seconds that a shard took where it was done."""

    def __call__(self, shard: Shard) -> float:  # type: ignore[override]  # a benchmark's own answer
        """Generate a shard."""
        started = time.perf_counter()
        super().__call__(shard)
        return time.perf_counter() - started
