"""What holds for every text encoder: the classes of the room, the options of conf/, and a class from elsewhere."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.encoders.base import TextEncoder, encode_all
from promptroute.encoders.sentence import PACKAGES
from tests.components import concrete, undocumented
from tests.encoders.test_static import table

CLASSES = concrete("promptroute.encoders", TextEncoder)
OPTIONS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "text_encoder").glob("*.yaml"))
TEXTS = ["a red car", "red", "a blue boat on a lake, oil on canvas", "", "red", "\u732b"]
every = pytest.mark.parametrize("found", CLASSES, ids=lambda found: found.__name__)


@pytest.fixture(scope="module")
def sections(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Settings with which a class finds weights on this machine."""
    (minilm,) = PACKAGES
    static = tmp_path_factory.mktemp("static") / "table"
    table().save(static)
    return {
        "ClipTextEncoder": {"model": str(tiny_clip)},
        "SentenceEncoder": {"model": minilm},
        "StaticEncoder": {"model": minilm, "folder": str(static)},
    }


@pytest.fixture(scope="module")
def make(sections: dict[str, dict[str, Any]]) -> Callable[..., TextEncoder]:
    """Build a class as a configuration does."""

    def made(found: type[TextEncoder], **settings: Any) -> TextEncoder:
        if found.__name__ == "SentenceEncoder":
            pytest.importorskip(next(iter(PACKAGES.values())), reason="the extra `offline` is not installed")
        section = {"_target_": found.class_path(), **sections.get(found.__name__, {}), **settings}
        return build(section, "text_encoder.it", TextEncoder)

    return made


@every
class TestClass:
    def test_encode(self, make: Any, found: type[TextEncoder]) -> None:
        encoder = make(found)
        rows = encode_all(encoder, TEXTS, progress=False)
        assert rows.shape == (len(TEXTS), encoder.description["dim"]) and rows.dtype == np.float32
        assert np.isfinite(rows).all() and 0 < encoder.sentence_width <= rows.shape[1]
        np.testing.assert_array_equal(rows[1], rows[4])
        for row, text in zip(rows, TEXTS, strict=True):
            np.testing.assert_allclose(encoder.encode([text])[0], row, atol=1e-5)

    def test_identity(self, make: Any, found: type[TextEncoder]) -> None:
        encoder = make(found)
        assert len(encoder.weights()["weights_sha256"]) == 64
        assert json.loads(json.dumps(encoder.fingerprint())) == make(found, batch_size=7).fingerprint()
        assert make(found, max_length=5).fingerprint() != encoder.fingerprint()
        assert encoder.description["encoder"] == found.__name__
        assert encoder.description["max_length"] == encoder.weights()["max_length"]

    def test_settings_round_trip(self, make: Any, found: type[TextEncoder]) -> None:
        section = make(found).to_section()
        assert build(json.loads(json.dumps(section)), "it", TextEncoder).to_section() == section

    def test_documents_settings(self, found: type[TextEncoder]) -> None:
        assert undocumented(found) == []

    def test_refuses_bad_settings(self, make: Any, found: type[TextEncoder]) -> None:
        with pytest.raises(UserError, match=r"^text_encoder\.it\.colour is no setting of"):
            make(found, colour="red")
        for name in found.model_fields:
            with pytest.raises(UserError, match=rf"^text_encoder\.it\.{name}"):
                make(found, **{name: object()})
        with pytest.raises(UserError, match=r"batch_size is 0; expected greater than 0"):
            make(found, batch_size=0)


OUTSIDE = '''
import numpy as np
from pydantic import Field

from promptroute.encoders.base import TextEncoder


class Letters(TextEncoder):
    """Counts letters."""

    letters: str = Field("abc", min_length=1)

    def weights(self):
        return {"dim": len(self.letters), "max_length": 10**6, "weights_sha256": "none"}

    def encode(self, texts):
        return np.array([[text.count(letter) for letter in self.letters] for text in texts], np.float32)
'''


def test_outside_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "somebodys_encoders.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    section = {"_target_": "somebodys_encoders.Letters", "letters": "ab"}
    encoder = build(section, "text_encoder.letters", TextEncoder, device="cpu")
    assert encode_all(encoder, ["abba", "cab"], progress=False).tolist() == [[2, 2], [1, 1]]
    assert encoder.description["dim"] == encoder.sentence_width == 2
    room = "promptroute.encoders."
    with pytest.raises(UserError, match=rf"Letters, which this may not name; allowed: {room}"):
        build(section, "router.json: encoder", TextEncoder, allow=(room,))
    assert build(section, "router.json: encoder", TextEncoder, allow=(room, section["_target_"])) == encoder


@pytest.mark.parametrize("option", OPTIONS)
def test_option_builds(compose: Callable[..., dict[str, Any]], option: str) -> None:
    encoders = compose(f"+text_encoder={option}")["text_encoder"]
    assert bool(encoders) == (option != "none")
    for name, section in encoders.items():
        encoder = build(section, f"text_encoder.{name}", TextEncoder, device="cpu")
        assert encoder.to_section() == section, "as short as what differs from the class's own defaults"


def test_every_class_has_an_option(compose: Callable[..., dict[str, Any]]) -> None:
    named = [
        section
        for option in OPTIONS
        for section in compose(f"+text_encoder={option}")["text_encoder"].values()
    ]
    assert {section["_target_"] for section in named} == {found.class_path() for found in CLASSES}


def test_building_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from promptroute.core.component import build\n"
        "from promptroute.encoders.base import TextEncoder\n"
        "from promptroute.predictors.base import Predictor\n"
        f"for path in {[found.class_path() for found in CLASSES]}:\n"
        "    build({'_target_': path, 'model': 'a/b'}, 'it', TextEncoder)\n"
        "for path in ('ridge.Ridge', 'cems.Cems', 'kernel.Kernel', 'gbm.Gbm'):\n"
        "    build({'_target_': 'promptroute.predictors.' + path}, 'it', Predictor)\n"
        "heavy = 'torch transformers sklearn scipy lightgbm pandas hydra dvc tqdm'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
