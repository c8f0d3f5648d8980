"""Names for plain values: those of a configuration, and those that JSON holds."""

from collections.abc import Mapping
from typing import Any

Section = Mapping[str, Any]
"""A part of a configuration: name → value; of a component, `_target_` and its settings."""
Plain = dict[str, Any]
"""Values that JSON holds, by name."""
