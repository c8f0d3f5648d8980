"""Images (and prompts) → scores. They know nothing of storage or batching.

Two kinds of scorer: one looks at pixels (`PixelScorer`), one at embeddings that were stored once for all
(`EmbeddingScorer`). Each declares what it is (`Scorer`). Nothing is loaded until the first picture.
"""

from stages.scorers.clip_score import ClipScore
from stages.scorers.consistency import Consistency
from stages.scorers.nima import Nima
from stages.scorers.open_clip import OpenClip
from stages.scorers.pyiqa_nima import PyiqaNima
from stages.scorers.scorer import EmbeddingScorer, PixelScorer

__all__ = [
    "ClipScore",
    "Consistency",
    "EmbeddingScorer",
    "Nima",
    "OpenClip",
    "PixelScorer",
    "PyiqaNima",
]
