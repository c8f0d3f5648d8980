"""The training loop: seeded, resumable."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mini.training import Step, checkpoint_path, fit, to_images, to_tensor
from tests.mini.helpers import short


class TestFit:
    """The loop itself, on a line through points."""

    @staticmethod
    def line(stop_at: int | None = None) -> tuple[nn.Linear, Any]:
        torch.manual_seed(0)
        model = nn.Linear(2, 1)

        def loss_of(step: Step) -> Tensor:
            if step.number == stop_at:
                raise KeyboardInterrupt
            x = torch.randn(16, 2, generator=step.generator)
            return (model(x) - x @ torch.tensor([[1.0], [-2.0]])).square().mean()

        return model, loss_of

    def test_learns_line(self) -> None:
        model, loss_of = self.line()
        losses = fit("line", model, loss_of, short(400, learning_rate=0.05, average=0.9))
        assert len(losses) == 400 and losses[-1] < 1e-3
        np.testing.assert_allclose(model.weight.detach().numpy(), [[1, -2]], atol=0.05)

    def test_kill_resumes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole, loss_of = self.line()
        fit("whole", whole, loss_of, short(60))
        monkeypatch.setattr("mini.training.SAVE_EVERY", -1)
        killed, loss_of = self.line(stop_at=37)
        with pytest.raises(KeyboardInterrupt):
            fit("killed", killed, loss_of, short(60))
        assert checkpoint_path("killed", short(60)).is_file()
        again, loss_of = self.line()
        losses = fit("killed", again, loss_of, short(60))
        assert len(losses) == 60 - 37
        torch.testing.assert_close(again.state_dict(), whole.state_dict(), rtol=0, atol=0)

    def test_new_settings_start_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mini.training.SAVE_EVERY", -1)
        model, loss_of = self.line()
        fit("line", model, loss_of, short(20))
        assert len(fit("line", model, loss_of, short(21))) == 21

    def test_nan_loss_stops(self) -> None:
        model, _ = self.line()
        with pytest.raises(FloatingPointError, match=r"line: loss nan at step 0"):
            fit("line", model, lambda step: model.weight.sum() * float("nan"), short(5))


def test_tensor_round_trip(images: NDArray[np.uint8]) -> None:
    tensor = to_tensor(images)
    assert tensor.min() >= -1 and tensor.max() <= 1
    np.testing.assert_array_equal(to_images(tensor), images)
