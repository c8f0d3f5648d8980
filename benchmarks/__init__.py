"""Measurements behind the README's figures: `python -m benchmarks` lists them. No stage imports this."""
