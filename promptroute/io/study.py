"""The pipeline's tables joined by key into the arrays that routing works on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import NotMade
from promptroute.core.rows import Performance, Prompt, SplitRow
from promptroute.core.study import StudyData
from promptroute.io.cache import digest
from promptroute.io.embeddings import prompt_inputs, read_embeddings
from promptroute.io.files import sha256
from promptroute.io.scores import read_scores, scores_folder
from promptroute.io.tables import check_prompts, of_prompts, read_table


def join(
    prompts: pd.DataFrame,
    performance: pd.DataFrame,
    embeddings: Mapping[str, pd.DataFrame],
    models: Sequence[str],
    scores: Sequence[str],
) -> StudyData:
    """Join prompts, performance rows and embeddings by prompt_id.

    Args:
        prompts: `Prompt` rows; their order is kept.
        performance: `Performance` rows of at least these models and scores.
        embeddings: encoder → frame of prompt_id and embedding (float32 lists of one length).
        models, scores: what to keep, in this order.

    Raises:
        UserError: a (prompt, model, score) without a value, or a prompt without an embedding; names the
            first one.
    """
    ids = prompts["prompt_id"].to_numpy()

    def matrix(rows: pd.DataFrame, value: str) -> pd.DataFrame:
        return rows.pivot(index="prompt_id", columns="model", values=value).reindex(
            index=ids, columns=list(models)
        )

    raw = {}
    seconds = np.full((len(ids), len(models)), np.nan)
    for score in scores:
        rows = performance[performance["score"] == score]
        table = matrix(rows, "mean")
        if table.isna().any(axis=None):
            row, col = np.argwhere(table.isna().to_numpy())[0]
            raise NotMade(
                f"data/performance.parquet: no {score} score of model {models[col]} for prompt {ids[row]} "
                f"({int(table.isna().sum().sum())} missing in all); make it again"
            )
        raw[score] = table.to_numpy(dtype=np.float64)
        seconds = np.where(np.isnan(seconds), matrix(rows, "seconds").to_numpy(dtype=np.float64), seconds)
    return StudyData(
        prompt_ids=ids,
        sets=prompts["set"].to_numpy(),
        batch=PromptBatch(
            list(prompts["prompt"]), {name: _rows(frame, ids, name) for name, frame in embeddings.items()}
        ),
        models=tuple(models),
        raw=raw,
        seconds=seconds,
    )


def _rows(frame: pd.DataFrame, ids: np.ndarray, name: str) -> np.ndarray:
    """Embeddings as float32 [n, d], in the order of `ids`."""
    position = pd.Series(np.arange(len(frame)), index=frame["prompt_id"])
    index = position.reindex(ids)
    if index.isna().any():
        lost = ids[index.isna().to_numpy()][0]
        raise NotMade(f"data/text/{name}.parquet: no embedding of prompt {lost}; make it again")
    return np.stack(list(frame["embedding"])).astype(np.float32)[index.to_numpy().astype(int)]


def load_study(
    data: Path | str, models: Sequence[str], scores: Sequence[str], encoders: Sequence[str]
) -> tuple[StudyData, np.ndarray]:
    """Read the study below `data`, and on which side of the split each of its prompts stands ([n] str)."""
    data = Path(data)
    prompts = read_table(data / "prompts.parquet", Prompt)
    performance = read_table(data / "performance.parquet", Performance, key=("prompt_id", "model", "score"))
    split = read_table(data / "split.parquet", SplitRow).set_index("prompt_id")["split"]
    for name, table in (("performance", performance), ("split", split)):
        check_prompts(data / f"{name}.parquet", table.attrs.get("prompts"), of_prompts(prompts))
    encoded = digest(*prompt_inputs(prompts["prompt_id"].tolist(), prompts["prompt"].tolist()))
    embeddings = {name: read_embeddings(data / "text" / f"{name}.parquet") for name in encoders}
    for name, frame in embeddings.items():
        if frame.attrs.get("inputs", encoded) != encoded:
            raise NotMade(f"data/text/{name}.parquet: of other prompts than this study's; make it again")
    # A prompt of which some model generated nothing is not in the table, so not in the study.
    prompts = prompts[prompts["prompt_id"].isin(performance["prompt_id"])].reset_index(drop=True)
    sides = split.reindex(prompts["prompt_id"])
    if sides.isna().any():
        raise NotMade(
            f"{data / 'split.parquet'}: prompt {sides.index[sides.isna()][0]} is on no side; make it again"
        )
    return join(prompts, performance, embeddings, models, scores), sides.to_numpy(dtype=str)


def made_of(*paths: Path) -> dict[str, str]:
    """Give the checksums of the files that something is made of, by their names."""
    return {path.as_posix(): sha256(path) for path in paths}


def check_made_of(what: Path, files: object) -> None:
    """Refuse what was made of other files than stand here now; `files` is what `made_of` gave.

    Raises:
        UserError: naming both.
    """
    for name, known in files.items() if isinstance(files, Mapping) else ():
        if Path(str(name)).is_file() and sha256(str(name)) != known:
            raise NotMade(f"{what}: was made of another {name} than the one here; make it again")


def with_images(study: StudyData, data: Path | str = "data") -> StudyData:
    """Return the study with the scores of its single images, where every model has them.

    A score that is published as a mean, or is one over all images of a prompt, has none. Of an image that failed the
    score is NaN.

    Args:
        study: whose scores and models are read.
        data: folder that holds scores/.

    Raises:
        UserError: a file is corrupt, or of another scorer or model.
    """
    found = {}
    for score in study.raw:
        scorer, _, output = score.partition(".")
        folders = [scores_folder(scorer, model, data=data) for model in study.models]
        if not all((folder / "scores.parquet").is_file() for folder in folders):
            continue
        columns = []
        for model, folder in zip(study.models, folders, strict=True):
            rows = read_scores(folder, scorer, model)
            rows = rows[(rows["output"] == output) & rows["seed"].notna()]
            columns.append(
                rows.pivot(index="prompt_id", columns="seed", values="value").reindex(study.prompt_ids)
            )
        seeds = sorted(set.intersection(*(set(column.columns) for column in columns)))
        if seeds:
            stacked = [column[seeds].to_numpy(np.float64) for column in columns]
            found[score] = np.stack(stacked, axis=1)
    return replace(study, images=found)
