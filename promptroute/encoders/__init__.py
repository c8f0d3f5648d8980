"""Frozen prompt encoders: texts → vectors. They know nothing of models, scores or costs.

An encoder takes one prepared batch; `encode_all` owns de-duplication, order, batching and progress.
Nothing is loaded (and torch is not imported) until the first `encode`.
"""
