"""Every stage on a small table, in this process: what each writes, worked out beside it with pandas."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.performance import performance
from promptroute.core.rows import Performance, Prompt
from promptroute.io.embeddings import read_embeddings
from promptroute.io.files import write_json
from promptroute.io.scores import read_scores, scores_folder, write_scores
from promptroute.io.tables import read_table
from promptroute.predictors.folder import load_predictor
from promptroute.router.router import Router
from promptroute.runtime.compose import compose_params
from tests.stages.small import SCORERS, STEMS, judge, params, path_of, run, run_chain, table, write_published

ROOT = Path(__file__).parents[2]
MODELS = list(STEMS)


def published(folder: Path) -> None:
    for scorer in SCORERS:
        for model in MODELS:
            assert run(folder, "published", scorer, model).status == 0


def rerun(folder: Path, *stages: str) -> None:
    for stage in stages:
        ran = run(folder, *stage.split())
        assert ran.status == 0, ran.err


def matrix(rows: pd.DataFrame, scorer: str) -> np.ndarray:
    return rows[[f"{scorer} {model}" for model in MODELS]].to_numpy()


def sides(folder: Path) -> "pd.Series[str]":
    return pd.read_parquet(folder / "data/split.parquet").set_index("prompt_id")["split"]


# Stage by stage


def test_each_stage_prints_one_line(finished: tuple[Path, dict[str, str]]) -> None:
    printed = finished[1]
    assert all(re.fullmatch(r"\w+: .*\n", text) for text in printed.values()), printed
    assert printed["sample"].startswith("sample: 150 prompts (DRAW ")
    assert printed["describe"] == "describe: 150 prompts in 3 sets\n"
    assert printed["split"] == "split: 120 train, 15 validation, 15 test\n"
    assert printed["table"] == "table: 1200 rows of 4 models and 2 scores\n"
    assert printed["train"].startswith("train: Ridge on 120 prompts in ")
    assert printed["calibrate"].startswith("calibrate: cost-aware, to keep quality: λ = ")


def test_sample_keeps_the_tables_prompts(finished: tuple[Path, Any]) -> None:
    rows, prompts = table(), read_table(finished[0] / "data/prompts.parquet", Prompt)
    assert prompts["prompt_id"].to_list() == rows["prompt_id"].to_list()
    assert prompts["prompt"].to_list() == rows["prompt"].to_list()
    assert prompts["set"].to_list() == rows["dataset_id"].to_list()
    (source,) = json.loads(prompts.attrs["sources"])
    assert source["path"] == path_of("nima", "sdxl-turbo") and source["rows"] == 150


def test_sample_is_prefix(study: Path) -> None:
    taken = {}
    for n in (20, 60):
        params(study, f"prompts.n={n}", "prompts.seed=3")
        rerun(study, "sample")
        taken[n] = read_table(study / "data/prompts.parquet", Prompt)["prompt_id"].to_list()
    assert taken[60][:20] == taken[20] and len(taken[60]) == 60


def test_describe_by_hand(finished: tuple[Path, Any]) -> None:
    sets = json.loads((finished[0] / "metrics/prompts.json").read_text())
    assert sorted(sets["sets"]) == ["DIFF", "DRAW", "PP"] and len(sets["files"]) == 1
    rows = table()
    for name, described in sets["sets"].items():
        prompts = rows.loc[rows["dataset_id"] == name, "prompt"]
        words = prompts.str.split().str.len()
        assert described["prompts"] == len(prompts) and described["duplicates"] == 0
        assert described["words"] == pytest.approx(
            {"mean": words.mean(), "std": words.std(ddof=0), "min": words.min(), "max": words.max()}
        )


def test_split_by_text(study: Path) -> None:
    rows = table()
    rows.loc[rows.index[:40], "prompt"] = "the very same robot"
    write_published(study / "cems", rows)
    rerun(study, "read cems_table", "sample", "split")
    assert sides(study)[rows["prompt_id"][:40]].nunique() == 1
    params(study, "split=cems")  # the paper's, by row
    rerun(study, "split")
    assert sides(study)[rows["prompt_id"][:40]].nunique() == 3


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("model", MODELS)
def test_published_equals_pandas(finished: tuple[Path, Any], scorer: str, model: str) -> None:
    scores = read_scores(
        scores_folder(scorer, model, published=True, data=finished[0] / "data"), scorer, model
    )
    raw = pd.read_csv(finished[0] / "cems" / path_of(scorer, model))
    assert scores["prompt_id"].to_list() == raw["prompt_id"].to_list()
    np.testing.assert_array_equal(scores["value"], raw[f"{scorer}_score"])
    np.testing.assert_array_equal(scores["seconds"], raw["mean_time"])
    assert (scores["images"] == 3).all() and scores["seed"].isna().all()


def test_random_sample(study: Path) -> None:
    params(study, "prompts.n=30", "prompts.seed=0")
    rerun(study, "sample")
    published(study)
    rerun(study, "split", "table")
    prompts = read_table(study / "data/prompts.parquet", Prompt)
    rows = read_table(study / "data/performance.parquet", Performance, ("prompt_id", "model", "score"))
    assert len(rows) == 30 * 8 and set(rows["prompt_id"]) == set(prompts["prompt_id"])


def test_table_by_hand() -> None:
    scores = pd.DataFrame(
        {
            "prompt_id": ["a", "b", "a", "b", "c"],
            "seed": [0, 0, 1, 1, 0],
            "output": "o",
            "value": [1.0, 5.0, 2.0, 5.0, 9.0],
            "images": 1,
            "seconds": [0.5, np.nan, 1.5, 0.2, np.nan],
        }
    )
    rows = performance(scores, "m", "s").set_index("prompt_id")
    assert rows.loc["a", ["mean", "n", "seconds"]].to_list() == [1.5, 2, 1.0]
    assert rows.loc["a", "std"] == pytest.approx(math.sqrt(0.5)) and rows.loc["b", "std"] == 0
    assert rows.loc["b", "seconds"] == 0.2 and math.isnan(rows.loc["c", "seconds"])
    assert math.isnan(rows.loc["c", "std"])  # of one image
    means = performance(scores.iloc[:2].assign(images=3, seed=None), "m", "s").set_index("prompt_id")
    assert means["std"].isna().all() and (means["n"] == 3).all()  # single images are not known


def test_prompt_lacking_a_score(study: Path) -> None:
    path = study / "data/scores/published-tables/clip/amused/scores.parquet"
    rows = read_scores(path.parent, "clip", "amused")
    gone = rows["prompt_id"].iloc[7]
    write_scores(path, rows[rows["prompt_id"] != gone], rows.attrs)
    said = run(study, "table").out
    assert (
        said
        == "table: 1192 rows of 4 models and 2 scores; 1 prompts left out, as some model has no image or score of them\n"
    )
    left = read_table(study / "data/performance.parquet", Performance, ("prompt_id", "model", "score"))
    assert gone not in set(left["prompt_id"])
    rerun(study, "train", "calibrate", "evaluate")
    assert json.loads((study / "metrics/evaluate.json").read_text())["all_prompts"]["prompts"] == 149
    write_scores(path, rows.iloc[:0], rows.attrs)
    assert "no prompt has a score of every model (150 prompts lack one" in run(study, "table").err


def test_fresh_seconds_make_the_price(study: Path) -> None:
    params(study, "cost=measured", "~published.models.amused.profile.memory_gb", "+profiled={amused: {}}")
    write_json(study / "data/profile/amused.json", {"seconds": 10.0, "memory_gb": 2.5})
    rerun(study, "calibrate")
    costs = dict(zip(MODELS, Router.load(study / "data/router").cost, strict=True))
    assert costs["amused"] == pytest.approx(10 * 3 * 1.66667e-5)
    assert costs["sdxl-turbo"] == pytest.approx(0.1 * 10 * 1.66667e-5), "the table's own seconds"


def test_table_models_from_parameters(study: Path) -> None:
    params(study, "~published.models.taesd-sd21", "~published.scorers.clip")
    assert run(study, "table").out == "table: 450 rows of 3 models and 1 scores\n"
    assert list(json.loads((study / "metrics/sources.json").read_text())) == [
        "nima/sdxl-turbo",
        "nima/sd-turbo",
        "nima/amused",
    ]


def test_sources_recorded(study: Path) -> None:
    import hashlib

    sources = json.loads((study / "metrics/sources.json").read_text())
    assert len(sources) == 8
    for scorer in SCORERS:
        for model in MODELS:
            (file,) = sources[f"{scorer}/{model}"]
            content = (study / "cems" / path_of(scorer, model)).read_bytes()
            assert file == {
                "path": path_of(scorer, model),
                "sha256": hashlib.sha256(content).hexdigest(),
                "rows": 150,
            }


def test_train_learns(finished: tuple[Path, Any]) -> None:
    folder, rows = finished[0], table()
    predictor = load_predictor(folder / "data/predictor")
    test = rows["prompt_id"].map(sides(folder)) == "test"
    predicted = predictor.predict(PromptBatch(rows["prompt"][test].to_list()))
    true = matrix(rows[test], "nima")
    assert (predicted.argmax(1) == true.argmax(1)).mean() > 0.8


def replace_scores(folder: Path, side: str) -> None:
    """Give the prompts of one side other scores."""
    rows = table()
    there = rows["prompt_id"].map(sides(folder)) == side
    for scorer, (mean, _) in SCORERS.items():
        for place, model in enumerate(MODELS):
            rows.loc[there, f"{scorer} {model}"] = mean + place + np.arange(there.sum()) / 100
    write_published(folder / "cems", rows)
    published(folder)


def content(folder: Path, below: str) -> dict[str, bytes]:
    files = sorted(path for path in (folder / below).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def learnt(folder: Path) -> dict[str, Any]:
    """All that decides: predictor and router, without the router's record of the files it was made from."""
    router = json.loads((folder / "data/router/router.json").read_text())
    assert "data" in router["about"]
    return {
        **content(folder, "data/predictor"),
        **content(folder, "data/router/predictor"),
        "router": {key: value for key, value in router.items() if key != "about"},
    }


