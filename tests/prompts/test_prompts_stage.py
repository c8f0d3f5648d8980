"""Every prompt set, alone and together, and files of one's own, through the `sample` stage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from promptroute.core.rows import Prompt
from promptroute.io.tables import read_table
from tests.stages.small import run

Sample = Callable[..., pd.DataFrame]
SETS = {"ms_coco": "MS", "ln_coco": "LN", "drawbench": "DRAW", "partiprompts": "PP", "diffusiondb": "DIFF"}


@pytest.fixture
def sampled(
    compose: Callable[..., dict[str, Any]], cems_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Sample:
    """(option, *overrides) → the prompts that the stage writes."""

    def sample(option: str, *overrides: str) -> pd.DataFrame:
        monkeypatch.setenv("PROMPTROUTE_CEMS", str(cems_root))
        params = {**compose(f"+prompts={option}", *overrides), "seed": 0}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        for stage in (*(("read", name) for name in params["prompts"]["sources"]), ("sample",)):
            ran = run(tmp_path, *stage)
            assert ran.status == 0, ran.err
        return read_table(tmp_path / "data" / "prompts.parquet", Prompt)

    return sample


@pytest.mark.parametrize("option", SETS)
def test_each_set_alone(sampled: Sample, option: str) -> None:
    taken = sampled(option, "prompts.n=20", "prompts.seed=3")
    assert len(taken) == 20 and set(taken["set"]) == {SETS[option]}
    again = sampled(option, "prompts.n=20", "prompts.seed=3")
    assert again["prompt"].tolist() == taken["prompt"].tolist()
    assert (
        sampled(option, "prompts.n=30", "prompts.seed=3")["prompt"][:20].tolist() == taken["prompt"].tolist()
    )
    assert sampled(option, "prompts.n=20", "prompts.seed=4")["prompt"].tolist() != taken["prompt"].tolist()


def test_five_sets_in_proportion(sampled: Sample) -> None:
    taken = sampled("paper", "prompts.n=500")
    assert taken["set"].value_counts().to_dict() == pytest.approx(
        {"MS": 313, "LN": 86, "DIFF": 82, "PP": 16, "DRAW": 2}, abs=3
    )


def test_nsfw_filter(sampled: Sample, cems_root: Path) -> None:
    table = pd.read_csv(cems_root / "Prompt_Datasets" / "DiffusionDB_sample_seed42.csv")
    decent = table[(table["image_nsfw"] < 0.2) & (table["prompt_nsfw"] < 0.1)]
    assert 0 < len(decent) < len(table)
    found = sampled(
        "diffusiondb",
        "++prompts.sources.diffusiondb.below={image_nsfw: 0.2, prompt_nsfw: 0.1}",
        "+prompts.sources.diffusiondb.duplicates=keep",
    )
    assert len(found) == len(decent) and set(found["prompt"]) == set(decent["prompt"].astype(str))


TEXTS = ["a dog", "a dog", 'a "red" cat, 2', "x", "one two three four"]
WRITERS: dict[str, Callable[[Path], Any]] = {
    "csv": lambda path: pd.DataFrame({"prompt": TEXTS}).to_csv(path, index=False),
    "tsv": lambda path: pd.DataFrame({"prompt": TEXTS}).to_csv(path, index=False, sep="\t"),
    "jsonl": lambda path: path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS)),
    "parquet": lambda path: pd.DataFrame({"prompt": TEXTS}).to_parquet(path),
    "txt": lambda path: path.write_text("\n".join(TEXTS) + "\n"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_own_file_and_filters(sampled: Sample, kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path / f"my.{kind}")
    path = f"prompts.sources.file.path=my.{kind}"
    found = sampled("file", path)
    assert dict(zip(found["prompt"], found["count"], strict=True)) == {
        "a dog": 2, 'a "red" cat, 2': 1, "x": 1, "one two three four": 1
    }  # fmt: skip
    assert (
        sampled("file", path, "+prompts.sources.file.duplicates=keep")["prompt"].tolist().count("a dog") == 2
    )
    short = sampled("file", path, "+prompts.sources.file.min_words=2", "+prompts.sources.file.max_words=3")
    assert short["prompt"].tolist() == ["a dog"]
