"""Folders of examples."""

from pathlib import Path

import numpy as np

from mini.feedback.examples import MAPS, new_example
from mini.feedback.render import ARRAYS, read_examples, write_examples


def test_written_and_read(tmp_path: Path) -> None:
    write_examples(tmp_path / "one", 6, seed=5)
    write_examples(tmp_path / "two", 6, seed=5, workers=2)
    for name in (*(f"{name}.npy" for name in ARRAYS), "examples.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    found, example = read_examples(tmp_path / "one"), new_example((5, 4))
    assert np.array_equal(found.images[4], example.image)
    assert np.abs(found.maps[4] / 255 - np.stack([example.maps[name] for name in MAPS])).max() <= 0.5 / 255
    assert found.rows[4]["text"] == example.caption.text
    assert found.rows[4]["missed"] == [int(missed) for missed in example.missed]
    assert [part is None for part in found.rows[4]["parts"]] == [
        part is None for part in found.rows[4]["shown"]
    ]
