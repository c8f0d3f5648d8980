"""conf/text composes and builds."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from promptroute.runtime.params import build

CONF = Path(__file__).parents[2] / "conf" / "text_encoder"
EXPECTED = {
    "none": [],
    "minilm": ["minilm"],
    "layers": ["minilm_layers"],
    "static": ["static"],
    "clip": ["clip"],
    "minilm_clip": ["minilm", "clip"],
}


def test_every_text_config_builds(compose: Callable[..., dict[str, Any]]) -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == set(EXPECTED)
    for option, names in EXPECTED.items():
        encoders = compose(f"+text_encoder={option}")["text_encoder"]
        assert list(encoders) == names
        for name, config in encoders.items():
            encoder = build(config, f"text_encoder.{name}", device="cpu")
            # Not isinstance: that would read `fingerprint`, and so load the model.
            assert all(hasattr(type(encoder), name) for name in ("encode", "fingerprint", "description"))
            assert encoder.batch_size > 0


def test_importing_and_building_loads_no_torch() -> None:
    code = (
        "import sys, promptroute.encoders.sentence, promptroute.predictors.ridge\n"
        "promptroute.encoders.sentence.SentenceEncoder('a/b'); promptroute.encoders.clip_text.ClipTextEncoder('a/b'); promptroute.encoders.static.StaticEncoder('a/b')\n"
        "promptroute.predictors.cems.Cems()\n"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'scipy', 'lightgbm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
