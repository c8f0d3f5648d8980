"""Pictures and pages of a result: nothing here computes what `evaluate` measured."""

from stages.pictures.examples import Example, pick
from stages.pictures.gallery import Painted, paint
from stages.pictures.page import page
from stages.pictures.result import Result, read_result

__all__ = ["Example", "Painted", "Result", "page", "paint", "pick", "read_result"]
