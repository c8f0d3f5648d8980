"""Text-to-image models. They know nothing of files, batching or scoring.

A generator draws one prepared batch: prompts and seeds in, pictures out. Nothing is loaded (and torch is
not imported) until the first `draw`.
"""

from stages.generators.diffusers import DiffusersModel
from stages.generators.generator import Generator
from stages.generators.uniform import UniformBatches

__all__ = ["DiffusersModel", "Generator", "UniformBatches"]
