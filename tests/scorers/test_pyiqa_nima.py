"""pyiqa's NIMA is an extra: said so where it lacks, and scored with where it's there."""

import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.records import BadInput
from stages.scorers import PyiqaNima


def test_it_is_a_scorer_of_pixels_and_an_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["pyiqa"] == ["pyiqa"]
    assert not any(name.startswith("pyiqa") for name in project["dependencies"])
    assert "pyiqa" not in sys.modules, "nothing but a first picture imports it"
    assert callable(PyiqaNima().score) and PyiqaNima().batch_size > 0


def test_where_it_is_absent_that_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(
        BadInput, match=r"pyiqa is not installed; install it with `pip install promptroute\[pyiqa\]`"
    ):
        PyiqaNima().score([Image.new("RGB", (32, 32))])


def test_where_its_package_is_absent_the_fingerprint_says_so() -> None:
    from importlib.util import find_spec

    if find_spec("pyiqa"):
        pytest.skip("pyiqa is installed here")
    with pytest.raises(BadInput, match="pyiqa is not installed"):
        _ = PyiqaNima().fingerprint_parts


def test_it_scores_pictures_of_any_size() -> None:
    pytest.importorskip("pyiqa", reason="pyiqa is not installed")
    pictures = [Image.new("RGB", size, colour) for size, colour in (((64, 64), "red"), ((80, 48), "blue"))]
    try:
        scores = PyiqaNima("nima-vgg16-ava").score(pictures)
    except BadInput as error:
        pytest.skip(f"its weights can't be fetched here: {error}")
    assert scores.shape == (2,) and ((scores >= 1) & (scores <= 10)).all()
    np.testing.assert_allclose(PyiqaNima("nima-vgg16-ava").score(pictures[:1]), scores[:1], atol=1e-3)