@pytest.mark.parametrize("option", ["predictor=ridge", "score=mixed", "predictor=knn", "predictor=gbm"])
def test_unseen_test_split(study: Path, option: str) -> None:
    params(study, option)
    rerun(study, "table", "train", "calibrate")
    before = learnt(study)
    replace_scores(study, "test")
    rerun(study, "table", "train", "calibrate")
    assert learnt(study) == before


def test_validation_sets_point_only(study: Path) -> None:
    before = learnt(study)
    replace_scores(study, "validation")
    rerun(study, "table", "train", "calibrate")
    after = learnt(study)
    assert {key for key in after if after[key] != before[key]} == {"router"}
    assert after["router"]["policy"] != before["router"]["policy"]


def test_the_training_split_does_train(study: Path) -> None:
    before = content(study, "data/predictor")
    replace_scores(study, "train")
    rerun(study, "table", "train")
    assert content(study, "data/predictor") != before


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        # Seconds × whole GB × 0.0000166667 dollars: equation (4), with Table 2's figures.
        ("cost=serverless", [0.616 * 10, 0.176 * 5, 0.489 * 4, 1.588 * 4]),
        ("cost=measured", [0.1 * 10, 0.2 * 5, 0.3 * 4, 0.4 * 4]),  # the table's own times
    ],
)
def test_calibrate_prices_by_equation_4(study: Path, override: str, expected: list[float]) -> None:
    params(study, override)
    rerun(study, "calibrate")
    cost = Router.load(study / "data/router").cost
    np.testing.assert_allclose(cost, np.array(expected) * 0.0000166667, rtol=1e-12)


