"""The reader of tidy tables: what it takes, what it makes of names and gaps, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.core.outputs import Output
from promptroute.core.rows import Prompt, Score, check
from promptroute.io.published import check_same_prompts
from promptroute.io.tidy import TableScore, TidyTable, key_of
from promptroute.prompts.published import TidyPrompts
from promptroute.runtime.uses import table_facts

TABLES = Path(__file__).parents[2].parent / "shared" / "data" / "tables"
PROMPTS = "prompt_id,set,prompt\np1,A,a red car\np2,B,two dogs\n"
SCORES = "prompt_id,model,people,judge\np1,SDXL 1.0,4,0.5\np2,SDXL 1.0,3,1\np1,flux,2,0\np2,flux,5,0.25\n"
PEOPLE = Output("score", "people")
Made = Callable[..., TidyTable]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Write a table, and give it: (scores=…, prompts=…, settings…)."""

    def make(scores: str = SCORES, prompts: str = PROMPTS, **settings: Any) -> TidyTable:
        (tmp_path / "p.csv").write_text(prompts)
        (tmp_path / "s.csv").write_text(scores)
        return TidyTable(**{"prompts": f"{tmp_path}/p.csv", "scores": f"{tmp_path}/s.csv", **settings})

    return make


class TestReads:
    def test_models_and_scores(self, made: Made) -> None:
        table = made(lower_is_better=["judge"])
        assert table.models() == {
            "sdxl-1-0": {"label": "SDXL 1.0", "stem": "SDXL 1.0"},
            "flux": {"label": "flux", "stem": "flux"},
        }
        scorers = {name: build(section, name, TableScore) for name, section in table.scorers().items()}
        assert {name: one.outputs[0].higher_is_better for name, one in scorers.items()} == {
            "people": True,
            "judge": False,
        }
        assert table.label() == "s.csv"

    def test_rows(self, made: Made) -> None:
        table = made()
        prompts, files = table.prompt_rows()
        check(prompts, Prompt, "prompts")
        assert prompts["set"].to_list() == ["A", "B"] and [file.rows for file in files] == [2]
        read = table.read("people", PEOPLE, "flux")
        check(read.scores, Score, "scores")
        check_same_prompts(read, prompts, whole=True)
        assert read.scores["value"].to_list() == [2, 5] and (read.scores["images"] == 1).all()
        assert read.rows["line"].to_list() == [4, 5]

    def test_facts(self, made: Made) -> None:
        scores = "prompt,model,people,seconds,dollars,images\na red car,m,4,1,0.02,3\ntwo dogs,m,3,2,0.04,4\n"
        table = made(scores, "prompt\na red car\ntwo dogs\n")
        assert table.models()["m"]["profile"] == {"seconds": 1.5, "dollars": pytest.approx(0.03)}
        read = table.read("people", PEOPLE, "m")
        assert read.scores["seconds"].to_list() == [1, 2] and read.scores["images"].to_list() == [3, 4]
        prompts, _ = TidyPrompts(table=table).read()
        assert prompts["prompt_id"].to_list() == ["T0001", "T0002"] and set(prompts["set"]) == {"p"}

    def test_parquet_equals_csv(self, made: Made, tmp_path: Path) -> None:
        table = made()
        for name, text in (("p", "p.csv"), ("s", "s.csv")):
            pd.read_csv(tmp_path / text).to_parquet(tmp_path / f"{name}.parquet")
        other = TidyTable(prompts=f"{tmp_path}/p.parquet", scores=f"{tmp_path}/s.parquet")
        assert other.models() == table.models()
        for stem in ("flux", "SDXL 1.0"):
            pd.testing.assert_frame_equal(
                other.read("people", PEOPLE, stem).scores, table.read("people", PEOPLE, stem).scores
            )

    def test_other_folder(self, made: Made, tmp_path: Path) -> None:
        table = made()
        (tmp_path / "moved").mkdir()
        for name in ("p.csv", "s.csv"):
            (tmp_path / name).rename(tmp_path / "moved" / name)
        assert len(table.at(tmp_path / "moved").read("people", PEOPLE, "flux").rows) == 2

    def test_first_column_is_quality(self, made: Made, tmp_path: Path) -> None:
        made()
        section = {"_target_": TidyTable.class_path(), "prompts": "p.csv", "scores": "s.csv"}
        assert table_facts(section, tmp_path)["quality"] == {"people": {"score": 1.0}}
        found = table_facts({**section, "columns": ["judge"]}, tmp_path)
        assert found["quality"] == {"judge": {"score": 1.0}} and list(found["scorers"]) == ["judge"]
        assert table_facts({**section, "scores": "???"}, tmp_path)["models"] == {}

    @pytest.mark.parametrize(
        ("name", "key"),
        [("SDXL 1.0 (base)", "sdxl-1-0-base"), ("a_b-C", "a_b-c"), ("--é--", ""), ("7B", "7b")],
    )
    def test_key(self, name: str, key: str) -> None:
        assert key_of(name, "-") == key


