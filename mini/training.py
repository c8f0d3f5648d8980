"""The training loop of every small model: seeded by step, resumable, with averaged weights."""

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

from mini.settings import PIPELINE, load_settings
from promptroute.io.files import atomic_path
from promptroute.runtime.device import pick_device

SAVE_EVERY = 30  # seconds


class Step:
    """A training step: its number, and randomness that depends only on seed and number.

    Attributes:
        number: from 0.
        progress: 0 at the start, 1 at the end; with a limit of time, the share of it that is spent, if that is more.
        rng: for sampling rows.
        generator: torch's, on the CPU, for noise.
    """

    def __init__(self, number: int, steps: int, seed: int, spent: float = 0.0) -> None:
        self.number = number
        self.progress = max(number / max(1, steps), spent)
        self.rng = np.random.default_rng([seed, number])
        self.seed = seed * 1_000_003 + number
        self.generator = torch.Generator().manual_seed(self.seed)

    def rows(self, n: int, batch: int) -> NDArray[np.int64]:
        """Sample the rows of a batch out of n, sorted, so that a memory-mapped file is read in order."""
        return np.sort(self.rng.integers(0, n, batch))

    def normal(self, shape: Any, device: str) -> Tensor:
        """Sample standard normal noise, the same on every device."""
        return torch.randn(shape, generator=self.generator).to(device)


def compute_device() -> str:
    """Return the device that mini/pipeline/params.yaml asks for."""
    compute = load_settings("compute")
    return pick_device(compute["device"], compute["threads"])


