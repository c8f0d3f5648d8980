import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from promptroute.core.errors import UserError
from promptroute.feedback import richhf
from promptroute.feedback.pickapic import open_pickapic
from promptroute.feedback.richhf import ShardExamples, build_shards, read_richhf
from promptroute.feedback.tfrecord import crc32c, read_records
from tests.feedback.made import make_tokens, settings
from tests.feedback.records import encoded, example, framed, record, spot, write_pickapic, write_records

ROWS = [
    ("u0", "u1", "a red, square!"),
    ("u2", "u3", "a blue square"),
    ("u4", "u5", "dark: light"),
    ("u6", "u7", "a"),
]


class TestRecords:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"123456789", 0xE3069283),
            (bytes(32), 0x8A9136AA),
            (b"\xff" * 32, 0x62A8AB43),
            (bytes(range(32)), 0x46DD794E),
        ],
    )
    def test_crc_of_rfc_3720(self, data: bytes, expected: int) -> None:
        assert crc32c(data) == expected

    @given(st.dictionaries(st.text(max_size=5), st.one_of(
        st.lists(st.binary(max_size=9), min_size=1, max_size=3),
        st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
    ), max_size=4), st.booleans())  # fmt: skip
    def test_read_back(self, fields: dict[str, Any], packed: bool) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.tfrecord"
            path.write_bytes(framed(example(fields, packed)) * 2)
            assert list(read_records(path)) == [fields, fields]

    def test_fields(self, tmp_path: Path) -> None:
        found = list(read_richhf(write_records(tmp_path / "r", [record("u1"), record("u2", "1")])))
        assert [one.uid for one in found] == ["u1", "u2"] and found[0].aligned == [1, 0, 1]
        assert found[0].scores == {"plausibility": 0.25, "alignment": 0.75, "aesthetics": 0.5, "overall": 1.0}


CUTS = {
    "length": 5,
    "checksum of the length": 10,
    "payload": 60,
    "end of the payload": -6,
    "last checksum": -2,
}


class TestBadRecords:
    """Each says file and record, and what is wrong."""

    @pytest.mark.parametrize("at", CUTS.values(), ids=CUTS)
    def test_cut_off(self, at: int, tmp_path: Path) -> None:
        whole = framed(example(record("u1")))
        path = tmp_path / "r"
        path.write_bytes(whole + whole[:at])
        with pytest.raises(UserError, match="r: record 1 is cut off"):
            list(read_records(path))

    @pytest.mark.parametrize(
        ("at", "what"),
        [(9, "a wrong checksum of its length"), (40, "a wrong checksum;"), (-1, "a wrong checksum;")],
    )
    def test_checksum(self, at: int, what: str, tmp_path: Path) -> None:
        data = bytearray(framed(example(record("u1"))))
        data[at] ^= 1
        (tmp_path / "r").write_bytes(data)
        with pytest.raises(UserError, match=f"record 0 has {what}"):
            list(read_records(tmp_path / "r"))

    def test_pointer(self, tmp_path: Path) -> None:
        (tmp_path / "r").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:3a\nsize 150\n")
        with pytest.raises(UserError, match="a Git LFS pointer"):
            list(read_records(tmp_path / "r"))

    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such file of records"):
            list(read_records(tmp_path / "r"))

    @pytest.mark.parametrize("payload", [b"\x0a\xff\x01", b"\x0f", b"\x0a", struct.pack("<Q", 1)])
    def test_no_example(self, payload: bytes, tmp_path: Path) -> None:
        (tmp_path / "r").write_bytes(framed(payload))
        with pytest.raises(UserError, match=r"record 0 (holds no example|has no artifact_score)"):
            list(read_richhf(tmp_path / "r"))

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"overall_score": None}, "record 1 has no overall_score"),
            ({"overall_score": 1.5}, "overall_score is 1.5; expected 0 to 1"),
            ({"overall_score": float("nan")}, "overall_score is nan"),
            ({"overall_score": 1}, "overall_score holds 1 value.*expected one float"),
            ({"overall_score": [0.5, 0.5]}, "overall_score holds 2 value"),
            ({"artifact_map": spot(0, 256)}, "artifact_map is 256 × 256 pixels; expected 512 × 512"),
            ({"misalignment_map": b"nothing"}, "misalignment_map is no image that can be read"),
            ({"prompt_misalignment_label": b"1 2"}, "prompt_misalignment_label is '1 2'"),
            ({"filename": b"\xff"}, "filename is not UTF-8"),
            ({"filename": b"train/"}, "filename is 'train/'"),
        ],
    )
    def test_field(self, changed: dict[str, Any], said: str, tmp_path: Path) -> None:
        path = write_records(tmp_path / "r", [record("u1"), record("u2", **changed)])
        with pytest.raises(UserError, match=f"record 1.*{said.removeprefix('record 1 ')}"):
            list(read_richhf(path))


