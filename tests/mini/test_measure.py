"""The evaluation of the trained models."""

from dataclasses import replace

import numpy as np
import pytest

from mini.captions import Group, Statement
from mini.measure import attribute_accuracy
from mini.scenes import Scene, render
from tests.mini.helpers import RED_CIRCLE


def test_attribute_accuracy() -> None:
    statement = Statement((Group(shape="circle", colour="red"), Group(shape="star")), "left of", "white")
    image = render(Scene((replace(RED_CIRCLE, x=16, size="medium"),), "white", "plain"))
    accuracy = attribute_accuracy(np.stack([image, image]), [statement, Statement((Group(shape="circle"),))])
    assert accuracy["all"] == pytest.approx(5 / 8)
    assert accuracy == {
        "all": pytest.approx(5 / 8), "background": 1, "colour": 1, "count": 0.5, "relation": 0,
        "shape": pytest.approx(2 / 3),
    }  # fmt: skip