def test_calibrate_takes_a_price_list(study: Path) -> None:
    prices = {"taesd-sd21": 0.04, "amused": 0.03, "sd-turbo": 0.02, "sdxl-turbo": 0.01}
    params(study, "cost=api", *(f"+cost.prices.{name}={price}" for name, price in prices.items()))
    rerun(study, "calibrate")
    assert Router.load(study / "data/router").cost.tolist() == [0.01, 0.02, 0.03, 0.04]


@pytest.mark.parametrize(
    ("policy", "line"),
    [
        (("cost_aware",), "cost-aware, to keep quality: λ = "),
        (("cost_aware", "policy.target=cost"), "cost-aware, to keep cost: λ = "),
        (("cost_aware_cost",), "cost-aware, to keep cost: λ = "),
        (("cheapest_within",), "cheapest within, to keep quality: ε = "),
        (("cheapest_within", "policy.target=cost"), "cheapest within, to keep cost: ε = "),
        (("best_predicted",), "best predicted\n"),
        (("single",), "single model, aMUSEd: every prompt goes to this model"),
        (("with_margin",), "cost-aware, to keep quality: λ = "),
    ],
)
def test_calibrate_packs_policies(study: Path, policy: tuple[str, ...], line: str) -> None:
    params(study, f"policy={policy[0]}", *policy[1:])
    assert run(study, "calibrate").out.startswith(f"calibrate: {line}")
    one = Router.load(study / "data/router")
    assert list(one.compared) == [
        "cost_aware_quality", "cost_aware_cost", "cheapest_within_quality", "cheapest_within_cost",
        "cost_aware_per_set",
    ]  # fmt: skip
    validation = table()[table()["prompt_id"].map(sides(study)) == "validation"]
    assert [model.mean_quality for model in one.models] == pytest.approx(matrix(validation, "nima").mean(0))
    assert one.about["calibrated_on"] == 15