GAP = SCORES.replace("p2,flux,5,0.25", "p2,flux,,0.25")


class TestMissing:
    @pytest.mark.parametrize("scores", [GAP, SCORES.replace("p2,flux,5,0.25\n", "")], ids=["cell", "row"])
    def test_refused(self, made: Made, scores: str) -> None:
        with pytest.raises(UserError, match=r"s\.csv: scores are missing: of 2 prompts flux 1; .*drop_model"):
            made(scores).models()

    def test_drop_model(self, made: Made) -> None:
        table = made(GAP, missing="drop_model")
        assert list(table.models()) == ["sdxl-1-0"]
        assert table.label() == "s.csv, without flux, which lack scores"

    def test_no_model_left(self, made: Made) -> None:
        scores = GAP.replace("p1,SDXL 1.0,4,0.5", "p1,SDXL 1.0,,0.5")
        with pytest.raises(UserError, match=r'SDXL 1\.0 1, flux 1; add them, set missing to "drop_prompt"'):
            made(scores, missing="drop_model").models()

    def test_drop_prompt(self, made: Made) -> None:
        table = made(GAP, missing="drop_prompt")
        read = table.read("people", PEOPLE, "flux")
        assert list(table.models()) == ["sdxl-1-0", "flux"]
        assert read.scores["prompt_id"].to_list() == ["p1"]
        check_same_prompts(read, table.prompt_rows()[0], whole=True)

    def test_complete_column(self, made: Made) -> None:
        assert len(made(GAP, columns=["judge"]).models()) == 2


