"""How dvc.yaml declares results: what `dvc exp show` spreads, and what comes back from the run-cache."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PIPELINE = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text())["stages"]


def declared(kind: str) -> Iterator[tuple[str, bool]]:
    """Give the paths of a kind of output, and whether each lies in DVC's cache."""
    for stage in PIPELINE.values():
        for out in stage.get("do", stage).get(kind, []):
            path, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
            yield path, dict[str, Any](options).get("cache", True)


def test_metrics_are_few() -> None:
    assert {path for path, _ in declared("metrics")} == {"metrics/summary.json", "metrics/sources.json"}


def test_run_cache_brings_all_back() -> None:
    """A stage with an uncached output comes back only where that output is a metric or a plot."""
    assert all(cached for _, cached in declared("outs"))
    assert "metrics/evaluate.json" in {path for path, _ in declared("plots")}
