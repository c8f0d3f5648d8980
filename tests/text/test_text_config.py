"""conf/text composes and builds."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.runtime import build

CONF = Path(__file__).parents[2] / "conf" / "text"
EXPECTED = {
    "tfidf": [],
    "minilm": ["minilm"],
    "layers": ["minilm_layers"],
    "static": ["static"],
    "clip": ["clip"],
    "minilm_clip": ["minilm", "clip"],
}


def test_every_text_config_builds(compose: Callable[..., dict[str, Any]]) -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == set(EXPECTED)
    for option, names in EXPECTED.items():
        encoders = compose(f"+text={option}")["text"]["encoders"]
        assert list(encoders) == names
        for name, config in encoders.items():
            encoder = build(config, f"text.encoders.{name}", device="cpu")
            # Not isinstance: that would read `fingerprint`, and so load the model.
            assert all(hasattr(type(encoder), name) for name in ("encode", "fingerprint", "description"))
            assert encoder.batch_size > 0


def test_importing_and_building_loads_no_torch() -> None:
    code = (
        "import sys, stages.text, stages.predictors\n"
        "stages.text.SentenceEncoder('a/b'); stages.text.ClipTextEncoder('a/b'); stages.text.StaticEncoder('a/b')\n"
        "stages.predictors.Cems()\n"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'scipy', 'lightgbm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
