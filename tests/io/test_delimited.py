"""Strict reading of text tables."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.core.text import number
from promptroute.io.delimited import read_delimited

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=12)


def read(text: str | bytes, columns: tuple[str, ...] = ("a",), **options: object) -> pd.DataFrame:
    content = text.encode() if isinstance(text, str) else text
    return read_delimited(content, "t.csv", columns, **options)  # type: ignore[arg-type]


def test_words_like_gaps_stay_text() -> None:
    words = ["None", "null", "NA", "nan", "", "true", "007", "1e5"]
    rows = read("a,b\n" + "".join(f"{word},x\n" for word in words))
    assert rows["a"].to_list() == words


def test_line_of_a_row() -> None:
    rows = read('a,b\r\n1,"two\r\nlines, ""quoted"""\r\n\r\n2,x')
    assert rows.index.to_list() == [2, 5]
    assert rows["b"].to_list() == ['two\r\nlines, "quoted"', "x"]


def test_byte_order_mark() -> None:
    assert read(b"\xef\xbb\xbfa,b\n1,2\n").columns.to_list() == ["a", "b"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), st.sampled_from([",", "\t"]))
def test_csv_module_round_trip(rows: list[tuple[str, str]], delimiter: str) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["a", "b"])
    writer.writerows(rows)
    again = read(file.getvalue(), ("a", "b"), delimiter=delimiter, closed=True)
    assert list(again.itertuples(index=False, name=None)) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.csv: the file is empty; fetch it again"),
        (b" \n\n", "t.csv: the file is empty; fetch it again"),
        (b"a,b\n", "t.csv: a header and no rows; fetch the file again"),
        (b"a,b\n1,2\n3,\xe9\n", "t.csv: line 3 is not UTF-8 (byte 0xe9); save the file as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "t.csv: line 1 is not UTF-8 (byte 0xff); save the file as UTF-8"),
        (
            "a,b\n1,2\n".encode("utf-16-le"),
            "t.csv: line 1 holds a NUL character; save the file as UTF-8 text",
        ),
        (b"\n<!DOCTYPE html><p>404", "t.csv: holds an HTML page ('<!DOCTYPE html><p>404'), not the data"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "t.csv: holds a Git LFS pointer"),
        (b"PK\x03\x04\x00", "t.csv: holds a zip or Excel file"),
        (b"b;c\n1;2\n", "t.csv: cells are separated by semicolons ('b;c'), expected ','; save it with ','"),
        (b"a\tb\n1\t2\n", "t.csv: cells are separated by tabs"),
        (b"b,c\n1,2\n", "t.csv: no column a, the file has b, c; rename"),
        (b"\xef\xbb\xbf", "t.csv: the file is empty; fetch it again"),
        (b"\xef\xbb\xbf\n\n", "t.csv: the file is empty; fetch it again"),
        (b'""', "t.csv: the file is empty; fetch it again"),
        (b'""\n\n""\n', "t.csv: the file is empty; fetch it again"),
        (b"[" * 9_000, f"t.csv: no column a, the file has {'[' * 37}...; rename"),
        (b"x," * 900 + b"y\n", "t.csv: columns ['x'] are duplicates"),
        (b"a,a\n1,2\n", "t.csv: columns ['a'] are duplicates in the header; rename or remove one"),
        (
            b'a,b\n1,"2\n3"\n4\n',
            "t.csv: line 4 has 1 cells, the header has 2; fetch the file again if it was",
        ),
        (b"a,b\n1,2,3\n", "t.csv: line 2 has 3 cells, the header has 2"),
        (b'a,b\n1,2\n3,"4\n5,6\n', "t.csv: a quote that opens in the row on line 3 is never closed"),
        (
            b'a,b\n3,"' + b"x" * 200_000 + b"\n",
            "t.csv: a quote that opens in the row on line 2 is never closed",
        ),
        (
            b"a,b\n1,2\n3,4",
            "t.csv: line 3, the last, has no line end, so the file may be cut off; fetch it again",
        ),
    ],
)
def test_errors(content: bytes, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(content, closed=True)
    assert str(caught.value).startswith(message)


def test_last_line_without_end() -> None:
    assert read("a,b\n1,2")["b"].to_list() == ["2"]


class TestQuotes:
    def test_backslash(self) -> None:
        assert read('a,b\n"say \\"hi\\", now",x\n')["a"].to_list() == ['say "hi", now']

    def test_backslash_at_the_end(self) -> None:
        assert read('a,b\n"C:\\",x\n')["a"].to_list() == ["C:\\"]

    def test_literal(self) -> None:
        rows = read('a\tb\n"red" car\tx\nthe "blue" one\ty\n', delimiter="\t")
        assert rows["a"].to_list() == ['"red" car', 'the "blue" one']

    def test_large_cell(self) -> None:
        assert len(read(f'a,b\n"{"x" * 200_000}",y\n')["a"].iloc[0]) == 200_000


def test_semicolons() -> None:
    rows = read('a;b\n"1;5";2,5\n')
    assert rows["a"].to_list() == ["1;5"] and rows["b"].to_list() == ["2,5"]
    found = [number(text, rows.attrs["decimal"]) for text in ("2,5", "-2,5e1", "2.5", "1.000,5", "1,000,000")]
    assert found == [2.5, -25.0, 2.5, None, None]
    assert read("a,b\n1,2\n").attrs["decimal"] == "." and number("2,5") is None
