"""The reader of published performance tables, on the real table and on everything that can be wrong."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from promptroute.core.errors import UserError
from promptroute.core.outputs import Output
from promptroute.core.rows import Prompt, Score, check
from promptroute.io.published import PublishedTable, TableRead, check_same_prompts
from promptroute.io.sources import Source
from promptroute.prompts.published import PublishedPrompts

NIMA = ("nima", Output("mean", "NIMA", 1.0, 10.0))
CLIP = ("clip", Output("score", "CLIP score", 0.0, 100.0))
STEMS = ("SDXL-Turbo", "SD-Turbo", "amused", "TAESD")
FILES = {"nima": STEMS, "clip": STEMS}
VARIABLE = "PROMPTROUTE_TEST_TABLE"

HEADER = "dataset_id,prompt_id,prompt,mean_time,nima_score\n"
ROWS = ["DRAW,DRAW7,A red car.,0.5,5.25\n", 'PP,PP3,"None, or ""null""\non two lines",0.25,4.5\n']
BASE_HEADER = "prompt_id,prompt,nima_score\n"
BASE_ROWS = ["MS1,A dog,6.5\n", "LN2,A long story,3.5\n"]


def augmented(stem: str, scorer: str = "nima") -> str:
    return f"Model_Perf/aug_10k/{scorer}_score_with_time_{stem}.csv"


def base(stem: str, scorer: str = "nima") -> str:
    return f"Model_Perf/{scorer}_score/{scorer}_score_with_time_{stem}.csv"


def put(root: Path, path: str, text: str | bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.fixture
def table(tmp_path: Path) -> PublishedTable:
    """Two models' NIMA scores of two prompts, without a base part."""
    for stem in ("A", "B"):
        put(tmp_path, augmented(stem), HEADER + "".join(ROWS))
    return PublishedTable(source=Source(address=str(tmp_path)), files={"nima": ("A", "B")})


@pytest.fixture
def real(cems_root: Path) -> PublishedTable:
    return PublishedTable(source=Source(address=str(cems_root)), files=FILES)


def refusal(table: PublishedTable, text: str | bytes, path: str = augmented("A")) -> str:
    put(Path(table.source.root), path, text)
    with pytest.raises(UserError) as caught:
        table.read(*NIMA, "A")
    return str(caught.value)


# The real table


@pytest.mark.parametrize("scorer", [NIMA, CLIP], ids=["nima", "clip"])
def test_table_equals_pandas(real: PublishedTable, cems_root: Path, scorer: tuple[str, Output]) -> None:
    prompts, _ = PublishedPrompts(table=real, scorer="nima", stem="SDXL-Turbo").read()
    for stem in STEMS:
        read = real.read(*scorer, stem)
        check_same_prompts(read, prompts, whole=True)
        check(read.scores, Score, stem)
        raw = pd.read_csv(cems_root / augmented(stem, scorer[0]), keep_default_na=False)
        assert read.scores["prompt_id"].to_list() == raw["prompt_id"].to_list()
        assert read.rows["prompt"].to_list() == raw["prompt"].to_list()
        assert read.rows["set"].to_list() == raw["dataset_id"].to_list()
        assert abs(read.scores["value"] - raw[f"{scorer[0]}_score"]).max() < 1e-12
        assert abs(read.scores["seconds"] - raw["mean_time"]).max() < 1e-12
        assert (read.scores["images"] == 3).all() and read.scores["seed"].isna().all()


def test_prompts_unchanged(real: PublishedTable, cems_root: Path) -> None:
    source = PublishedPrompts(table=real, scorer="nima", stem="SDXL-Turbo")
    prompts, files = source.read()
    check(prompts, Prompt, "prompts")
    assert source.has_own_ids
    assert prompts["set"].value_counts().to_dict() == {"DIFF": 6518, "PP": 1329, "DRAW": 153}
    assert prompts["prompt_id"].iloc[0] == "DRAW96"
    assert prompts["prompt"].duplicated(keep=False).sum() == 112
    assert (prompts["count"] == 1).all()
    assert [(file.path, file.rows) for file in files] == [(augmented("SDXL-Turbo"), 8000)]