def checkpoint_path(name: str, settings: Mapping[str, Any]) -> Path:
    """Return where the checkpoint of an unfinished training is kept: other settings, another file."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    return Path(os.environ.get("DVC_ROOT", PIPELINE)) / "cache" / f"{name}-{digest}.safetensors"


def finish(
    name: str, settings: Mapping[str, Any], folder: Path, save: Callable[[Path], Any], losses: Sequence[float]
) -> str:
    """Save a trained model, delete the training's checkpoint, and return the stage's summary line.

    Args:
        name, settings: as `fit` had them.
        folder: where the model is kept; replaced atomically.
        save: writes the model into an empty folder.
        losses: of the steps of this run; none where an earlier run did them all.
    """
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save(temporary)
    checkpoint_path(name, settings).unlink(missing_ok=True)
    return f"{name}: loss {losses[-1]:.4f}" if losses else f"{name}: already trained"


class _State:
    """What a training changes: the module, the moving average of its weights, the optimizer's state, the time spent."""

    def __init__(self, module: nn.Module, learning_rate: float) -> None:
        self.module, self.seconds = module, 0.0
        self.parameters = {key: value for key, value in module.named_parameters() if value.requires_grad}
        self.average = {key: value.detach().clone() for key, value in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )

    def update(self, loss: Tensor, learning_rate: float, decay: float) -> None:
        """Take an optimizer step down the gradient of a loss, and move the average by 1 - `decay`."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    @torch.no_grad()
    def use_average(self) -> None:
        """Replace the module's weights by their moving average."""
        for key, value in self.parameters.items():
            value.copy_(self.average[key])

    def save(self, path: Path, step: int) -> None:
        """Write a checkpoint: the state before step `step`."""
        tensors = {f"module.{key}": value for key, value in self.module.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.items()}
        for key, value in self.parameters.items():
            if value in self.optimizer.state:  # not where no step has reached a parameter yet
                moments = self.optimizer.state[value]
                tensors |= {f"{part}.{key}": moments[part] for part in ("exp_avg", "exp_avg_sq")}
                tensors[f"step.{key}"] = moments["step"]
        tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, {"step": str(step), "seconds": str(self.seconds)})

    def resume(self, path: Path) -> int:
        """Read a checkpoint if there is one; return the step to go on with."""
        if not path.is_file():
            return 0
        with safe_open(path, "pt") as file:
            step, self.seconds = (
                int(file.metadata()["step"]),
                float(file.metadata().get("seconds", 0)),
            )
        tensors = load_file(path)
        prefix = "module."
        self.module.load_state_dict(
            {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        )
        for key, value in self.parameters.items():
            self.average[key].copy_(tensors[f"average.{key}"])
            if f"step.{key}" in tensors:
                self.optimizer.state[value] = {
                    "step": tensors[f"step.{key}"].cpu(),
                    **{part: tensors[f"{part}.{key}"].to(value.device) for part in ("exp_avg", "exp_avg_sq")},
                }
        print(f"resuming at step {step} of {path.name}", flush=True)
        return step


def fit(
    name: str,
    module: nn.Module,
    loss_of: Callable[[Step], Tensor],
    settings: Mapping[str, Any],
    after: Callable[[nn.Module], None] | None = None,
    keep: Callable[[Mapping[str, Tensor]], None] | None = None,
) -> list[float]:
    """Train a module with AdamW; leave the moving average of its weights in it.

    The learning rate warms up for 50 steps, then follows a cosine down to a twentieth. A checkpoint is saved every
    30 seconds, so a killed training resumes and ends as if it had never stopped.

    Args:
        name: of the training, for its log and its checkpoint.
        module: what to train, on its device.
        loss_of: step → loss; takes its randomness only from the step.
        settings: steps, learning_rate, seed; optional average (decay of the moving average, default 0.998), warm_up
            (steps, default 50), warm_again (progress at which further weights begin to learn, and the rate rises from
            nearly 0 once more), and seconds: the training ends after so long, its learning rate having fallen by the
            clock where that is ahead of the steps. Such a training can't be repeated to the last bit.
        after: called after each step with the module (as to update a target network).
        keep: called with the averaged weights whenever a checkpoint is saved.

    Returns:
        The loss of each step of this run, float.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    steps, limit = settings["steps"], settings.get("seconds") or math.inf
    state = _State(module, settings["learning_rate"])
    path = checkpoint_path(name, settings)
    number = state.resume(path)
    losses: list[float] = []
    before, started = state.seconds, time.monotonic()
    saved = started
    module.train()
    while number < steps and state.seconds < limit:
        step = Step(number, steps, settings["seed"], state.seconds / limit)
        loss = loss_of(step)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{name}: loss {loss.item()} at step {number}; lower its learning_rate")
        decay = min(settings.get("average", 0.998), (number + 1) / (number + 10))
        state.update(loss, _learning_rate(number, step.progress, settings), decay)
        if after:
            after(module)
        losses.append(loss.item())
        number += 1
        now = time.monotonic()
        state.seconds = before + now - started
        if now - saved > SAVE_EVERY:
            state.save(path, number)
            if keep:
                keep(state.average)
            saved = now
        if number % 50 == 0 or number == steps or state.seconds >= limit:
            _tell(name, number, settings, losses, state.seconds - before)
    state.use_average()
    module.eval()
    return losses


def _learning_rate(number: int, progress: float, settings: Mapping[str, Any]) -> float:
    """Return the rate of a step, as `fit` says."""
    warm = min(1.0, (number + 1) / settings.get("warm_up", 50))
    if 0 < settings.get("warm_again", 0) <= progress:
        warm = min(warm, 0.02 + (progress - settings["warm_again"]) / 0.02)
    fall = 0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * progress))
    return float(settings["learning_rate"] * (warm * fall))


def _tell(
    name: str, number: int, settings: Mapping[str, Any], losses: Sequence[float], seconds: float
) -> None:
    """Print how far a training is."""
    pace, limit = seconds / len(losses), settings.get("seconds")
    left = pace * (settings["steps"] - number)
    left = left if limit is None else min(left, max(0.0, limit - seconds))
    print(
        f"{name} {number}/{settings['steps']} loss {np.mean(losses[-50:]):.4f} {pace:.2f} s/step "
        f"{left / 60:.1f} min left",
        flush=True,
    )


def to_tensor(images: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """Convert images to the networks' inputs: uint8 [n, h, w, 3] → float32 [n, 3, h, w] in -1…1."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(tensor: Tensor) -> NDArray[np.uint8]:
    """Invert `to_tensor`, clipped to the range of bytes."""
    array: NDArray[np.uint8] = (
        ((tensor.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    )
    return array
