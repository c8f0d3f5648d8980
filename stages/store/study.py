"""The pipeline's tables joined by key into the arrays that routing works on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.records import BadInput, Performance, Prompt, SplitRow
from stages.records.batch import PromptBatch
from stages.store.files import read_table


@dataclass(frozen=True)
class Study:
    """n prompts with everything known of them, row for row.

    Attributes:
        prompt_ids: [n].
        sets: [n] prompt set of each.
        batch: their texts and embeddings.
        models: m names, in the order of the columns below.
        raw: score name → float64 [n, m], mean over the images, in the score's own unit and direction.
        seconds: float64 [n, m] seconds per image; NaN where that was not recorded.
    """

    prompt_ids: np.ndarray
    sets: np.ndarray
    batch: PromptBatch
    models: tuple[str, ...]
    raw: Mapping[str, np.ndarray]
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt_ids)

    def take(self, index: np.ndarray) -> "Study":
        """The prompts at the integer positions `index`, in that order."""
        return Study(
            self.prompt_ids[index],
            self.sets[index],
            self.batch.take(index),
            self.models,
            {name: values[index] for name, values in self.raw.items()},
            self.seconds[index],
        )

    def measured_seconds(self) -> dict[str, float]:
        """Mean seconds per image of each model that has any recorded."""
        means = {}
        for model, column in zip(self.models, self.seconds.T, strict=True):
            if np.isfinite(column).any():
                means[model] = float(np.nanmean(column))
        return means


def join(
    prompts: pd.DataFrame,
    performance: pd.DataFrame,
    embeddings: Mapping[str, pd.DataFrame],
    models: Sequence[str],
    scores: Sequence[str],
) -> Study:
    """Join prompts, performance rows and embeddings by prompt_id.

    Args:
        prompts: `Prompt` rows; their order is kept.
        performance: `Performance` rows of at least these models and scores.
        embeddings: encoder → frame of prompt_id and embedding (float32 lists of one length).
        models, scores: what to keep, in this order.

    Raises:
        BadInput: a (prompt, model, score) without a value, or a prompt without an embedding; names the
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
            raise BadInput(
                f"data/performance.parquet: no {score} score of model {models[col]} for prompt {ids[row]} "
                f"({int(table.isna().sum().sum())} missing in all); run `dvc repro table`"
            )
        raw[score] = table.to_numpy(dtype=np.float64)
        seconds = np.where(np.isnan(seconds), matrix(rows, "seconds").to_numpy(dtype=np.float64), seconds)
    return Study(
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
        raise BadInput(
            f"data/text/{name}.parquet: no embedding of prompt {lost}; run `dvc repro encode@{name}`"
        )
    return np.stack(list(frame["embedding"])).astype(np.float32)[index.to_numpy().astype(int)]


def load_study(
    data: Path | str, models: Sequence[str], scores: Sequence[str], encoders: Sequence[str]
) -> tuple[Study, np.ndarray]:
    """Read the study below `data`, and on which side of the split each of its prompts stands ([n] str)."""
    data = Path(data)
    prompts = read_table(data / "prompts.parquet", Prompt)
    performance = read_table(data / "performance.parquet", Performance, key=("prompt_id", "model", "score"))
    split = read_table(data / "split.parquet", SplitRow).set_index("prompt_id")["split"]
    embeddings = {name: read_embeddings(data / "text" / f"{name}.parquet") for name in encoders}
    # A prompt of which some model drew nothing is not in the table, so not in the study.
    prompts = prompts[prompts["prompt_id"].isin(performance["prompt_id"])].reset_index(drop=True)
    sides = split.reindex(prompts["prompt_id"])
    if sides.isna().any():
        raise BadInput(
            f"{data / 'split.parquet'}: prompt {sides.index[sides.isna()][0]} is on no side; run `dvc repro split`"
        )
    return join(prompts, performance, embeddings, models, scores), sides.to_numpy(dtype=str)


def write_embeddings(path: Path | str, prompt_ids: Sequence[str], rows: np.ndarray) -> None:
    """Write data/text/ENCODER.parquet: prompt_id and embedding (fixed-size list of float32)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from stages.store.files import atomic_path

    flat = pa.array(np.ascontiguousarray(rows, dtype=np.float32).reshape(-1))
    table = pa.table(
        {
            "prompt_id": pa.array(list(prompt_ids), pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1]),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def read_embeddings(path: Path | str) -> pd.DataFrame:
    """Read what `write_embeddings` wrote: columns prompt_id and embedding.

    Raises:
        BadInput: the file is absent or torn.
    """
    try:
        return pd.read_parquet(path, columns=["prompt_id", "embedding"])
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file; `dvc repro` makes it") from error
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(
            f"{path}: not a readable table of embeddings ({error}); delete it and run `dvc repro`"
        ) from error
