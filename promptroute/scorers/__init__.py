"""Images (and prompts) → scores. They know nothing of storage or batching.

Two kinds of scorer: one looks at pixels (`PixelScorer`), one at embeddings that were stored once for all
(`EmbeddingScorer`). Each declares what it is (`Scorer`). Nothing is loaded until the first picture.
"""