def test_every_score_and_predictor(study: Path) -> None:
    for override in (
        "score=clip",
        "score=mixed",
        "predictor=mean",
        "predictor=mlp",
        "predictor=cems-frozen",
        "predictor=ensemble",
    ):
        params(study, override, "compute=cpu")
        rerun(study, "train", "calibrate", "evaluate")
        result = json.loads((study / "metrics/evaluate.json").read_text())
        assert result["prompts"] == 15 and 0 <= result["choice"]["router"]["accuracy"] <= 1
        assert result["score"] == {"score=clip": "clip.score", "score=mixed": "nima.mean + clip.score"}.get(
            override, "nima.mean"
        )


# Text encoders


def test_encoder_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from promptroute.encoders.clip_text import ClipTextEncoder
    from tests.encoders.conftest import make_tiny_clip

    clip, folder = make_tiny_clip(tmp_path / "clip"), tmp_path / "study"
    folder.mkdir()
    overrides = ["text_encoder=clip", f"text_encoder.clip.model={clip}"]
    printed = run_chain(folder, *overrides, rows=table(60))
    assert printed["encode clip"] == "encode: 60 prompts with clip on cpu\n"
    rows = read_embeddings(folder / "data/text/clip.parquet").set_index("prompt_id")["embedding"]
    for _, row in table(60).iloc[[0, 17, 59]].iterrows():
        alone = ClipTextEncoder(model=str(clip)).encode([row["prompt"]])[0]
        np.testing.assert_allclose(rows[row["prompt_id"]], alone, atol=1e-5)
    assert Router.load(folder / "data/router").route(["a robot at night"])[0].model in MODELS
    before = (folder / "data/text/clip.parquet").read_bytes()
    with monkeypatch.context() as patch:
        patch.delattr(ClipTextEncoder, "encode")
        rerun(folder, "encode clip")  # from cache/: nothing is encoded
    clip.rename(tmp_path / "gone")
    assert (folder / "data/text/clip.parquet").read_bytes() == before
    params(folder, *overrides, "+text_encoder.clip.max_length=5")
    assert "can't be loaded" in run(folder, "encode", "clip").err  # another setting is other work
    assert (folder / "data/text/clip.parquet").read_bytes() == before  # a failure leaves what was there