class TestShards:
    def built(self, tmp_path: Path, labels: dict[str, str]) -> dict[str, int]:
        images = open_pickapic(write_pickapic(tmp_path / "pickapic", ROWS))
        path = write_records(tmp_path / "dev.tfrecord", [record(uid, label) for uid, label in labels.items()])
        return build_shards(path, images, tmp_path / "shards", "dev")

    def test_join(self, tmp_path: Path) -> None:
        counts = self.built(tmp_path, {"u5": "0 1", "u0": "1 1 0", "u3": "1 0 1"})
        assert counts == {"records": 3, "missing": 0, "mismatched": 0}
        rows = pq.read_table(tmp_path / "shards" / "dev-00000.parquet").to_pylist()
        by_uid = {row["uid"]: row for row in rows}
        assert by_uid["u0"]["prompt"] == "a red, square!" and by_uid["u0"]["words"] == ["a", "red", "square"]
        assert by_uid["u0"]["missed"] == [False, False, True] and by_uid["u5"]["words"] == ["dark", "light"]
        for uid, row in by_uid.items():
            assert row["image"]["bytes"] == encoded(int(uid[1:])), "the side that the uid names"

    def test_labels_that_do_not_fit_are_kept_with_the_reason(self, tmp_path: Path) -> None:
        counts = self.built(tmp_path, {"u0": "1 1", "u3": "1 0 1"})
        assert counts["mismatched"] == 1 and counts["records"] == 2
        sizes = settings(vocabulary=16)
        examples = ShardExamples(tmp_path / "shards", "dev", make_tokens(), sizes)
        at = examples._columns["uid"].index("u0")
        assert examples._columns["reason"][at] == "3 words, but 2 labels"
        assert examples.labels(at) is None and examples.labels(1 - at) is not None
        batch = examples.batch(np.array([at, 1 - at]))
        assert not batch.target_ids[0].any() and batch.target_ids[1].any()
        assert batch.pixel_values.shape == (2, 3, 16, 16) and batch.scores[0].tolist() == [0.25, 0.75, 0.5, 1]

    def test_maps_are_resized_as_pillow_does(self, tmp_path: Path) -> None:
        self.built(tmp_path, {"u3": "1 0 1"})
        batch = ShardExamples(tmp_path / "shards", "dev", make_tokens(), settings()).batch(np.array([0]))
        expected = Image.open(io.BytesIO(spot(50))).resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(batch.heatmaps[0, 0], np.asarray(expected) / 255, atol=1e-6)
        assert not batch.heatmaps[0, 1].any()

    def test_finished_shards_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(richhf, "SHARD", 2)
        labels = {"u0": "1 1 1", "u2": "1 1 1", "u5": "1 1"}
        self.built(tmp_path, labels)
        first, second = sorted((tmp_path / "shards").iterdir())
        second.write_bytes(second.read_bytes()[:100])
        before, broken = first.stat().st_mtime_ns, second.stat().st_mtime_ns
        self.built(tmp_path, labels)
        assert first.stat().st_mtime_ns == before and second.stat().st_mtime_ns > broken
        assert len(ShardExamples(tmp_path / "shards", "dev", make_tokens(), settings())) == 3

    def test_folder_of_images(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "u9.jpg").write_bytes(encoded(9))
        pd.DataFrame({"uid": ["u9"], "caption": ["a red square"]}).to_csv(tmp_path / "t.csv", index=False)
        images = open_pickapic(tmp_path / "images", tmp_path / "t.csv")
        path = write_records(tmp_path / "r", [record("u9")])
        assert build_shards(path, images, tmp_path / "shards", "test")["records"] == 1

    def test_last_row_of_a_uid_wins(self, tmp_path: Path) -> None:
        copy = open_pickapic(
            write_pickapic(tmp_path / "p", [("u0", "u1", "first"), ("u1", "u2", "last")], files=1)
        )
        assert copy.places(["u1"])["u1"].caption == "last"