@pytest.mark.parametrize("below", ["", "Model_Perf", "Model_Perf/aug_10k"])
def test_any_folder(real: PublishedTable, cems_root: Path, below: str) -> None:
    there = PublishedTable(source=Source(address="https://nowhere.invalid"), files=FILES).at(
        cems_root / below
    )
    read, expected = there.read(*NIMA, "TAESD"), real.read(*NIMA, "TAESD")
    pd.testing.assert_frame_equal(read.scores, expected.scores)
    assert read.files[0].sha256 == expected.files[0].sha256


def test_address_equals_folder(
    real: PublishedTable, cems_root: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = real.model_copy(update={"source": Source(address=serve(cems_root))})
    far = table.read(*CLIP, "amused")
    monkeypatch.setenv(VARIABLE, str(cems_root))
    near = table.read(*CLIP, "amused")
    pd.testing.assert_frame_equal(far.rows, near.rows)
    assert far.files == near.files and far.sources_json() == near.sources_json()


# The two parts


def with_base(table: PublishedTable, *stems: str) -> None:
    for stem in stems:
        put(Path(table.source.root), base(stem), BASE_HEADER + "".join(BASE_ROWS))


def test_base_part_first(table: PublishedTable) -> None:
    with_base(table, "A", "B")
    read = table.read(*NIMA, "B")
    assert read.rows["prompt_id"].to_list() == ["MS1", "LN2", "DRAW7", "PP3"]
    assert read.rows["set"].to_list() == ["MS", "LN", "DRAW", "PP"]
    assert read.scores["value"].to_list() == [6.5, 3.5, 5.25, 4.5]
    assert [math.isnan(one) for one in read.scores["seconds"]] == [True, True, False, False]
    assert [(file.path, file.rows) for file in read.files] == [(base("B"), 2), (augmented("B"), 2)]
    assert read.prompts["prompt"].iloc[3] == 'None, or "null"\non two lines'
    check(read.scores, Score, "B")
    check(read.prompts, Prompt, "B")


def test_times_of_base_part(table: PublishedTable) -> None:
    for stem in ("A", "B"):
        put(
            Path(table.source.root), base(stem), "prompt_id,prompt,mean_time,nima_score\nMS1,A dog,0.75,6.5\n"
        )
    assert table.read(*NIMA, "A").scores["seconds"].to_list() == [0.75, 0.5, 0.25]


@pytest.mark.parametrize(("has", "lost"), [("A", "B"), ("B", "A")])
def test_base_part_of_some_models(table: PublishedTable, has: str, lost: str) -> None:
    with_base(table, has)
    with pytest.raises(UserError) as caught:
        for stem in ("A", "B"):
            table.read(*NIMA, stem)
    assert str(caught.value) == (
        f"{table.source.root}/{base(lost)}: no such file, although {base(has)} is there; the base part must "
        "be complete, so add the file, or remove the base part of every scorer and model"
    )


def test_base_part_of_one_scorer(table: PublishedTable) -> None:
    with_base(table, "A", "B")
    both = table.model_copy(update={"files": {"nima": ("A", "B"), "clip": ("A", "B")}})
    with pytest.raises(UserError, match=f"{base('A', 'clip')}: no such file, although {base('A')} is there"):
        both.read(*CLIP, "A")


def test_base_part_beside_aug(table: PublishedTable, tmp_path: Path) -> None:
    with_base(table, "A", "B")
    assert len(table.at(tmp_path / "Model_Perf").read(*NIMA, "A").rows) == 4
    shutil.rmtree(tmp_path / "Model_Perf" / "nima_score")
    assert len(table.at(tmp_path / "Model_Perf").read(*NIMA, "A").rows) == 2


# What can be wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("nima", "clip") + ROWS[0], "no column nima_score, the file has dataset_id, prompt_id, prompt, mean_time, clip_score;"),
        (HEADER + "PP,PP4,x,0.5,nan\n", "line 2: nima_score 'nan' is not a finite number;"),
        (HEADER + "PP,PP4,x,0.5,-inf\n", "line 2: nima_score '-inf' is not a finite number;"),
        (HEADER + "PP,PP4,x,0.5,1_0\n", "line 2: nima_score '1_0' is not a finite number;"),
        (HEADER + "PP,PP4,x,0.5,0.5\n", "line 2: nima_score '0.5' is below 1, but expected"),
        (HEADER + "PP,PP4,x,soon,5\n", "line 2: mean_time 'soon' is not a finite number;"),
        (HEADER + "".join(ROWS) + "PP,PP3,again,0.5,5\n", f"line 5: prompt_id 'PP3' stands already in {augmented('A')}, line 3;"),
        (HEADER + 'PP,PP4,"x,0.5,5\n' + ROWS[0], "a quote that opens in the row on line 2 is never closed;"),
        (HEADER.encode() + b"PP,PP4,caf\xe9,0.5,5\n", "line 2 is not UTF-8 (byte 0xe9);"),
        ("<!DOCTYPE html>\n<html><title>Page not found</title>", "holds an HTML page ("),
    ],
)  # fmt: skip
def test_bad_file(table: PublishedTable, text: str | bytes, message: str) -> None:
    """More than what `tests/bad_inputs` gives to the stage."""
    assert refusal(table, text).startswith(f"{augmented('A')}: {message}")


