"""The published study in memory, which the router benchmarks measure on. Nothing below data/ is read or written."""

import argparse
import ast
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.machine import single_threaded
from benchmarks.reporting import ROOT, names, numbers
from benchmarks.reporting import options as options_of
from promptroute.core.batch import PromptBatch
from promptroute.core.component import build
from promptroute.core.outputs import full_name
from promptroute.core.performance import performance
from promptroute.core.study import StudyData
from promptroute.encoders.base import TextEncoder, encode_all
from promptroute.io.cache import cache_path
from promptroute.io.embeddings import read_embeddings, write_embeddings
from promptroute.io.files import atomic_path
from promptroute.io.published import PublishedTable
from promptroute.io.study import join
from promptroute.predictors.base import Predictor
from promptroute.prompts.sampling import sample
from promptroute.prompts.source import PromptSource
from promptroute.prompts.split import Split
from promptroute.routing.costs import CostRule, Facts
from promptroute.routing.quality import Quality, fit_quality, flat_weights
from promptroute.runtime.compose import compose
from promptroute.runtime.params import Params, load_params, published_output, study_outputs

BASE = ("experiment=published", "compute=cpu")


@cache
def settings(*overrides: str, base: tuple[str, ...] = BASE) -> Params:
    """Compose the default study's parameters with `overrides`, as `dvc exp run -S OVERRIDE` does."""
    with TemporaryDirectory() as folder:
        compose(Path(folder) / "params.yaml", [*base, *overrides], Path(__file__).resolve().parents[1])
        return load_params(Path(folder) / "params.yaml")


@dataclass(frozen=True)
class Table:
    """The published prompts and scores.

    Attributes:
        prompts: `Prompt` rows, in the order of the study.
        study: the same prompts with their scores, without embeddings.
        cost: dollars per image [m], by the default cost rule.
        fingerprint: SHA-256 of texts, sets and scores.
    """

    prompts: pd.DataFrame
    study: StudyData
    cost: np.ndarray
    fingerprint: str


@cache
def read_table() -> Table:
    """Read the published table from where its source says (`PROMPTROUTE_CEMS`, else its public address)."""
    params = settings()
    section, published = params["prompts"], params["published"]
    sources = [
        build(config, f"prompts.sources.{name}", PromptSource) for name, config in section["sources"].items()
    ]
    prompts = sample(sources, n=section["n"], seed=section.get("seed", 0))
    reader = build(published["table"], "published.table", PublishedTable)
    outputs = {name: published_output(section, name) for name, section in published["scorers"].items()}
    rows = [
        performance(reader.read(name, output, facts["stem"]).scores, model, name)
        for name, output in outputs.items()
        for model, facts in published["models"].items()
    ]
    scores = [full_name(name, output.name) for name, output in outputs.items()]
    study = join(prompts, pd.concat(rows), {}, list(published["models"]), scores)
    profiles = {name: Facts.of(facts["profile"]) for name, facts in published["models"].items()}
    known = hashlib.sha256("\0".join([*study.prompt_ids, *study.sets, *study.batch.texts]).encode())
    for name in sorted(study.raw):
        known.update(study.raw[name].tobytes())
    return Table(prompts, study, build(params["cost"], "cost", CostRule).cost(profiles), known.hexdigest())


@cache
def with_text(option: str) -> StudyData:
    """Return the study with the embeddings of conf/text_encoder's `option`, cached where the stage caches them."""
    from tqdm import tqdm

    table = read_table()
    ids, texts = list(table.prompts["prompt_id"]), list(table.prompts["prompt"])
    vectors = {}
    for name, config in settings(f"text_encoder={option}")["text_encoder"].items():
        kept = cache_path("text", config, ids, texts, "cpu")
        if not kept.exists():
            tqdm.write(f"embedding {len(texts)} prompts with {name}, once")
            encoder = build(config, f"text_encoder.{name}", TextEncoder, device="cpu")
            write_embeddings(kept, ids, encode_all(encoder, texts))
        frame = read_embeddings(kept).set_index("prompt_id").reindex(ids)
        vectors[name] = np.stack(list(frame["embedding"])).astype(np.float32)
    return replace(table.study, batch=PromptBatch(table.study.batch.texts, vectors))


