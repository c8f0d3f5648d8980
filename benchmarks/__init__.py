"""Measurements behind docs/results.md: `python -m benchmarks` lists them. No stage imports this."""
