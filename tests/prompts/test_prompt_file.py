"""Prompt files: the five real sets, own files of every format, filters, and what can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.core.rows import Prompt, check
from promptroute.io.sources import Source
from promptroute.prompts.prompt_file import PromptFile, PromptFolder
from promptroute.prompts.sampling import sample
from promptroute.prompts.source import PromptSource
from promptroute.prompts.statistics import statistics

TRICKY = ["None", "null", 'say "hi", twice', "two\nlines", "naïve 猫 \u2028 🐱", " spaces "]


def write(folder: Path, format: str, texts: list[str]) -> PromptFile:
    path = folder / f"own.{format}"
    frame = pd.DataFrame({"prompt": texts})
    match format:
        case "csv" | "tsv":
            frame.to_csv(path, index=False, sep="," if format == "csv" else "\t")
        case "jsonl":
            path.write_text("".join(json.dumps({"prompt": text, "other": 1}) + "\n" for text in texts))
        case "parquet":
            frame.to_parquet(path)
        case _:
            path.write_text("\n".join(texts) + "\n\n", encoding="utf-8")
    return PromptFile(path=str(path), set="OWN")


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "parquet", "txt"])
def test_formats_agree(tmp_path: Path, format: str) -> None:
    texts = [text for text in TRICKY if format != "txt" or "\n" not in text]
    source = write(tmp_path, format, texts)
    rows, (file,) = source.read()
    check(rows, Prompt, format)
    assert rows["prompt"].to_list() == texts
    assert rows["prompt_id"].to_list() == [f"OWN000000{i}" for i in range(1, len(texts) + 1)]
    assert file.rows == len(texts) and file.path == source.path


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "csv", ["a"])
    monkeypatch.chdir(tmp_path)
    assert len(PromptFile(path="own.csv", set="OWN").read()[0]) == 1


def test_duplicates_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("key,prompt\nx,a dog\ny,a cat\nz,a dog\nw,A dog\n")
    merged, _ = PromptFile(path=str(path), set="OWN", id="key").read()
    assert merged[["prompt_id", "prompt", "count"]].to_numpy().tolist() == [
        ["x", "a dog", 2],
        ["y", "a cat", 1],
        ["w", "A dog", 1],
    ]
    kept, _ = PromptFile(path=str(path), set="OWN", id="key", duplicates="keep").read()
    assert kept["prompt_id"].to_list() == ["x", "y", "z", "w"] and (kept["count"] == 1).all()


def test_filters(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("prompt,nsfw\none,0.1\ntwo words,0.5\nnow three words,0.2\nfour words at last,0\n")
    source = PromptFile(path=str(path), set="OWN", min_words=2, max_words=3)
    assert source.read()[0]["prompt"].to_list() == ["two words", "now three words"]
    rows, (file,) = PromptFile(path=str(path), set="OWN", below={"nsfw": 0.5}).read()
    assert rows["prompt"].to_list() == ["one", "now three words", "four words at last"]
    assert rows["prompt_id"].to_list() == ["OWN0000001", "OWN0000002", "OWN0000003"]
    assert file.rows == 4
    with pytest.raises(UserError, match=r"own\.csv: the filters leave none of its 4 prompts; loosen them"):
        PromptFile(path=str(path), set="OWN", min_words=9).read()


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", b"prompt\nx\n", {"id": "key"}, "no column key, the file has prompt; rename"),
        ("a.csv", b"prompt\nx\ncaf\xe9\n", {}, "line 3 is not UTF-8 (byte 0xe9); save the file as UTF-8"),
        ("a.txt", b"x\ncaf\xe9\n", {}, "line 2 is not UTF-8 (byte 0xe9); save the file as UTF-8"),
        ("a.txt", b"\n \n", {}, "the file is empty; fetch it again"),
        ("a.txt", "\u00a0\n".encode(), {}, "the file is empty; fetch it again"),
        ("a.txt", b"x\n", {"id": "key"}, "a txt file has no columns; leave out id and below, or use csv"),
        ("a.csv", b'prompt,b\nx,1\n"y,2\n', {}, "a quote that opens in the row on line 3 is never closed;"),
        ("a.csv", b"prompt,b\nx,1\ny\n", {}, "line 3 has 1 cells, the header has 2;"),
        ("a.csv", b"<html><p>no</p></html>", {}, "holds an HTML page ('<html><p>no</p></html>'), not the data;"),
        ("a.jsonl", b'{"prompt": "x", "prompt": "y"}\n', {}, "line 1 is not JSON (a key is a duplicate); write one object a line"),
        ("a.jsonl", b'{"prompt": null}\n', {}, "line 1: prompt None is not text; make it text, or remove the row"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    tmp_path: Path, name: str, content: bytes, options: dict[str, Any], message: str
) -> None:
    """More than what `tests/bad_inputs` gives to the stage."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        PromptFile(path=str(path), set="OWN", **options).read()
    assert str(caught.value).removeprefix("PromptFile: ").removeprefix(f"{path}: ").startswith(message)