def test_changed_encoder_weights(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    from tests.encoders.conftest import make_tiny_clip

    clip, folder = make_tiny_clip(tmp_path / "clip"), tmp_path / "study"
    folder.mkdir()
    run_chain(folder, "text_encoder=clip", f"text_encoder.clip.model={clip}", rows=table(60))
    weights = load_file(clip / "model.safetensors")
    name = next(name for name in weights if name.endswith("final_layer_norm.weight"))
    save_file({**weights, name: weights[name] * 1.5}, clip / "model.safetensors", {"format": "pt"})
    said = run(folder, "calibrate").err
    assert "error: data/text/clip.parquet: not the vectors that encoder clip gives on this machine" in said
    assert "encode the prompts again" in said
    rerun(folder, "encode clip", "train", "calibrate", "evaluate")


# Joins


def test_rows_joined_by_key(study: Path) -> None:
    """Every file but the one that gives the prompts their order is shuffled, each in its own way."""
    before = learnt(study)
    result = json.loads((study / "metrics/evaluate.json").read_text())
    for number, scorer in enumerate(SCORERS):
        for place, model in enumerate(MODELS):
            if (scorer, model) != ("nima", "sdxl-turbo"):
                file = study / "cems" / path_of(scorer, model)
                rows = pd.read_csv(file, dtype=str)
                rows.sample(frac=1, random_state=10 * number + place).to_csv(file, index=False)
    rerun(study, "sample")
    published(study)
    rerun(study, "split", "table", "train", "calibrate", "evaluate")
    assert learnt(study) == before
    assert json.loads((study / "metrics/evaluate.json").read_text()) == result


def test_order_of_files(study: Path) -> None:
    """Rows of data/*.parquet shuffled behind the stages' backs."""
    result = json.loads((study / "metrics/evaluate.json").read_text())
    for name in ("performance", "split"):
        file = study / f"data/{name}.parquet"
        pd.read_parquet(file).sample(frac=1, random_state=5).to_parquet(file, index=False)
    rerun(study, "train", "calibrate", "evaluate")
    assert json.loads((study / "metrics/evaluate.json").read_text()) == result


# Studies that can't be


def on_sides(folder: Path, **to: str) -> None:
    """Move every prompt of a side to another."""
    file = folder / "data/split.parquet"
    rows = pd.read_parquet(file)
    rows.replace({"split": to}).to_parquet(file, index=False)


def test_calibration_needs_validation(study: Path) -> None:
    on_sides(study, validation="train")
    ran = run(study, "calibrate")
    assert ran.err == (
        "error: data/split.parquet: no validation prompt to calibrate on; give it a share with -S split.shares\n"
    )


def test_no_test_prompts(study: Path) -> None:
    on_sides(study, test="train")
    before = content(study, "metrics")
    assert "no test prompt; give the test split a share" in run(study, "evaluate").err
    assert content(study, "metrics") == before


def test_prompt_on_no_side(study: Path) -> None:
    file = study / "data/split.parquet"
    pd.read_parquet(file).iloc[1:].to_parquet(file, index=False)
    first = table()["prompt_id"][0]
    assert f"prompt {first} is on no side; make it again with `dvc repro`" in run(study, "train").err


def test_model_removed_after_training(study: Path) -> None:
    params(study, "~published.models.amused")
    assert "was trained for amused too, which the study lacks; run `dvc repro`" in run(study, "calibrate").err
    other = ("--performance", str(study / "cems"), "--out", "x.json")
    assert "published.models lacks ['amused']" in judge(study, *other).err
    params(study, "~published.scorers.nima", "~published.scorers.clip")
    assert "published.scorers is empty; use published=cems" in judge(study, *other).err
    assert not (study / "x.json").exists()


# How a stage starts and fails


def test_entry_point(study: Path) -> None:
    def start(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=study,
            env={"PYTHONPATH": str(ROOT), "PROMPTROUTE_CEMS": str(study / "cems")},
            capture_output=True,
            text=True,
        )

    good = start("stages.split")
    assert (good.returncode, good.stdout, good.stderr) == (
        0,
        "split: 120 train, 15 validation, 15 test\n",
        "",
    )
    params(study, "split.shares=[0.5,0.1,0.1]")
    bad = start("stages.split")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr == (
        "error: params.yaml: split: shares is [0.5, 0.1, 0.1]; expected three shares above 0 that add up to 1, "
        "as [0.8, 0.1, 0.1]\n"
    )
    assert start("stages.published", "nima").returncode == 2


def test_failed_stage_keeps_old(study: Path) -> None:
    before = content(study, "data")
    file = study / "cems" / path_of("clip", "amused")
    file.write_text(file.read_text()[:-20])
    ran = run(study, "published", "clip", "amused")
    assert ran.status == 1 and ran.out == "" and ran.err.startswith("error: Model_Perf/aug_10k/clip_score")
    assert content(study, "data") == before


def test_defects_keep_traceback(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptroute.prompts.split.ByText.split", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(study, "split")


def test_compose_writes_the_projects_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("conf", "hydra_plugins", "mini/prompts", "mini/weights"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    assert compose_params() == "params.yaml: composed from conf/"
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()
    assert compose_params("score=clip") == "params.yaml: composed from conf/ with score=clip"
    assert "clip:\n      score: 1.0" in (tmp_path / "params.yaml").read_text()
    before = (tmp_path / "params.yaml").read_bytes()
    with pytest.raises(UserError, match=r"predictor=null: .*; conf/ holds every group and its options"):
        compose_params("predictor=null")
    assert (tmp_path / "params.yaml").read_bytes() == before


def test_point_on_out_of_fold(tmp_path: Path) -> None:
    printed = run_chain(tmp_path, "predictor=kernel", "text_encoder=none")
    assert printed["train"].startswith("train: Kernel on 120 prompts in ")
    side, rows = sides(tmp_path), table().set_index("prompt_id")
    held = pd.read_parquet(tmp_path / "data/predictor/out_of_fold.parquet").set_index("prompt_id")
    assert set(held.index) == set(side.index[side != "test"])
    router = Router.load(tmp_path / "data/router")
    assert router.about["calibrated_on"] == 135
    assert not (tmp_path / "data/router/predictor/out_of_fold.parquet").exists()
    # Not what the fitted predictor says of them: it has seen them, and would flatter its operating point.
    true = rows.loc[held.index, [f"nima {model}" for model in MODELS]].to_numpy()
    seen = router.predict(list(rows.loc[held.index, "prompt"]))
    error, flattered = (((guess - true) ** 2).mean() for guess in (held[list(MODELS)].to_numpy(), seen))
    assert flattered < error


def test_out_of_fold_is_validation(study: Path) -> None:
    held = pd.read_parquet(study / "data/predictor/out_of_fold.parquet").set_index("prompt_id")
    side = sides(study)
    assert set(held.index) == set(side.index[side == "validation"])
    prompts = table().set_index("prompt_id").loc[held.index, "prompt"]
    np.testing.assert_allclose(
        held[list(MODELS)], Router.load(study / "data/router").predict(list(prompts)), atol=1e-9
    )
