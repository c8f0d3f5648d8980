"""From an image back to its prompt: the prompt's sentence embedding, and text that a person can edit.

    from promptroute import recovery

    recovery.Recovery.load("data/recovery").prompts(images)

Views of an image (embeddings by several encoders) go into a learner, which predicts the sentence embedding of the prompt
that the image was generated from; the nearest prompts of a bank, or phrases set together, make text of that. Importing
this room loads no torch.
"""

from typing import TYPE_CHECKING, Any

from promptroute.recovery.vectors import cosine

if TYPE_CHECKING:
    from promptroute.recovery.network import EnsembleNetwork
    from promptroute.recovery.recovered import Recovery

__all__ = ["Recovery", "cosine", "ensemble_from_checkpoint"]


def ensemble_from_checkpoint(path: Any, batch_axis: bool = False) -> "EnsembleNetwork":
    """Read the published ensemble; see `promptroute.recovery.checkpoint.ensemble_from_checkpoint`."""
    from promptroute.recovery.checkpoint import ensemble_from_checkpoint as read

    return read(path, batch_axis)


def __getattr__(name: str) -> Any:
    """Import what is asked for only then."""
    if name == "Recovery":
        from promptroute.recovery.recovered import Recovery

        return Recovery
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