@cache
def sides(seed: int) -> Mapping[str, np.ndarray]:
    """Return the positions of the prompts of each part of the study's split (8 : 1 : 1 by text) with `seed`."""
    prompts = read_table().prompts
    section = with_seed(settings()["split"], seed)
    split = build(section, "split", Split).split(prompts).set_index("prompt_id")["split"]
    side = split.reindex(prompts["prompt_id"]).to_numpy()
    return {name: np.flatnonzero(side == name) for name in ("train", "validation", "test")}


def directions() -> dict[str, bool]:
    """Full name of each published score → whether higher is better."""
    return {name: output.higher_is_better for name, output in study_outputs(settings()).items()}


def quality_of(score: str, train: np.ndarray) -> tuple[np.ndarray, Quality]:
    """Return the quality [n, m] of all prompts, its scaling fitted on the positions `train`."""
    params, study = settings(f"score={score}"), read_table().study
    meaning = {**params["score"], "weights": flat_weights(params["score"]["weights"])}
    quality = fit_quality(study.take(train).raw, **meaning, higher_is_better=directions())
    return quality.of(study.raw), quality


TEXT = {"kernel": "layers", "kernel-shared": "layers", "kernel-statistics": "layers"}
"""Predictor → the option of conf/text_encoder/ that it is measured with; the others with the study's own."""


VARIANTS = {
    "ridge-static": ("predictor=ridge", "text_encoder=static"),
    "kernel-4000": ("predictor=kernel", "text_encoder=layers", "+predictor.points=4000"),
    "kernel-static": ("predictor=kernel", "text_encoder=static", "+predictor.width=null"),
    "kernel-static-4000": (
        "predictor=kernel",
        "text_encoder=static",
        "+predictor.width=null",
        "+predictor.points=4000",
    ),
}
"""Name → overrides: predictors with another encoder than the one that they are measured with by default, or, with 4000,
that compare a prompt with so many learned ones."""


def text_of(predictor: str) -> str:
    """Name the text encoder option that a predictor is measured with."""
    if predictor in VARIANTS:
        return VARIANTS[predictor][1].removeprefix("text_encoder=")
    return TEXT.get(predictor, "minilm")


def overrides_of(predictor: str) -> tuple[str, ...]:
    """Return the overrides that compose a predictor, an option of conf/predictor/ or a name of `VARIANTS`."""
    return VARIANTS.get(predictor, (f"predictor={predictor}", f"text_encoder={text_of(predictor)}"))


class Cell(NamedTuple):
    """A fit.

    Attributes:
        predictor: option of conf/predictor/, or a name of `VARIANTS`.
        score: option of conf/score/.
        seed: of split and predictor.
        without: prompt set that is left out of training and validation; "" for none.
    """

    predictor: str
    score: str
    seed: int
    without: str = ""


def positions(cell: Cell) -> dict[str, np.ndarray]:
    """Return the positions of a fit's training, validation and test prompts in the study.

    Where a prompt set is left out, all test prompts are of this set.
    """
    sets, side = read_table().study.sets, sides(cell.seed)
    if not cell.without:
        return dict(side)
    return {name: index[(sets[index] == cell.without) == (name == "test")] for name, index in side.items()}


@cache
def _decides(predictor: str) -> tuple[Any, ...]:
    """Return what decides a fit besides score, seed and data. The code is read once a run."""
    params = settings(*overrides_of(predictor))
    return params["predictor"], params["text_encoder"], params["split"], code_of(params["predictor"])


def kept_at(cell: Cell) -> Path:
    """Return where a fit's predictions are cached."""
    section, text, split, code = _decides(cell.predictor)
    parts: list[Any] = [section, text, settings(f"score={cell.score}")["score"], split]
    parts += [cell.seed, cell.without] if cell.without else [cell.seed]
    return cache_path("benchmarks", *parts, code, read_table().fingerprint).with_suffix(".npz")


def fit(cell: Cell) -> None:
    """Fit a predictor; cache its predictions on validation and test, and its time."""
    section = settings(*overrides_of(cell.predictor))["predictor"]
    study, side = with_text(text_of(cell.predictor)), positions(cell)
    quality, _ = quality_of(cell.score, side["train"])
    batch = {name: study.batch.take(index) for name, index in side.items()}
    model = build(with_seed(section, cell.seed), "predictor", Predictor)
    with single_threaded():
        wall, cpu = time.perf_counter(), time.process_time()
        model.fit(batch["train"], quality[side["train"]], (batch["validation"], quality[side["validation"]]))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        found = {"test": model.predict(batch["test"])}
        if model.out_of_fold is None:
            found["validation"] = model.predict(batch["validation"])
            found["held"], found["held_at"] = found["validation"], side["validation"]
        else:  # it is fitted on validation too: these are out-of-fold
            found["validation"] = model.out_of_fold[len(side["train"]) :]
            found["held"], found["held_at"] = (
                model.out_of_fold,
                np.concatenate([side["train"], side["validation"]]),
            )
    with atomic_path(kept_at(cell)) as temporary, open(temporary, "wb") as file:
        np.savez(file, **found, seconds=wall, cpu_seconds=cpu)


