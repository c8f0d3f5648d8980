"""Agreement of people: against the literature's examples, the libraries, and real ratings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from promptroute.core.errors import UserError
from promptroute.evaluation.agreement import (
    alpha,
    cohen_kappa,
    fleiss_kappa,
    majority,
    rater_agreement,
    resampled,
    scorer_agreement,
    self_agreement,
    side_bias,
    value_counts,
)

GAP = np.nan
# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section C: four observers, twelve units, gaps.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3],
        [GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP],
    ]
)
# Fleiss (1971) as often reprinted: ten subjects, fourteen raters, five categories; κ = 0.210.
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)


def tidy(table: np.ndarray) -> pd.DataFrame:
    """Lay [raters, units] out as a row a rating, gaps left out."""
    rows = [
        {"unit": f"u{unit}", "rater": f"r{rater}", "value": table[rater, unit]}
        for unit in range(table.shape[1])
        for rater in range(table.shape[0])
    ]
    return pd.DataFrame(rows).dropna()


def votes(*rows: tuple[str, str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["prompt_id", "first", "second", "lead"])


class TestRaters:
    @pytest.mark.parametrize(
        ("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
    )
    def test_alpha_of_the_literature(self, level: str, expected: float) -> None:
        counts = value_counts(tidy(OBSERVERS), "unit", "value")
        assert alpha(counts, level) == pytest.approx(expected, abs=5e-4)  # type: ignore[arg-type]

    def test_fleiss_of_the_literature(self) -> None:
        assert fleiss_kappa(FLEISS) == pytest.approx(0.210, abs=5e-4)

    def test_cohen_by_hand(self) -> None:
        # 20 both yes, 5 and 10 apart, 15 both no: 0.7 seen, 0.5 by chance.
        first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
        second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
        assert cohen_kappa(first, second) == pytest.approx(0.4)

    def test_nothing_varies(self) -> None:
        same = np.array([[3], [3]])
        assert np.isnan(alpha(same)) and np.isnan(fleiss_kappa(same))
        assert np.isnan(cohen_kappa(np.ones(4), np.ones(4)))

    def test_one_rating_each_says_nothing(self) -> None:
        assert np.isnan(alpha(np.array([[1, 0], [0, 1]])))

    def test_whole_table(self) -> None:
        found = rater_agreement(tidy(OBSERVERS), "ordinal", seed=0, resamples=200)
        assert (found.units, found.raters, found.ratings) == (12, 4, 41)
        own = found.figures["alpha_ordinal"]
        assert own.low < own.estimate < own.high <= 1
        assert set(found.cohen_kappa) == {f"r{a} / r{b}" for a in range(4) for b in range(a + 1, 4)}

    def test_a_unit_rated_twice(self) -> None:
        rows = pd.DataFrame({"unit": ["a", "a"], "rater": ["x", "x"], "value": [1, 2]})
        with pytest.raises(UserError, match="x rated a twice"):
            rater_agreement(rows, "nominal", seed=0)


def test_resampling_covers() -> None:
    """The interval of a mean of n normal values is the one that theory gives."""
    values = np.random.default_rng(0).normal(size=400)
    found = resampled(lambda rows: float(values[rows].mean()), 400, seed=1, resamples=2000)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)


class TestScorer:
    VOTES = votes(
        ("p1", "a", "b", 1),
        ("p1", "a", "b", 1),
        ("p1", "a", "b", -1),
        ("p2", "a", "b", -1),
        ("p3", "a", "b", 1),
        ("p3", "a", "b", -1),
        ("p4", "a", "b", 0),
        ("p5", "a", "b", 1),
    )

    def test_majority(self) -> None:
        chosen = majority(self.VOTES)
        assert chosen["lead"].tolist() == [1, -1, 0, 0, 1] and chosen["votes"].tolist() == [3, 1, 2, 1, 1]

    def test_agreement_by_hand(self) -> None:
        scores = {("p1", "a"): 2.0, ("p1", "b"): 1.0, ("p2", "a"): 2.0, ("p2", "b"): 1.0}
        found = scorer_agreement(self.VOTES, scores, seed=0, resamples=50)
        # p1 right, p2 wrong, p3 and p4 undecided, p5 not scored.
        assert (found["pairs"], found["undecided"], found["unscored"]) == (2, 2, 1)
        assert found["agreement"].estimate == 0.5 and found["by_margin"] == []

    def test_a_tied_score_is_half_right(self) -> None:
        scores = {("p1", "a"): 1.0, ("p1", "b"): 1.0}
        assert scorer_agreement(self.VOTES[:3], scores, seed=0, resamples=0)["agreement"].estimate == 0.5

    def test_wider_margin_agrees_more(self) -> None:
        random = np.random.default_rng(0)
        gap = random.normal(size=400)
        lead = np.where(gap + random.normal(size=400) > 0, 1, -1)
        rows = votes(*[(f"p{i}", "a", "b", int(one)) for i, one in enumerate(lead)])
        scores = {(f"p{i}", name): gap[i] * (name == "a") for i in range(400) for name in "ab"}
        parts = scorer_agreement(rows, scores, seed=0, resamples=0)["by_margin"]
        assert [part["pairs"] for part in parts] == [100] * 4
        assert parts[0]["agreement"] + 0.2 < parts[3]["agreement"]


class TestSides:
    def test_bias_is_seen(self) -> None:
        found = side_bias(np.array([1] * 80 + [-1] * 20))
        assert found["left"].estimate == 0.8 and found["left"].low > 0.5 and found["p"] < 1e-6

    def test_none(self) -> None:
        assert side_bias(np.array([1, -1] * 10))["p"] == 1.0

    def test_no_vote(self) -> None:
        assert side_bias(np.array([]))["votes"] == 0


def test_self_agreement() -> None:
    rows = votes(
        ("p", "a", "b", 1), ("p", "a", "b", 1), ("q", "a", "b", 1), ("q", "a", "b", -1), ("r", "a", "b", 1)
    )
    rows["rater"] = ["x"] * 4 + ["y"]
    assert self_agreement(rows) == {"x": {"repeats": 2, "same": 0.5}}


@pytest.fixture
def tables() -> Path:
    """Give the folder of published ratings."""
    folder = Path(__file__).parents[3] / "shared/data/tables"
    if not folder.is_dir():
        pytest.skip(f"published ratings are not at {folder}")
    return folder


class TestRealRatings:
    """α and κ of published ratings, equal to the libraries' own figures; docs/people.md shows them."""

    def test_likert(self, tables: Path) -> None:
        import krippendorff

        table = pd.read_csv(tables / "dsg_likert.ratings.csv")
        rows = pd.DataFrame(
            {"unit": table["item"] + table["model"], "rater": table["rater"], "value": table["rating"]}
        )
        found = rater_agreement(rows, "ordinal", seed=0, resamples=20)
        matrix = rows.pivot(index="rater", columns="unit", values="value").to_numpy(np.float64)
        assert found.figures["alpha_ordinal"].estimate == pytest.approx(
            krippendorff.alpha(matrix, level_of_measurement="ordinal"), abs=1e-9
        )

    def test_three_raters(self, tables: Path) -> None:
        from sklearn.metrics import cohen_kappa_score

        table = pd.read_csv(tables / "imagenhub.ratings.csv")
        rows = pd.DataFrame(
            {"unit": table["item"] + table["model"], "rater": table["rater"], "value": table["semantic"]}
        )
        found = rater_agreement(rows, "ordinal", seed=0, resamples=20)
        both = rows.pivot(index="unit", columns="rater", values="value").dropna()
        own = cohen_kappa_score((both["r1"] * 2).astype(int), (both["r2"] * 2).astype(int), weights="linear")
        assert found.cohen_kappa["r1 / r2"] == pytest.approx(own, abs=1e-9)
