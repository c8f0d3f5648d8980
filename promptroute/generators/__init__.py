"""Text-to-image models. They know nothing of files, batching or scoring.

A generator draws one prepared batch: prompts and seeds in, pictures out. Nothing is loaded (and torch is
not imported) until the first `draw`.
"""