def test_prompt_id_in_both_parts(table: PublishedTable) -> None:
    with_base(table, "B")
    message = refusal(table, BASE_HEADER + "DRAW7,A red car.,6\n", base("A"))
    assert message.startswith(
        f"{augmented('A')}: line 2: prompt_id 'DRAW7' stands already in {base('A')}, line 2;"
    )


def test_missing_file(table: PublishedTable) -> None:
    with pytest.raises(UserError) as caught:
        table.read(*NIMA, "C")
    assert str(caught.value) == (
        f"{table.source.root}/{augmented('C')}: no such file ({table.source.root}/Model_Perf/aug_10k holds "
        "nima_score_with_time_A.csv, nima_score_with_time_B.csv); check the name"
    )


def test_no_table_refused(table: PublishedTable, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    put(tmp_path, "other/notes.txt", "x")
    with pytest.raises(UserError) as caught:
        table.at(tmp_path / "other")
    assert str(caught.value) == (
        f"{tmp_path}/other: no performance table, the folder holds notes.txt; expected {augmented('A')}, or "
        "that file without its folders"
    )
    with pytest.raises(
        UserError, match="nowhere: no such folder; name one that holds Model_Perf/aug_10k/nima"
    ):
        table.at(tmp_path / "nowhere")


def test_web_page_refused(table: PublishedTable, serve: Callable[..., str]) -> None:
    put(Path(table.source.root), augmented("A"), "<html><body>Sign in</body></html>")
    far = table.model_copy(update={"source": Source(address=serve(Path(table.source.root)))})
    with pytest.raises(
        UserError, match=r"nima_score_with_time_A\.csv: holds an HTML page .*check the address"
    ):
        far.read(*NIMA, "A")


# The same prompts everywhere


@pytest.fixture
def read(table: PublishedTable) -> TableRead:
    return table.read(*NIMA, "A")


def test_order_of_rows(read: TableRead) -> None:
    check_same_prompts(read, read.prompts.iloc[::-1], whole=True)


def test_sample_of_table(read: TableRead) -> None:
    check_same_prompts(read, read.prompts.head(1))
    with pytest.raises(UserError) as caught:
        check_same_prompts(read, read.prompts.head(1), whole=True)
    assert str(caught.value) == (
        f"{augmented('A')}: line 3: prompt_id 'PP3' is not among the study's 1 prompts (1 such row(s)); "
        "remove the row, or fetch all files again, from one version of the table"
    )


def test_missing_prompt_refused(read: TableRead) -> None:
    prompts = pd.concat([read.prompts, pd.DataFrame({"prompt_id": ["PP9"], "prompt": ["A cat"]})])
    with pytest.raises(UserError) as caught:
        check_same_prompts(read, prompts)
    assert str(caught.value) == (
        f"{augmented('A')}: no row for prompt_id 'PP9' ('A cat'), 1 of 3 missing; sample the study's prompts "
        "from the same table, or fetch the file again"
    )


def test_differing_texts_refused(table: PublishedTable, read: TableRead) -> None:
    put(Path(table.source.root), augmented("B"), HEADER + ROWS[0] + ROWS[1].replace("two", "2"))
    with pytest.raises(UserError) as caught:
        check_same_prompts(table.read(*NIMA, "B"), read.prompts)
    assert str(caught.value) == (
        f"{augmented('B')}: line 3: the prompt of 'PP3' is 'None, or \"null\"\\non 2 lines', but 'None, or "
        "\"null\"\\non two lines' in the file that the study's prompts were taken from (1 such row(s)); "
        "fetch both again, from one version of the table"
    )