def spoilt(*pairs: str) -> dict[str, str]:
    """Give `SCORES` with the first of each two texts replaced by the second."""
    scores = SCORES
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        scores = scores.replace(old, new)
    return {"scores": scores}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "empty file": ({"scores": ""}, "the file is empty; fetch it again"),
    "no rows": ({"scores": "prompt_id,model,people\n"}, "a header and no rows; fetch the file again"),
    "no model": (spoilt(",model,", ",system,"), "no column model, the file has prompt_id, system, people, judge; rename the column that holds it, or fetch the file again"),
    "no prompt": (spoilt("prompt_id", "id"), "no column prompt_id or prompt, the file has id, model, people, judge; rename the column that holds it"),
    "no score": ({"scores": "prompt_id,model,seconds\np1,flux,1\n"}, "no column of scores, only prompt_id, model, seconds; add one"),
    "two columns of one name": (spoilt("judge", "people"), "columns ['people'] are duplicates in the header; rename or remove one"),
    "two scores with one key": (spoilt("judge", "People"), "scores 'people' and 'People' would both be people; rename one of them"),
    "unknown column": ({"columns": ["beauty"]}, "no score beauty, the file has people, judge; name one of these in columns and lower_is_better"),
    "a fact as score": ({"columns": ["model"]}, "no score model, the file has people, judge; name one of these in columns and lower_is_better"),
    "duplicate cell": ({"scores": SCORES + "p1,flux,2,0\n"}, "line 6: prompt_id 'p1', model 'flux' stands already in s.csv: line 4 (1 such row(s)); remove one of the two"),
    "unknown prompt": ({"scores": SCORES + "p9,flux,2,0\n"}, "line 6: prompt_id 'p9' is not in p.csv (1 such row(s)); add the prompt there, or remove the row"),
    "text in a score": (spoilt("p1,flux,2", "p1,flux,good"), "line 4: people 'good' is not a finite number; correct it, leave the cell empty, or name in columns which are scores"),
    "not finite": (spoilt("p1,flux,2", "p1,flux,inf"), "line 4: people 'inf' is not a finite number;"),
    "negative time": (spoilt("judge", "seconds", "p1,flux,2,0", "p1,flux,2,-1"), "line 4: seconds is -1; expected a number above 0"),
    "half an image": (spoilt("judge", "images"), "line 2: images is 0.5; expected 1 or more"),
    "images beyond counting": ({"scores": "prompt_id,model,people,images\np1,m,4,1e300\np2,m,3,1\n"}, "line 2: images is 1e+300; expected a whole number up to 1,000,000"),
    "two models with one key": (spoilt("flux", "sdxl-1-0"), "models 'SDXL 1.0' and 'sdxl-1-0' would both be sdxl-1-0; rename one of them"),
    "a model without a key": (spoilt("flux", "模型"), "model '模型' has no letter a to z and no digit, so no key; rename it"),
    "an empty model": (spoilt("flux", " "), "line 4: model ' ' is empty or no text; fill it in, or remove the row"),
}  # fmt: skip
BAD_PROMPTS: dict[str, tuple[dict[str, Any], str]] = {
    "a duplicate id": ({"prompts": PROMPTS.replace("p2", "p1")}, "line 3: prompt_id 'p1' stands already in p.csv: line 2 (1 such row(s)); give every prompt an id of its own"),
    "an empty prompt": ({"prompts": PROMPTS.replace("two dogs", "")}, "line 3: prompt '' is empty or no text; fill it in, or remove the row"),
    "a text for two prompts": ({"prompts": "prompt\nx\nx\n", "scores": "prompt,model,people\nx,m,1\n"}, "line 3: prompt 'x' stands already in p.csv: line 2 (1 such row(s)); name prompts in the scores by prompt_id"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "case"), [*(("s.csv", c) for c in BAD), *(("p.csv", c) for c in BAD_PROMPTS)]
)
def test_bad_input(made: Made, file: str, case: str) -> None:
    given, message = (BAD if file == "s.csv" else BAD_PROMPTS)[case]
    with pytest.raises(UserError) as caught:
        made(**given).models()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_bad_file(made: Made, tmp_path: Path) -> None:
    table = made()
    for name, message in (
        ("none.csv", f"{tmp_path}/none.csv: no such file"),
        ("x.parquet", "x.parquet: not a readable parquet file"),
        (
            "x.xlsx",
            f"{tmp_path}/x.xlsx: a file ending in '.xlsx' can't be read; save it as csv, tsv or parquet",
        ),
    ):
        if name.startswith("x"):
            (tmp_path / name).write_text(SCORES)
        with pytest.raises(UserError, match=message.replace("(", r"\(")):
            TidyTable(prompts=table.prompts, scores=f"{tmp_path}/{name}").models()


def test_stale_parameters(made: Made) -> None:
    for scorer, stem in (("people", "gone"), ("gone", "flux")):
        with pytest.raises(UserError, match="compose the parameters again"):
            made().read(scorer, PEOPLE, stem)
    with pytest.raises(UserError, match="line 2: people 4 is outside of 0 to 1, what Share ranges over"):
        made().read("people", Output("score", "Share", 0, 1), "SDXL 1.0")


class TestRealTables:
    @pytest.mark.parametrize(
        ("name", "settings", "models", "scores"),
        [
            ("evalmi50k", {}, 24, ["perception", "correspondence", "yes"]),
            ("tiif", {"missing": "drop_model"}, 20, ["gpt4o", "qwenvl"]),
            ("tifa160", {"columns": ["human"]}, 5, ["human"]),
        ],
    )
    def test_reads(self, name: str, settings: dict[str, Any], models: int, scores: list[str]) -> None:
        if not TABLES.is_dir():
            pytest.skip(f"the tables are not at {TABLES}")
        table = TidyTable(
            prompts=f"{TABLES}/{name}.prompts.csv", scores=f"{TABLES}/{name}.scores.csv", **settings
        )
        assert len(table.models()) == models and list(table.scorers()) == scores
        raw = pd.read_csv(f"{TABLES}/{name}.scores.csv")
        for stem in [facts["stem"] for facts in table.models().values()][:2]:
            read = table.read(scores[0], Output("score", scores[0]), stem)
            check_same_prompts(read, table.prompt_rows()[0], whole=True)
            own = raw[raw["model"] == stem].set_index("prompt_id")[scores[0]]
            assert read.scores["value"].to_list() == own[read.scores["prompt_id"]].to_list()
