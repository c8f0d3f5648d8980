"""Predicted quality and cost in, choices and their worth out: cost rules, policies, frontier, metrics.

Pure functions on numpy arrays, without files, logging or rounding. Throughout the room:

- `n` prompts, `m` models; `quality` [n, m] float64, higher is better, predicted or true;
- `cost` [m] float64, dollars per image, above 0;
- a choice [n] int64: the column of the chosen model, prompt by prompt;
- `single`: the column of the single model that everything is compared with ("best single model").
"""
