"""Lines that a command prints for programs."""

import json
import sys
from collections.abc import Mapping


def json_line(fields: Mapping[str, object]) -> str:
    """Write a line of JSON: ASCII where the output's encoding asks for it."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    return json.dumps(fields, ensure_ascii=encoding != "utf8")