def test_parquet_gap(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"prompt": ["x", None], "key": [1, 2]}).to_parquet(path)
    with pytest.raises(UserError, match=r"a\.parquet: row 2: prompt None is not text"):
        PromptFile(path=str(path), set="OWN").read()
    pd.DataFrame({"prompt": [], "key": []}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet: no rows; fetch the file again"):
        PromptFile(path=str(tmp_path / "b.parquet"), set="OWN").read()
    with pytest.raises(UserError, match=r"a\.parquet: no column text, the file has prompt, key; set text"):
        PromptFile(path=str(path), set="OWN", text="text").read()


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "x", "key": 7}\n')
    assert PromptFile(path=str(path), set="OWN", id="key").read()[0]["prompt_id"].to_list() == ["7"]


def test_missing_own_file(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("x")
    with pytest.raises(UserError) as caught:
        PromptFile(path=f"{tmp_path}/prompt.txt", set="OWN").read()
    assert str(caught.value) == (
        f"{tmp_path}/prompt.txt: no such file ({tmp_path} holds prompts.txt); check the name"
    )


# The published sets

# CEMS, Table 1: prompts, words per prompt (mean, std, min, max).
TABLE_1 = {
    "ms_coco": (31427, 10.46, 2.41, 6, 45),
    "ln_coco": (8573, 40.45, 18.75, 6, 181),
    "drawbench": (200, 11.68, 9.62, 1, 51),
    "partiprompts": (1632, 9.12, 7.34, 1, 67),
    "diffusiondb": (8168, 24.31, 16.10, 1, 217),
}


@pytest.fixture
def paper(
    compose: Callable[..., dict[str, Any]], cems_root: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The five sets as conf/prompts/paper.yaml describes them."""
    monkeypatch.setenv("PROMPTROUTE_CEMS", str(cems_root))
    sources = compose("+prompts=paper")["prompts"]["sources"]
    return {name: build(config, f"prompts.sources.{name}", PromptSource) for name, config in sources.items()}


def test_real_sets_of_table_1(paper: dict[str, PromptFile]) -> None:
    assert list(paper) == list(TABLE_1)
    for name, (prompts, mean, std, low, high) in TABLE_1.items():
        (found,) = statistics(paper[name].read()[0]).values()
        assert found["prompts"] == prompts
        assert found["words"]["mean"] == pytest.approx(mean, abs=0.02)
        # DiffusionDB's 16.072 is further from the paper's 16.10 than the others are.
        assert found["words"]["std"] == pytest.approx(std, abs=0.03 if name == "diffusiondb" else 0.01)
        assert (found["words"]["min"], found["words"]["max"]) == (low, high)
    assert statistics(paper["ms_coco"].read()[0])["MS"]["duplicates"] == 279
    assert statistics(paper["diffusiondb"].read()[0])["DIFF"]["duplicates"] == 69


EATEN = {
    "G I G G L E painted in thick colorful lettering as graffiti on a faded red brick wall with a splotch of "
    "exploding white paint.": '"G I G G L E" painted in thick colorful lettering as graffiti on a faded red brick '
    "wall with a splotch of exploding white paint."
}
"""A prompt of PartiPrompts whose quotes pandas takes for the file's: as pandas has it → as it is."""


def test_real_sets_equal_pandas(paper: dict[str, PromptFile], cems_root: Path) -> None:
    for source in paper.values():
        delimiter = "\t" if source.path.endswith("tsv") else ","
        raw = pd.read_csv(cems_root / source.path, sep=delimiter, keep_default_na=False)
        rows, _ = source.read()
        texts = raw[source.text].drop_duplicates().replace(EATEN)
        assert rows["prompt"].to_list() == texts.to_list()
        assert rows["count"].sum() == len(raw)


def test_five_sets_grow(paper: dict[str, PromptFile]) -> None:
    whole = sample(list(paper.values()))
    assert whole["count"].sum() == 50_000 and len(whole) == 50_000 - 279 - 69 - 1
    small = sample(list(paper.values()), n=1000)
    pd.testing.assert_frame_equal(small, whole.head(1000))
    shares = small["set"].value_counts(normalize=True) - whole["set"].value_counts(normalize=True)
    assert shares.abs().max() < 0.002
    assert [file["path"] for file in json.loads(whole.attrs["sources"])] == [
        one.path for one in paper.values()
    ]


def test_address_equals_file(
    paper: dict[str, PromptFile], cems_root: Path, serve: Callable[..., str]
) -> None:
    near, near_files = paper["partiprompts"].read()
    far = PromptFile(
        path="Prompt_Datasets/PartiPrompts.tsv",
        set="PP",
        text="Prompt",
        source=Source(address=serve(cems_root)),
    )
    rows, files = far.read()
    pd.testing.assert_frame_equal(rows, near)
    assert files == near_files


def test_diffusiondb_can_be_kept_decent(cems_root: Path) -> None:
    source = PromptFile(
        path="Prompt_Datasets/DiffusionDB_sample_seed42.csv",
        set="DIFF",
        source=Source(address=str(cems_root)),
        below={"image_nsfw": 0.5, "prompt_nsfw": 0.5},
    )
    raw = pd.read_csv(cems_root / source.path, keep_default_na=False)
    decent = raw[(raw["image_nsfw"] < 0.5) & (raw["prompt_nsfw"] < 0.5)]
    rows, _ = source.read()
    assert 0 < len(decent) < len(raw)
    assert rows["count"].sum() == len(decent)


@pytest.mark.parametrize(
    "text", ["\u200b", "\u2060 \ufeff", " \u3000", "\u3164", "\u115f\u1160", "\u2800", "\uffa0"]
)
def test_invisible_prompts_are_empty(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": text}) + "\n")
    with pytest.raises(UserError, match="line 1: prompt is empty, or shows nothing"):
        PromptFile(path=str(path)).read()


def test_digits_are_ascii(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,nsfw\nx,０.１\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2: nsfw '０.１' is not a number"):
        PromptFile(path=str(path), below={"nsfw": 0.5}).read()


@pytest.mark.parametrize("line", ["[" * 100_000, '{"prompt": ' + "[" * 100_000])
def test_deep_json(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "x"}\n' + line)
    with pytest.raises(UserError, match=r"a\.jsonl: line 2 is not JSON"):
        PromptFile(path=str(tmp_path / "a.jsonl")).read()


def test_parquet_values_beyond_python(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": ["x"], "nsfw": pa.array([2**62], pa.duration("s"))}), path)
    with pytest.raises(UserError, match="not a readable parquet file"):
        PromptFile(path=str(path), below={"nsfw": 0.5}).read()


def test_duplicate_parquet_columns(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["prompt", "prompt"]), path)
    with pytest.raises(UserError, match=r"of which \['prompt'\] are duplicates"):
        PromptFile(path=str(path)).read()


def test_folder_of_sets(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("prompt\nred square\n")
    (tmp_path / "labels.txt").write_text("a star\na circle\n")
    (tmp_path / "README.md").write_text("not prompts")
    rows, files = PromptFolder(path=str(tmp_path)).read()
    assert rows["set"].to_list() == ["LABELS", "LABELS", "TAGS"]
    assert [Path(file.path).name for file in files] == ["labels.txt", "tags.csv"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file of prompts"):
        PromptFolder(path=str(tmp_path / "empty")).read()
