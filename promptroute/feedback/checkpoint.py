"""Weights of the feedback network: the public checkpoint, and our folders of safetensors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.feedback.settings import NetworkSettings, read_settings
from promptroute.io.files import atomic_path, read_json, write_json
from promptroute.io.weights import read_safetensors

if TYPE_CHECKING:
    from promptroute.feedback.network import FeedbackNetwork

_BLOCK = re.compile(r"vit\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
_RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "layernorm_before",
    "layernorm_after": "layernorm_after",
}
"""Parts of a ViT block: in transformers 4 → in transformers 5."""
SHARED = "t5.shared.weight"
TIED = ("t5.encoder.embed_tokens.weight", "t5.decoder.embed_tokens.weight", "t5.lm_head.weight")
"""Other names of the embedding."""
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
"""Files of a folder that holds a network."""


def current_name(name: str) -> str:
    """Return what a weight of the public checkpoint (transformers 4) is called now; other names as they are."""
    found = _BLOCK.fullmatch(name)
    if found is None or found[2] not in _RENAMED:
        return name
    return f"vit.layers.{found[1]}.{_RENAMED[found[2]]}.{found[3]}"


def read_state(path: Path | str) -> Plain:
    """Read weights, with the names that they have now and the embedding once.

    Args:
        path: a safetensors file; or one that torch saved, of which only tensors are taken (`weights_only`).

    Returns:
        Name → tensor.

    Raises:
        UserError: the file is absent, a Git LFS pointer, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file of weights; check the path")
    refuse_pointer(path)
    with open(path, "rb") as file:
        head = file.read(9)
    packed = head.startswith(b"PK")  # as torch has saved since 1.6
    safe = path.suffix == ".safetensors" or (not packed and head[8:] == b"{")
    state = read_safetensors(path) if safe else _read_torch(path, packed)
    named = {current_name(name.removeprefix("module.")): value for name, value in state.items()}
    for tied in TIED:
        other = named.pop(tied, None)
        if other is None:
            continue
        if SHARED in named and not (
            other.shape == named[SHARED].shape and bool((other == named[SHARED]).all())
        ):
            raise UserError(f"{path}: {tied} differs from {SHARED}; the network has a single embedding")
        named.setdefault(SHARED, other)
    return named


def refuse_pointer(path: Path) -> None:
    """Refuse the text that Git LFS leaves where a large file should be.

    Raises:
        UserError: the file is one.
    """
    with open(path, "rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise UserError(
                f"{path}: a Git LFS pointer of {path.stat().st_size} bytes, not the file itself; fetch it with `git lfs pull`"
            )


def _read_torch(path: Path, packed: bool) -> Plain:
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path}: not a file of tensors that torch saved ({line}); nothing else of it is read"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path}: holds other things than named tensors; expected a state dict")
    return dict(state)


def from_checkpoint(
    path: Path | str, config: Section | NetworkSettings, attention_mask: bool = True
) -> "FeedbackNetwork":
    """Make a network of weights.

    Args:
        path: as `read_state`.
        config: as `read_settings`; its variant may be left out.
        attention_mask: as `FeedbackNetwork`; False is how the public weights were trained.

    Returns:
        The network, on the CPU, in evaluation mode.

    Raises:
        UserError: as `read_state`, or weights are missing, unexpected, or of another shape.
    """
    import torch

    from promptroute.feedback.network import FeedbackNetwork

    state = read_state(path)
    settings = config if isinstance(config, NetworkSettings) else read_settings(config, list(state))
    with torch.device("meta"):  # takes no memory: sizes that the weights don't have could take all of it
        check_state(FeedbackNetwork(settings, attention_mask), state, str(path))
    network = FeedbackNetwork(settings, attention_mask)
    load_state(network, state, str(path))
    return network.eval()


def check_state(network: "FeedbackNetwork", state: Section, where: str) -> None:
    """Refuse weights that are not a network's; arguments and errors as of `load_state`."""
    own = {name: value for name, value in network.state_dict().items() if name not in TIED}
    missing, unexpected = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    if missing or unexpected:
        parts = [
            f"{what} {len(names)} ({names[0]}…)"
            for what, names in (("lacks", missing), ("has unexpected", unexpected))
            if names
        ]
        raise UserError(
            f"{where}: not weights of this {network.settings.variant} network: {', '.join(parts)}; "
            f"check the variant and the sizes"
        )
    for name, value in own.items():
        if state[name].shape != value.shape:
            raise UserError(
                f"{where}: {name} has shape {tuple(state[name].shape)}, expected {tuple(value.shape)}; check the sizes"
            )


