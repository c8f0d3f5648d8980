"""pyiqa's NIMA is an extra: said so where it lacks, and scored with where it's there."""

import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptroute.core.errors import UserError
from promptroute.scorers.pyiqa_nima import PyiqaNima


def test_it_is_a_scorer_of_pixels_and_an_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["pyiqa"] == ["pyiqa==0.1.*"]
    assert not any(name.startswith("pyiqa") for name in project["dependencies"])
    assert "pyiqa" not in sys.modules, "nothing but a first picture imports it"
    assert callable(PyiqaNima().score) and PyiqaNima().batch_size > 0


def test_where_it_is_absent_that_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(
        UserError, match=r"pyiqa is not installed; install it with `pip install promptroute\[pyiqa\]`"
    ):
        PyiqaNima().score([Image.new("RGB", (32, 32))])


def test_where_its_package_is_absent_the_fingerprint_says_so() -> None:
    from importlib.util import find_spec

    if find_spec("pyiqa"):
        pytest.skip("pyiqa is installed here")
    with pytest.raises(UserError, match="pyiqa is not installed"):
        _ = PyiqaNima().fingerprint_parts


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyiqa's own networks without their weights, which would have to be fetched."""
    pytest.importorskip("pyiqa", reason="pyiqa is not installed")
    import timm
    import torch
    from pyiqa.archs import nima_arch

    torch.manual_seed(0)
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, **others: create(name, **{**others, "pretrained": False})
    )
    monkeypatch.setattr(nima_arch, "load_pretrained_network", lambda *_, **__: None)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("metric", ["nima", "nima-vgg16-ava"])
def test_the_score_is_the_mean_of_its_distribution(metric: str) -> None:
    import torch

    noise = np.random.default_rng(0)
    pictures = [
        Image.fromarray(noise.integers(0, 256, (*size, 3), np.uint8))
        for size in ((64, 64), (48, 80), (64, 64))
    ]
    nima = PyiqaNima(metric)
    scores = nima.score(pictures)
    assert scores.shape == (3,) and scores.dtype == np.float64 and len(set(scores)) == 3
    pixels = torch.from_numpy(np.asarray(pictures[1], np.float32).transpose(2, 0, 1) / 255)[None]
    with torch.inference_mode():
        distribution = nima._network(pixels, return_mos=False, return_dist=True)[0].numpy()
    assert scores[1] == pytest.approx(distribution @ np.arange(1, 11), abs=1e-4)
    np.testing.assert_allclose(nima.score(pictures[::2]), scores[::2], atol=1e-4)


@pytest.mark.usefixtures("untrained")
def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no metric 'nimaa'; choose one of nima, .*nima-vgg16-ava"):
        PyiqaNima("nimaa").score([Image.new("RGB", (32, 32))])
