"""The published ensemble's checkpoint: a torch file, read once without running code, and kept as safetensors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from promptroute.core.errors import UserError, reason
from promptroute.core.plain import Plain, Section
from promptroute.io.files import atomic_path

if TYPE_CHECKING:
    from promptroute.recovery.network import EnsembleNetwork

BLOCKS, HEADS, WIDTH = 3, 8, 512
PREFIX = "model."
_BLOCK = "tranformer_encoder.layers."  # the published spelling
_UNUSED = ("linear1.", "transformer_encoder_layer.")
"""Of the checkpoint, what its code never calls: a first linear layer, and the template of the blocks."""


def read_checkpoint(path: Path | str) -> dict[str, np.ndarray]:
    """Read the arrays of the published checkpoint that have a part in its answers, under `EnsembleNetwork`'s names.

    Args:
        path: a torch file with `state_dict` (nothing in it is run), or what `convert_checkpoint` made of one.

    Returns:
        Name → float32 array.

    Raises:
        UserError: the file is absent, unreadable, or holds another network.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the ensemble's checkpoint (.ckpt, or .safetensors)")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(path)
        except (SafetensorError, ValueError, OSError) as error:
            raise UserError(f"{path}: not readable as safetensors ({error}); convert it again") from error
    else:
        arrays = _renamed(_read_torch(path), path)
    _check(arrays, path)
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


def convert_checkpoint(source: Path | str, target: Path | str) -> None:
    """Write what `read_checkpoint` reads of a torch file as safetensors, so that nothing opens that file again.

    Raises:
        UserError: as `read_checkpoint`, or the target isn't called .safetensors.
    """
    from safetensors.numpy import save_file

    if Path(target).suffix != ".safetensors":
        raise UserError(f"{target}: what a checkpoint is converted to must be called .safetensors")
    arrays = read_checkpoint(source)
    with atomic_path(target) as temporary:
        save_file(arrays, temporary)


def ensemble_from_checkpoint(path: Path | str, batch_axis: bool = False) -> "EnsembleNetwork":
    """Build the published ensemble in eval mode.

    Args:
        path: as `read_checkpoint`.
        batch_axis: attend over the batch, as the published code does; else over the three embeddings of each image, by
            the same weights.

    Raises:
        UserError: as `read_checkpoint`.
    """
    return published_network(read_checkpoint(path), batch_axis)


def published_network(arrays: Mapping[str, np.ndarray], batch_axis: bool) -> "EnsembleNetwork":
    """Build the published ensemble in eval mode from what `read_checkpoint` gave."""
    import torch

    network = _empty(batch_axis)
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in arrays.items()})
    return network.eval()


def _empty(batch_axis: bool) -> "EnsembleNetwork":
    from promptroute.recovery.network import PUBLISHED, EnsembleNetwork

    return EnsembleNetwork(
        PUBLISHED, width=WIDTH, blocks=BLOCKS, heads=HEADS, as_it_is=("clip",), position=False, batch_axis=batch_axis
    )  # fmt: skip


def _read_torch(path: Path) -> Plain:
    import torch

    try:
        file = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its parts raise
        raise UserError(
            f"{path}: not readable as weights alone ({reason(error)}); give a checkpoint that holds tensors and plain "
            f"values, as nothing else is opened"
        ) from error
    state = file.get("state_dict") if isinstance(file, dict) else None
    if not isinstance(state, dict) or not all(hasattr(value, "numpy") for value in state.values()):
        raise UserError(f"{path}: holds no state_dict of tensors; give the ensemble's own checkpoint")
    return state


def _renamed(state: Section, path: Path) -> dict[str, np.ndarray]:
    names = {
        "linear2.": "project.1.0.",
        "linear3.": "project.2.0.",
        "linear_out.": "out.",
        _BLOCK: "blocks.layers.",
    }
    found: dict[str, np.ndarray] = {}
    for full, value in state.items():
        name = full.removeprefix(PREFIX)
        if name.startswith(_UNUSED):
            continue
        start = next((start for start in names if name.startswith(start)), None)
        if start is None:
            raise UserError(f"{path}: has {full}, which the ensemble doesn't have; give its own checkpoint")
        found[names[start] + name.removeprefix(start)] = value.float().numpy()
    return found


def _check(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    expected = {name: tuple(value.shape) for name, value in _empty(False).state_dict().items()}
    lacking, extra = sorted(set(expected) - set(arrays)), sorted(set(arrays) - set(expected))
    if lacking or extra:
        more = {int(found[1]) for name in extra if (found := re.match(r"blocks\.layers\.(\d+)", name))}
        note = f", and {max(more) + 1} blocks in place of {BLOCKS}" if more else ""
        raise UserError(
            f"{path}: not the published ensemble: lacks {lacking[:2]} ({len(lacking)}), has {extra[:2]} "
            f"({len(extra)}) besides{note}; give its own checkpoint"
        )
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise UserError(
                f"{path}: {name} is {arrays[name].shape}; expected {shape}; give the published ensemble's checkpoint"
            )
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: {name} holds a value that is not finite; fetch the checkpoint again")