def load_state(network: "FeedbackNetwork", state: Section, where: str) -> None:
    """Put weights into a network.

    Args:
        network: whose weights are replaced.
        state: as `read_state` gives them, in any float precision.
        where: their file, for the message.

    Raises:
        UserError: weights are missing, unexpected, or of another shape.
    """
    check_state(network, state, where)
    for name, value in network.state_dict().items():
        if name not in TIED:
            value.copy_(state[name])


def start(network: "FeedbackNetwork", vit: Path | str, t5: Path | str) -> None:
    """Begin with the weights of a ViT and a T5 that were trained for other ends; heads keep their random ones.

    Args:
        network: whose weights are replaced.
        vit, t5: folders in the hub's layout, with model.safetensors.

    Raises:
        UserError: a folder holds none, or weights of another size.
    """
    own, begun = network.state_dict(), {}
    for prefix, folder in (("vit.", Path(vit)), ("t5.", Path(t5))):
        state = read_state(folder / WEIGHTS)
        for name, value in state.items():
            inside = current_name(name if name.startswith(prefix) else prefix + name)
            if inside in own and inside not in TIED:
                begun[inside] = value
    needed = {
        name
        for name in own
        if name.startswith(("vit.", "t5.")) and name not in TIED and not name.startswith("vit.pooler.")
    }
    if missing := sorted(needed - set(begun)):
        raise UserError(
            f"{vit} and {t5}: lack {missing[0]} ({len(missing)} such weights); give the ViT and T5 of the network's sizes"
        )
    whole = {name: begun.get(name, value) for name, value in own.items() if name not in TIED}
    load_state(network, whole, f"{vit} and {t5}")


def save(
    network: "FeedbackNetwork",
    folder: Path | str,
    tokenizer: Path | str | None = None,
    half: bool = False,
    threshold: float = 0.5,
) -> None:
    """Write a network into a folder: safetensors, configuration, and its tokenizer.

    Args:
        network: what to write.
        folder: replaced as a whole.
        tokenizer: a tokenizer.json to copy.
        half: write float16 in place of float32.
        threshold: probability from which a word counts as missed.
    """
    from safetensors.torch import save_file

    state = {name: value for name, value in network.state_dict().items() if name not in TIED}
    tensors = {
        name: (value.half() if half else value).detach().cpu().contiguous() for name, value in state.items()
    }
    config = {
        "network": network.settings.model_dump(),
        "attention_mask": network.attention_mask,
        "threshold": threshold,
    }
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / WEIGHTS)
        write_json(temporary / CONFIG, config)
        if tokenizer is not None:
            (temporary / TOKENIZER).write_bytes(Path(tokenizer).read_bytes())


def load(folder: Path | str) -> "FeedbackNetwork":
    """Load a network from a folder that `save` wrote, in evaluation mode.

    Raises:
        UserError: the folder is none, or as `from_checkpoint`.
    """
    folder = Path(folder)
    config = read_config(folder)
    return from_checkpoint(
        folder / WEIGHTS, NetworkSettings(**config["network"]), bool(config.get("attention_mask", True))
    )


def read_config(folder: Path) -> Plain:
    """Read the configuration of a folder.

    Raises:
        UserError: it has none.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder}: holds no network of rich feedback ({CONFIG} is absent); give a folder that `train` or `convert` wrote"
        )
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("network"), dict):
        raise UserError(
            f"{folder / CONFIG}: has no section network; give a folder that `train` or `convert` wrote"
        )
    return config


def convert(
    checkpoint: Path | str,
    folder: Path | str,
    config: Section | NetworkSettings | None = None,
    tokenizer: Path | str | None = None,
) -> int:
    """Turn the public checkpoint, a torch file, into a folder of safetensors.

    The public weights are under CC BY-NC 4.0: not for commercial use. They were trained without an attention mask, which
    the folder says.

    Args:
        checkpoint: the file, read once with `weights_only`.
        folder: to be written.
        config: as `from_checkpoint`; None is the published network.
        tokenizer: T5's tokenizer.json, to be kept beside.

    Returns:
        How many weights were renamed.

    Raises:
        UserError: as `from_checkpoint`.
    """
    network = from_checkpoint(
        checkpoint, NetworkSettings() if config is None else config, attention_mask=False
    )
    save(network, folder, tokenizer)
    return 16 * network.settings.vit_layers
