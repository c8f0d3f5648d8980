"""Frozen prompt encoders: texts → vectors. They know nothing of models, scores or costs.

An encoder takes one prepared batch; `encode_all` owns de-duplication, order, batching and progress.
Nothing is loaded (and torch is not imported) until the first `encode`.
"""

from stages.text.clip import ClipTextEncoder
from stages.text.encode import Encoder, encode_all
from stages.text.sentence import SentenceEncoder
from stages.text.static import StaticEncoder

__all__ = ["ClipTextEncoder", "Encoder", "SentenceEncoder", "StaticEncoder", "encode_all"]