def predictions(cell: Cell) -> dict[str, np.ndarray]:
    """Read what `fit` cached: predicted quality [n, m] of `validation` and `test`, `seconds`, `cpu_seconds`; and
    `held`, out-of-fold predictions to tune operating points on, of the prompts at the positions `held_at`.

    Fits first where nothing is cached.
    """
    if not kept_at(cell).exists():
        fit(cell)
    with np.load(kept_at(cell)) as kept:
        return dict(kept)


def with_seed(section: Any, seed: int) -> Any:
    """Return a section of the parameters as `-S seed=SEED` gives it, on one thread."""
    if isinstance(section, Mapping):
        given = {"seed": seed, "threads": 1}
        return {
            name: given[name] if name in given else with_seed(part, seed) for name, part in section.items()
        }
    return section


PREDICTS = ("promptroute.predictors.", "promptroute.core.axes", "promptroute.runtime.clip_text")
"""Modules whose code decides a prediction."""


def code_of(section: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the code that a predictor's section runs: its modules of promptroute/predictors and what they
    import from there, without comments and docstrings, so that only a change that can matter counts."""
    wanted = [
        ROOT / "promptroute" / "predictors" / f"{module}.py" for module in sorted(set(_modules(section)))
    ]
    seen: dict[Path, str] = {}
    while wanted:
        path = wanted.pop()
        if path in seen or path.stem == "folder" or not path.is_file():  # folder.py only saves and loads
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PREDICTS):
                wanted.append(ROOT.joinpath(*str(node.module).split(".")).with_suffix(".py"))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                node.body = node.body[1:] or [ast.Pass()]
        seen[path] = ast.dump(tree)
    return hashlib.sha256("".join(seen[path] for path in sorted(seen)).encode()).hexdigest()


def _modules(section: Any) -> Iterator[str]:
    """Generate the modules of promptroute/predictors whose classes a section builds."""
    if isinstance(section, Mapping):
        module, _, _ = str(section.get("_target_", "")).rpartition(".")
        if module.startswith(PREDICTS[0]):
            yield module.removeprefix(PREDICTS[0])
        for part in section.values():
            yield from _modules(part)


def options() -> list[str]:
    """List the options of conf/predictor/, the null predictor first."""
    found = sorted(path.stem for path in (ROOT / "conf" / "predictor").glob("*.yaml"))
    return sorted(found, key=lambda name: name != "mean")


def default_predictor() -> str:
    """Name the option of conf/predictor/ that the study uses."""
    section = settings()["predictor"]
    return next(name for name in options() if settings(f"predictor={name}")["predictor"] == section)


def parser(module: str, about: str | None, scores: bool = True) -> argparse.ArgumentParser:
    """Make the command line that the benchmarks of a router share, with --scores or without."""
    found = options_of(module, about)
    found.add_argument("--predictor", help="option of conf/predictor/ (default: the study's)")
    found.add_argument("--seeds", type=numbers, default=[*range(5)], help="of the split (default: 0,1,2,3,4)")
    if scores:
        found.add_argument("--scores", type=names, default=["nima", "clip"], help="(default: nima,clip)")
    return found


def measure_each(
    measure: Callable[[str, str, Sequence[int], int], list[dict[str, Any]]],
    chosen: argparse.Namespace,
    repeats: int,
) -> list[dict[str, Any]]:
    """Fit what the chosen scores and seeds need, and return the rows that `measure` gives for each score."""
    predictor = chosen.predictor or default_predictor()
    keep(Cell(predictor, score, seed) for score in chosen.scores for seed in chosen.seeds)
    return [row for score in chosen.scores for row in measure(predictor, score, chosen.seeds, repeats)]


def keep(cells: Iterable[Cell]) -> None:
    """Fit those of these that are not cached yet, with progress."""
    from tqdm import tqdm

    for cell in tqdm([*cells], desc="fit", unit="fit"):
        predictions(cell)
