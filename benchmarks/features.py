"""Features of a prompt against scikit-learn's TfidfVectorizer: what a router spends before it predicts.

    python -m benchmarks.features                2,000 prompts of the small models, each alone, in five rounds
    python -m benchmarks.features --quick        one round of 100 prompts; writes no results
    python -m benchmarks.features --table        only print the table of benchmarks/results/features.csv

Both are fitted on all prompts, use one thread, alternate, and must give the same rows. *Text statistics* have no
baseline; a router's default features are words and statistics.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import here, measured_on, now, single_threaded
from benchmarks.reporting import RESULTS, ROOT, markdown, options, run_rounds, speedup
from promptroute.core.batch import PromptBatch
from promptroute.predictors.features import SIZES, Features
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "features.csv"
KINDS = ("words", "characters", "statistics")
TOLERANCE = 1e-12


def read_texts() -> list[str]:
    """Read the small models' prompts, all sets."""
    files = sorted((ROOT / "mini" / "prompts").glob("*.csv"))
    return [text for path in files for text in pd.read_csv(path)["prompt"]]


def ours_of(kind: str, texts: Sequence[str]) -> Callable[[str], Any]:
    """Fit our features of a kind; return what transforms a prompt."""
    chosen = {name: name == kind for name in KINDS}
    fitted = Features(**chosen).fit(PromptBatch(list(texts)))
    return lambda text: fitted.transform(PromptBatch([text]))


def baseline_of(kind: str, texts: Sequence[str]) -> Callable[[str], Any] | None:
    """Fit scikit-learn's vectorizer of a kind; return what transforms a prompt; None for text statistics."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if kind == "statistics":
        return None
    analyzer = {"words": "word", "characters": "char_wb"}[kind]
    vectorizer = TfidfVectorizer(analyzer=analyzer, ngram_range=SIZES[kind], min_df=2, sublinear_tf=True)
    vectorizer.fit(texts)
    return lambda text: vectorizer.transform([text])


def measure(count: int, rounds: int) -> list[dict[str, Any]]:
    """Return rows, one for each kind and round; seconds are those of `count` prompts, each transformed alone.

    Raises:
        AssertionError: the two ways' rows differ.
    """
    place, texts = here(threads=1), read_texts()
    batch = [texts[index] for index in np.linspace(0, len(texts) - 1, count).astype(int)]
    rows = []
    with single_threaded():
        for kind in KINDS:
            ours, baseline = ours_of(kind, texts), baseline_of(kind, texts)
            for text in batch[:20]:
                row = ours(text)
                if baseline is not None:
                    difference = abs(row.sparse[kind] - baseline(text))
                    if not difference.max() <= TOLERANCE:
                        raise AssertionError(f"{kind}: the two ways differ by {difference.max()}: {text!r}")
            for turn in range(rounds):
                loop = np.full(2, np.nan) if baseline is None else _time(baseline, batch)
                own = _time(ours, batch)
                seconds = {
                    "baseline_s": loop[0],
                    "baseline_cpu_s": loop[1],
                    "ours_s": own[0],
                    "ours_cpu_s": own[1],
                }
                rows.append({"kind": kind, "round": turn, "prompts": count, **seconds, **place})
    return rows


def _time(transform: Callable[[str], Any], texts: Sequence[str]) -> np.ndarray:
    before = now()
    for text in texts:
        transform(text)
    return now() - before


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: medians over rounds; a ratio is the median of the rounds' ratios."""
    lines = []
    for kind, own in rows.groupby("kind", sort=False):
        n, alone = own["prompts"].iloc[0], own["baseline_s"].isna().all()
        lines.append(
            [
                str(kind),
                "–" if alone else f"{1000 * own['baseline_s'].median() / n:.3g}",
                f"{1000 * own['ours_s'].median() / n:.3g}",
                "–" if alone else speedup(own["baseline_s"], own["ours_s"], 1, f", {len(own)} rounds"),
                "–" if alone else f"{(own['baseline_cpu_s'] / own['ours_cpu_s']).median():.1f} ×",
            ]
        )
    head = "features of a prompt | scikit-learn, ms | ours, ms | ratio | ratio, CPU time"
    return f"{measured_on(rows)}\n\n{markdown(head, lines)}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("features", __doc__, quick="one round of 100 prompts")
    return run_rounds(
        parser, arguments, CSV, lambda quick, rounds: measure(100 if quick else 2_000, rounds), table
    )


if __name__ == "__main__":
    run_stage(main)
