"""pyiqa's metrics are an extra: said so where it lacks; by their names and under their own where it is there."""

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptroute.core.errors import UserError
from promptroute.scorers.base import ImageBatch, PromptedImageBatch
from promptroute.scorers.pyiqa import Pyiqa, _bounds


def test_an_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["pyiqa"] == ["pyiqa==0.1.*"]
    assert not any(name.startswith("pyiqa") for name in project["dependencies"])
    assert Pyiqa(metric="musiq").batch_size > 0 and "pyiqa" not in sys.modules, (
        "imported by its first use alone"
    )


@pytest.mark.skipif(find_spec("pyiqa") is not None, reason="pyiqa is installed")
def test_absent() -> None:
    scorer = Pyiqa(metric="musiq")
    for use in (
        lambda: scorer.score(ImageBatch([Image.new("RGB", (32, 32))])),
        lambda: scorer.outputs,
        lambda: scorer.inputs,
        scorer.fingerprint,
    ):
        with pytest.raises(
            UserError, match=r"pyiqa is not installed; install it with `pip install promptroute\[pyiqa\]`"
        ):
            use()


@pytest.mark.parametrize(
    ("declared", "bounds"),
    [
        ("0, 100", (0, 100)),
        ("-1.5, 2", (-1.5, 2)),
        ("~0, 1", (-np.inf, 1)),
        ("~0, ~1", (-np.inf, np.inf)),
        ("", (-np.inf, np.inf)),
    ],
)
def test_bounds(declared: str, bounds: tuple[float, float]) -> None:
    assert _bounds(declared) == bounds


@pytest.mark.skipif(find_spec("pyiqa") is None, reason="pyiqa is not installed")
class TestInstalled:
    """Against pyiqa itself, its networks without the weights, which would have to be fetched."""

    @pytest.fixture(autouse=True)
    def untrained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import timm
        import torch
        from pyiqa.archs import nima_arch

        torch.manual_seed(0)
        create = timm.create_model
        monkeypatch.setattr(
            timm, "create_model", lambda name, **others: create(name, **{**others, "pretrained": False})
        )
        monkeypatch.setattr(nima_arch, "load_pretrained_network", lambda *_, **__: None)

    @pytest.mark.parametrize("metric", ["nima", "nima-vgg16-ava"])
    def test_mean_of_the_distribution(self, metric: str) -> None:
        import torch

        noise = np.random.default_rng(0)
        images = [
            Image.fromarray(noise.integers(0, 256, (*size, 3), np.uint8))
            for size in ((64, 64), (48, 80), (64, 64))
        ]
        nima = Pyiqa(metric=metric)
        assert nima.inputs is ImageBatch
        scores = nima.score(ImageBatch(images))["score"]
        assert scores.shape == (3,) and scores.dtype == np.float64 and len(set(scores)) == 3
        pixels = torch.from_numpy(np.asarray(images[1], np.float32).transpose(2, 0, 1) / 255)[None]
        with torch.inference_mode():
            distribution = nima._network(pixels, return_mos=False, return_dist=True)[0].numpy()
        assert scores[1] == pytest.approx(distribution @ np.arange(1, 11), abs=1e-4)
        np.testing.assert_allclose(nima.score(ImageBatch(images[::2]))["score"], scores[::2], atol=1e-4)

    def test_direction_and_inputs(self) -> None:
        (niqe,), (musiq,) = Pyiqa(metric="niqe").outputs, Pyiqa(metric="musiq").outputs
        assert not niqe.higher_is_better and musiq.higher_is_better
        assert Pyiqa(metric="clipscore").inputs is PromptedImageBatch

    def test_unknown_metric(self) -> None:
        for metric in ("nimaa", "psnr", "fid", "inception_score"):
            with pytest.raises(
                UserError,
                match=rf"{metric}' is no metric of an image without a reference; choose one of .*musiq",
            ):
                _ = Pyiqa(metric=metric).outputs
