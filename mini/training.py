"""One training loop for every model of the small world: seeded by step, resumable, with averaged weights."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mini.settings import load_settings
from promptroute.io.files import atomic_path
from promptroute.runtime.device import pick_device

SAVE_EVERY = 60  # seconds


class Step:
    """One step of a training: its number, and randomness that depends on nothing but seed and number.

    Attributes:
        number: from 0.
        progress: 0 at the start, 1 at the end.
        rng: for choosing rows.
        generator: torch's, on the CPU, for noise.
    """

    def __init__(self, number: int, steps: int, seed: int) -> None:
        self.number = number
        self.progress = number / max(1, steps)
        self.rng = np.random.default_rng([seed, number])
        self.generator = torch.Generator().manual_seed(seed * 1_000_003 + number)

    def rows(self, n: int, batch: int) -> NDArray[np.int64]:
        """Rows of one batch out of n, sorted, so that a mapped file is read in order."""
        return np.sort(self.rng.integers(0, n, batch))

    def normal(self, shape: Any, device: str) -> Tensor:
        """Standard normal noise, the same on every device."""
        return torch.randn(shape, generator=self.generator).to(device)


def compute_device() -> str:
    """The device that mini/params.yaml asks for."""
    compute = load_settings("compute")
    return pick_device(compute["device"], compute["threads"])


def checkpoint_path(name: str, settings: Mapping[str, Any]) -> Path:
    """Where an unfinished training stands: other settings, another file."""
    mark = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    return Path(os.environ.get("DVC_ROOT", ".")) / "cache" / "mini" / f"{name}-{mark}.safetensors"


def finish(
    name: str, settings: Mapping[str, Any], folder: Path, save: Callable[[Path], Any], losses: Sequence[float]
) -> str:
    """Save what a training made, throw its checkpoint away (other code may follow), and say how it ended.

    Args:
        name, settings: as `fit` had them.
        folder: where it is to stand; takes its place when it's whole.
        save: writes it into the empty folder that it is given.
        losses: of the steps of this run; none where an earlier run had done them all.

    Returns:
        The stage's summary line.
    """
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save(temporary)
    checkpoint_path(name, settings).unlink(missing_ok=True)
    return f"{name}: loss {losses[-1]:.4f}" if losses else f"{name}: was trained"


def fit(
    name: str,
    module: nn.Module,
    loss_of: Callable[[Step], Tensor],
    settings: Mapping[str, Any],
    after: Callable[[nn.Module], None] | None = None,
) -> list[float]:
    """Train a module with AdamW; leave the moving average of its weights in it.

    The learning rate climbs for 50 steps, then falls along a cosine to a twentieth. The state is saved every
    minute, so a training that was killed goes on where it stood and ends as if it had never stopped.

    Args:
        name: of the training, for its log and its checkpoint.
        module: what to train; its device is where it happens.
        loss_of: step → loss; takes its randomness from the step alone.
        settings: steps, learning_rate, seed; optional average (decay of the moving average, default 0.998).
        after: called after each step with the module (as to update a target network).

    Returns:
        The loss of each step of this run, float.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    steps, seed, decay = settings["steps"], settings["seed"], settings.get("average", 0.998)
    parameters = {key: value for key, value in module.named_parameters() if value.requires_grad}
    average = {key: value.detach().clone() for key, value in parameters.items()}
    optimizer = torch.optim.AdamW(
        parameters.values(), settings["learning_rate"], betas=(0.9, 0.98), weight_decay=0.01
    )
    path = checkpoint_path(name, settings)
    first = _resume(path, module, average, optimizer, parameters) if path.is_file() else 0
    losses: list[float] = []
    began = saved = time.monotonic()
    module.train()
    for number in range(first, steps):
        rate = min(1.0, (number + 1) / 50) * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * number / steps)))
        for group in optimizer.param_groups:
            group["lr"] = settings["learning_rate"] * rate
        loss = loss_of(Step(number, steps, seed))
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{name}: loss {loss.item()} at step {number}; lower its learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        keep = min(decay, (number + 1) / (number + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), list(parameters.values()), 1 - keep)
        if after:
            after(module)
        losses.append(loss.item())
        now = time.monotonic()
        if now - saved > SAVE_EVERY:
            _save(path, number + 1, module, average, optimizer, parameters)
            saved = now
        if (number + 1) % 50 == 0 or number + 1 == steps:
            pace = (now - began) / (number + 1 - first)
            left = pace * (steps - number - 1)
            print(
                f"{name} {number + 1}/{steps} loss {np.mean(losses[-50:]):.4f} "
                f"{pace:.2f} s/step {left / 60:.1f} min left",
                flush=True,
            )
    with torch.no_grad():
        for key, value in parameters.items():
            value.copy_(average[key])
    module.eval()
    return losses


def _save(
    path: Path,
    step: int,
    module: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, nn.Parameter],
) -> None:
    tensors = {f"module.{key}": value for key, value in module.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in average.items()}
    for key, value in parameters.items():
        if value in optimizer.state:  # not so where no step has reached a parameter yet
            tensors |= {f"{part}.{key}": optimizer.state[value][part] for part in ("exp_avg", "exp_avg_sq")}
            tensors[f"step.{key}"] = optimizer.state[value]["step"]
    with atomic_path(path) as temporary:
        save_file(
            {key: value.contiguous().clone() for key, value in tensors.items()},
            temporary,
            {"step": str(step)},
        )


def _resume(
    path: Path,
    module: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, nn.Parameter],
) -> int:
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    tensors = load_file(path)
    device = next(iter(parameters.values())).device
    module.load_state_dict({key[7:]: value for key, value in tensors.items() if key.startswith("module.")})
    for key, value in parameters.items():
        average[key].copy_(tensors[f"average.{key}"])
        if f"step.{key}" in tensors:
            optimizer.state[value] = {
                "step": tensors[f"step.{key}"].cpu(),
                **{part: tensors[f"{part}.{key}"].to(device) for part in ("exp_avg", "exp_avg_sq")},
            }
    print(f"goes on at step {step} of {path.name}", flush=True)
    return step


def to_tensor(images: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """Pictures as the networks take them: uint8 [n, h, w, 3] → float32 [n, 3, h, w] in -1…1."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(tensor: Tensor) -> NDArray[np.uint8]:
    """The inverse of `to_tensor`, clipped."""
    array: NDArray[np.uint8] = (
        ((tensor.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    )
    return array
