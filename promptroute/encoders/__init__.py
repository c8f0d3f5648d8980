"""Turn texts and images into vectors with frozen models. Encoders know nothing of models, scores or costs.

Nothing is loaded, and torch is not imported, until the first `encode`.
"""
