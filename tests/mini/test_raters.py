"""The checker as a rater: it votes for what is better, whichever side it stands on."""

from mini.raters import votes
from promptroute.core.votes import Subject
from promptroute.io.votes import Asked

SUBJECTS = [Subject(f"p{n}", ("a", "b"), (0,)) for n in range(40)]


def test_the_better_side() -> None:
    asked = Asked("s", "pairs", "which?", 0, {}, {subject.task("s"): subject for subject in SUBJECTS})
    right = {
        (f"p{n}", model): (n % 3 - 1) * (1.0 if model == "a" else -1.0) for n in range(40) for model in "ab"
    }
    given = list(votes(asked, right))
    assert [answer.lead for answer in given] == [n % 3 - 1 for n in range(40)]
    assert {answer.swapped for answer in given} == {False, True}
