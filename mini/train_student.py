"""Distil the latent diffusion into few steps: params `student` → mini/pipeline/data/weights/student/.

Latent consistency distillation (Luo et al., Latent Consistency Models, 2023): from any point of the teacher's trajectory,
the student predicts its end. Guidance is part of the trajectory, so the student needs none. Only its U-Net is saved; the
other parts of its pipeline are the teacher's, with `new_scheduler`.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mini.inputs import TextInputs
from mini.settings import WEIGHTS, load_settings
from mini.train_diffusion import FOLDER as TEACHER
from mini.train_diffusion import load_inputs
from mini.training import Step, compute_device, finish, fit
from promptroute.runtime.stage import run_stage

FOLDER = WEIGHTS / "student"
POINTS = 20  # of the teacher's trajectory
TARGET_DECAY = 0.95  # of the student's moving average, its target network


def new_scheduler(teacher: Any) -> Any:
    """Make the consistency sampler on the teacher's noise schedule."""
    from diffusers import LCMScheduler

    return LCMScheduler.from_config(
        teacher.config, original_inference_steps=POINTS, timestep_spacing="leading"
    )


class Student(nn.Module):
    """The student's U-Net and its target network, a moving average of it."""

    def __init__(self, teacher: Any) -> None:
        super().__init__()
        self.unet, self.target = copy.deepcopy(teacher), copy.deepcopy(teacher)
        self.unet.requires_grad_(True)
        self.target.requires_grad_(False)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the target network towards the student."""
        torch._foreach_lerp_(list(self.target.parameters()), list(self.unet.parameters()), 1 - TARGET_DECAY)


def trajectory_end(
    model: Any, noisy: Tensor, times: Tensor, states: Tensor, alphas: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the ends of the trajectory through a noisy latent, by a model's velocity: the clean latent and the noise."""
    velocity = model(noisy, times, states).sample
    alpha = alphas[times].view(-1, 1, 1, 1)
    return alpha.sqrt() * noisy - (1 - alpha).sqrt() * velocity, (
        1 - alpha
    ).sqrt() * noisy + alpha.sqrt() * velocity


def consistent(clean: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
    """Return the consistency function: at time 0 the latent itself, elsewhere the predicted clean one.

    The boundary scalings are `LCMScheduler`'s (sigma_data 0.5, times scaled by 10).
    """
    scaled = 10.0 * times.view(-1, 1, 1, 1).float()
    return 0.25 / (scaled**2 + 0.25) * noisy + scaled / (scaled**2 + 0.25).sqrt() * clean


def train(
    teacher: Any, scheduler: Any, latents: Tensor, texts: TextInputs, settings: dict[str, Any], device: str
) -> tuple[Any, list[float]]:
    """Distil a teacher's U-Net.

    Args:
        teacher: `UNet2DConditionModel` that predicts velocity.
        scheduler: its noise schedule.
        latents: float32 [n, channels, 16, 16] of unit size.
        texts: the captions.
        settings: as `fit` has it, and batch and guidance.

    Returns:
        The student's U-Net and the loss of each step.
    """
    torch.manual_seed(settings["seed"])
    teacher = teacher.to(device).eval().requires_grad_(False)
    student = Student(teacher).to(device)
    alphas = scheduler.alphas_cumprod.to(device)
    stride = scheduler.config.num_train_timesteps // POINTS

    def loss_of(step: Step) -> Tensor:
        rows = step.rows(len(latents), settings["batch"])
        point = step.rng.integers(1, POINTS + 1, len(rows))
        later = torch.from_numpy(point * stride - 1).to(device)
        earlier = torch.from_numpy((point - 1) * stride - 1).clamp(min=0).to(device)
        clean = latents[rows].to(device)
        noisy = scheduler.add_noise(clean, step.normal(clean.shape, device), later)
        states, _ = texts.batch(rows, np.zeros(len(rows), bool), device)
        with torch.no_grad():
            empty = texts.empty_states.to(device).expand_as(states)
            both = torch.cat([noisy, noisy]), torch.cat([later, later]), torch.cat([empty, states])
            # each: without, with caption
            ends, noises = (pair.chunk(2) for pair in trajectory_end(teacher, *both, alphas))
            end = ends[0] + settings["guidance"] * (ends[1] - ends[0])
            noise = noises[0] + settings["guidance"] * (noises[1] - noises[0])
            alpha = alphas[earlier].view(-1, 1, 1, 1)
            before = alpha.sqrt() * end + (1 - alpha).sqrt() * noise
            target = consistent(
                trajectory_end(student.target, before, earlier, states, alphas)[0], before, earlier
            )
        output = consistent(trajectory_end(student.unet, noisy, later, states, alphas)[0], noisy, later)
        return ((output - target).square() + 1e-6).sqrt().mean()

    losses = fit("student", student, loss_of, settings, after=lambda module: module.follow())  # type: ignore[operator]
    return student.unet, losses


def main() -> str:
    from diffusers import StableDiffusionPipeline

    settings, device = load_settings("student"), compute_device()
    pipe: Any = StableDiffusionPipeline.from_pretrained(TEACHER, dtype=torch.float32)
    _, _, latents, texts = load_inputs(pipe.vae, settings["examples"], device)
    unet, losses = train(pipe.unet, pipe.scheduler, latents, texts, settings, device)
    return finish("student", settings, FOLDER, unet.to("cpu", torch.float16).save_pretrained, losses)


if __name__ == "__main__":
    run_stage(main)
