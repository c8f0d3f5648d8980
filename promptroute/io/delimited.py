"""Read text tables that may come from anybody: csv and tsv as plain text, with the line of every row.

Nothing is guessed: each cell stays the text that the file has, so a prompt `None` or `null` stays a prompt, and every
row knows its line, so that an error can name it.
"""

import re
from collections.abc import Iterator, Sequence

import pandas as pd

from promptroute.core.errors import UserError
from promptroute.core.text import listed, short

_NO_TABLE = {
    "<!doctype": "an HTML page",
    "<html": "an HTML page",
    "<?xml": "an XML page",
    "version https://git-lfs": "a Git LFS pointer",
    "PK\x03\x04": "a zip or Excel file",
}


def decode(content: bytes, where: str) -> str:
    """Decode the UTF-8 text of a file, without its byte order mark.

    Args:
        content: the file's bytes.
        where: its name, for the message.

    Raises:
        UserError: it is empty, not UTF-8, or a web page, a Git LFS pointer or a spreadsheet instead of text.
    """
    if not content.strip():
        raise UserError(f"{where}: the file is empty; fetch it again")
    start = content[:64].decode("utf-8-sig", errors="replace").lstrip()
    for mark, what in _NO_TABLE.items():
        if start.lower().startswith(mark.lower()):
            raise UserError(
                f"{where}: holds {what} ({start[:40]!r}), not the data; check the address, and fetch it again"
            )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise UserError(f"{where}: line {line} is not UTF-8 ({byte}); save the file as UTF-8") from error
    if not text.strip():  # but for a byte order mark, or blanks that ASCII lacks
        raise UserError(f"{where}: the file is empty; fetch it again")
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise UserError(f"{where}: line {line} holds a NUL character; save the file as UTF-8 text")
    return text


def read_delimited(
    content: bytes, where: str, columns: Sequence[str], delimiter: str = ",", closed: bool = False
) -> pd.DataFrame:
    """Read the rows of a csv or tsv file with a header, as text.

    A quoted cell may hold delimiters, line ends, and quotes that are doubled (RFC 4180) or follow a backslash. A
    cell that begins with a quote and isn't quoted as a whole, as `"red" car`, is taken as it is. Blank lines are passed
    over; a byte order mark is dropped. A csv file with semicolons between its cells is read too; the frame's
    `attrs["decimal"]` is then ",", as spreadsheets write numbers there.

    Args:
        content: the file's bytes.
        where: its name, for the message.
        columns: names that the header must have; further columns are kept.
        delimiter: one character between cells.
        closed: whether the last line must end with a line end. Without one, a number cut in the middle
            would still be read as a number.

    Returns:
        One row per record, every cell a string, in the file's order; the index `line` is the line number
        (from 1, the header's) on which a row starts.

    Raises:
        UserError: naming the file, the line and the fix, for whatever is not such a table.
    """
    text = decode(content, where)
    first = next(_records(text, where, delimiter), None)
    if first is None:  # nothing but an empty cell in quotes
        raise UserError(f"{where}: the file is empty; fetch it again")
    _, header = first
    if delimiter == "," and not set(columns) <= set(header):
        _, other = next(_records(text, where, ";"))
        if set(columns) <= set(other):  # as spreadsheets save csv where the comma is the decimal sign
            delimiter, header = ";", other
    _check_header(header, where, columns, delimiter)
    if closed and not text.endswith(("\n", "\r")):
        last = text.rstrip("\n").count("\n") + 1
        raise UserError(
            f"{where}: line {last}, the last, has no line end, so the file may be cut off; fetch it again "
            "(or add the line end, if the row is whole)"
        )
    lines, rows = [], []
    for line, row in _records(text, where, delimiter):
        if len(row) != len(header):
            raise UserError(
                f"{where}: line {line} has {len(row)} cells, the header has {len(header)}; "
                "fetch the file again if it was cut off, or put quotes around a cell that holds "
                f"{delimiter!r} or a line end"
            )
        lines.append(line)
        rows.append(row)
    if len(rows) < 2:
        raise UserError(f"{where}: a header and no rows; fetch the file again")
    table = pd.DataFrame(rows[1:], columns=header, index=pd.Index(lines[1:], name="line"), dtype=object)
    table.attrs["decimal"] = "," if delimiter == ";" else "."
    return table


def _records(text: str, where: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Split a text into records, each with the line that it starts on; blank lines are passed over."""
    between = re.escape(delimiter)
    ends = rf"(?={between}|\r\n?|\n|\Z)"
    cell = re.compile(
        rf'"(?P<doubled>(?:[^"]|"")*+)"{ends}|"(?P<escaped>(?:[^"\\]|\\.)*+)"{ends}|(?P<plain>[^{between}\r\n]*+)',
        re.S,
    )
    row: list[str] = []
    place, line, start = 0, 1, 1
    while place < len(text) or row:
        found = cell.match(text, place)
        assert found is not None  # a plain cell may be empty
        value, kind = found[found.lastgroup or "plain"], found.lastgroup
        if kind == "plain" and value.startswith('"') and value.count('"') == 1:
            raise UserError(
                f"{where}: a quote that opens in the row on line {start} is never closed; close it, or fetch "
                "the file again if it was cut off"
            )
        if kind == "doubled":
            value = value.replace('""', '"')
        elif kind == "escaped":
            value = re.sub(r"\\(.)", r"\1", value, flags=re.S)
        row.append(value)
        line += len(re.findall(r"\r\n?|\n", found[0]))
        place = found.end()
        if text.startswith(delimiter, place):
            place += 1
            continue
        if row != [""]:
            yield start, row
        row = []
        place += 2 if text.startswith("\r\n", place) else 1
        line += 1
        start = line


def _check_header(header: list[str], where: str, columns: Sequence[str], delimiter: str) -> None:
    for other, name in {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}.items():
        if len(header) == 1 and len(columns) and header[0] not in columns and other in header[0]:
            raise UserError(
                f"{where}: cells are separated by {name} ({header[0][:60]!r}), expected {delimiter!r}; "
                f"save it with {delimiter!r} between cells"
            )
    if again := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(f"{where}: columns {short(again)} are duplicates in the header; rename or remove one")
    if missing := [name for name in columns if name not in header]:
        raise UserError(
            f"{where}: no column {', '.join(missing)}, the file has {listed(header)}; "
            "rename the column that holds it, or fetch the file again"
        )
