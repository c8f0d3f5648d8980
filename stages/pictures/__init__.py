"""Pictures and pages of a result: nothing here computes what `evaluate` measured."""

from stages.pictures.drawn import Drawn, load_drawn
from stages.pictures.examples import Example, pick
from stages.pictures.page import page
from stages.pictures.painting import Painted, paint
from stages.pictures.result import Result, read_result

__all__ = ["Drawn", "Example", "Painted", "Result", "load_drawn", "page", "paint", "pick", "read_result"]