class TestBadShards:
    def test_missing_image(self, tmp_path: Path) -> None:
        images = open_pickapic(write_pickapic(tmp_path / "p", ROWS))
        path = write_records(tmp_path / "r", [record("u0", "1 1 1"), record("u99")])
        with pytest.raises(
            UserError, match=r"r: record 1 has the image u99, which the copy .* lacks \(1 of 2"
        ):
            build_shards(path, images, tmp_path / "shards", "dev")
        counts = build_shards(path, images, tmp_path / "shards", "dev", allow_missing=True)
        assert counts == {"records": 1, "missing": 1, "mismatched": 0}

    def test_image_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "u9.jpg").write_bytes(b"nothing")
        pd.DataFrame({"uid": ["u9"], "caption": ["a red square"]}).to_csv(tmp_path / "t.csv", index=False)
        path = write_records(tmp_path / "r", [record("u9")])
        with pytest.raises(UserError, match=r"r: record 0: the image u9 in .*u9.jpg can't be decoded"):
            build_shards(path, open_pickapic(tmp_path / "images", tmp_path / "t.csv"), tmp_path / "s", "test")
        assert not list((tmp_path / "s").glob("*"))

    def test_no_copy(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such folder; give a local copy"):
            open_pickapic(tmp_path / "nowhere")
        with pytest.raises(UserError, match=r"holds no \.parquet file"):
            open_pickapic(tmp_path)

    def test_other_table(self, tmp_path: Path) -> None:
        pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(UserError, match=r"a\.parquet: has no column image_0_uid"):
            open_pickapic(tmp_path).places(["u0"])
        (tmp_path / "a.parquet").write_bytes(b"PAR1")
        with pytest.raises(UserError, match=r"a\.parquet: not a parquet file"):
            open_pickapic(tmp_path).places(["u0"])

    def test_captions_without_column(self, tmp_path: Path) -> None:
        pd.DataFrame({"uid": ["u9"]}).to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(UserError, match="has no column caption"):
            open_pickapic(tmp_path, tmp_path / "t.csv").places(["u9"])

    def test_corrupt_shard(self, tmp_path: Path) -> None:
        images = open_pickapic(write_pickapic(tmp_path / "p", ROWS))
        build_shards(write_records(tmp_path / "r", [record("u0", "1 1 1")]), images, tmp_path / "s", "dev")
        path = tmp_path / "s" / "dev-00000.parquet"
        data = bytearray(path.read_bytes())
        examples = ShardExamples(tmp_path / "s", "dev", make_tokens(), settings())
        data[data.index(encoded(0)) + 500] ^= 1
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"dev-00000\.parquet: row 0 can't be read"):
            examples.batch(np.array([0]))

    def test_no_shard(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no shard of dev; build them first"):
            ShardExamples(tmp_path, "dev", make_tokens(), settings())


def test_shards_say_what_they_are_of(tmp_path: Path) -> None:
    images = open_pickapic(write_pickapic(tmp_path / "p", ROWS))
    build_shards(write_records(tmp_path / "r", [record("u0", "1 1 1")]), images, tmp_path / "s", "dev")
    metadata = pq.read_schema(tmp_path / "s" / "dev-00000.parquet").metadata
    assert json.loads(metadata[b"rows"]) == [0] and metadata[b"split"] == b"dev"
