"""The trained router: one folder, and prompts in, choices out.

The one room that knows both predictors and routing: it is what `train`, `calibrate` and `evaluate` make,
and what `route` and other people's programs load.
"""
