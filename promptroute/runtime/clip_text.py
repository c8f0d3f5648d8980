"""Load CLIP's text side, which a text encoder and a predictor share."""

from typing import TYPE_CHECKING, Any

from promptroute.core.errors import UserError
from promptroute.runtime.hub import load_error, no_loading_bars

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer


def load_clip_text(
    model: str, revision: str | None, device: str, dtype: str = "float32"
) -> "tuple[CLIPTextModel, CLIPTokenizer]":
    """Load a CLIP text model and its tokenizer; only safetensors are read, and no code of the model's is run.

    Args:
        model: hub id, or path of a folder.
        revision: the hub's branch, tag or commit.
        device: torch device, as `cpu` or `cuda`.
        dtype: torch dtype of the weights, as `float32`.

    Raises:
        UserError: it can't be loaded, some of its weights are missing, or the tokenizer doesn't fit the model.
    """
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    # Untyped: the library's types lack a null revision, and the pair that loading info makes.
    loader: Any = CLIPTextModel
    tokenizers: Any = CLIPTokenizer
    no_loading_bars()
    try:
        tokenizer = tokenizers.from_pretrained(model, revision=revision)
        network, loading = loader.from_pretrained(
            model,
            revision=revision,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
        )
        if missing := sorted(loading["missing_keys"]):  # else they would be random, with only a warning
            raise UserError(f"the weights lack {missing[0]} and {len(missing) - 1} others")
        # Without its files a tokenizer still loads, and turns every word into the same token.
        vocabulary, size = tokenizer.get_vocab(), network.config.vocab_size
        if not set(vocabulary) - set(tokenizer.all_special_tokens) or max(vocabulary.values()) >= size:
            raise UserError(f"its tokenizer has {len(vocabulary)} tokens, the model {size}")
        return network.to(device), tokenizer
    except Exception as error:  # transformers raises what its parts raise
        raise load_error(
            f"the CLIP text encoder {model}",
            device,
            model,
            error,
            "give the path of a folder with a CLIP text model (safetensors) and its tokenizer, or check the network",
        ) from error
