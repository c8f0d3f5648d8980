"""The small NIMA."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mini import train_nima
from mini.training import to_tensor
from tests.mini.helpers import falls, short


@pytest.mark.slow
def test_learns_and_loads(images: NDArray[np.uint8], tmp_path: Path) -> None:
    model, losses = train_nima.train(images, short(200, batch=16), "cpu")
    assert falls(losses, 20)
    train_nima.save(tmp_path, model)
    scores = [
        train_nima.mean_score(nima(to_tensor(images))) for nima in (model, train_nima.load_nima(tmp_path))
    ]
    # Half precision on disk shifts all scores alike by some hundredths; which image is better stays.
    assert torch.corrcoef(torch.stack(scores))[0, 1] > 0.995
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=0.2)


def test_emd_by_hand() -> None:
    sure = torch.full((1, 10), -100.0)
    sure[0, 3] = 100
    expected = torch.zeros(1, 10)
    expected[0, 5] = 1
    assert train_nima.emd_loss(sure, expected).item() == pytest.approx((2 / 10) ** 0.5, abs=1e-5)
    assert train_nima.mean_score(sure).item() == pytest.approx(4)


def test_batch_norm_fits_averaged_weights(images: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    nima = train_nima.new_nima()
    before = nima.bn1.running_mean.clone()
    train_nima.measure_batch_norm(nima, images, short(0), "cpu", batches=2)
    batches = [
        to_tensor(train_nima.degrade_all(images[np.sort(rng.integers(0, len(images), 32))], rng)[0])
        for rng in [np.random.default_rng(0)]
        for _ in range(2)
    ]
    with torch.no_grad():
        expected = torch.stack([nima.conv_stem(part).mean(dim=(0, 2, 3)) for part in batches]).mean(dim=0)
    assert not torch.allclose(before, expected) and not nima.training
    torch.testing.assert_close(nima.bn1.running_mean, expected, rtol=1e-3, atol=1e-3)
