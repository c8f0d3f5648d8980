import numpy as np
import pandas as pd
import pytest

from promptroute.core.errors import UserError
from promptroute.report.examples import pick
from promptroute.report.result import Evaluation, Result, Row


def toy(observed: list[list[float]], chosen: list[int], ids: list[str]) -> Result:
    """Return a result of three models at 1, 2 and 3 dollars; the third is the best single model."""
    quality = np.array(observed)
    rows = {f"single_m{k}": Row(quality=0.0, cost=float(k + 1), share={}) for k in range(3)}
    values = Evaluation.model_construct(
        labels={f"m{k}": f"M{k}" for k in range(3)}, best_single="m2", strategies=rows
    )
    return Result(
        values=values, scores={}, data="", frontier=pd.DataFrame(), hull=pd.DataFrame(),
        prompt_ids=np.array(ids), predicted=quality, observed=quality,
        best=quality.argmax(1), chosen=np.array(chosen),
    )  # fmt: skip


PROMPTS = pd.DataFrame({"prompt_id": list("abcde"), "prompt": list("ABCDE"), "set": "S", "count": 1})
RESULT = toy(
    [
        [5.0, 1.0, 5.0],  # a: cheapest, nothing lost
        [1.0, 5.0, 5.0],  # b: cheaper, nothing lost
        [9.0, 1.0, 5.0],  # c: 4 gained
        [1.0, 1.0, 7.0],  # d: 6 lost
        [1.0, 2.0, 7.0],  # e: the best single model, as it should be
    ],
    [0, 1, 0, 0, 2],
    ["a", "b", "c", "d", "e"],
)


def test_rules() -> None:
    found = pick(RESULT, PROMPTS, each=1)
    groups = [(example.group, example.prompt_id) for example in found]
    assert groups[:2] == [
        ("savings", "c"),
        ("losses", "d"),
    ]  # c is as cheap as a, but better; not shown twice
    assert [group for group, _ in groups[2:]] == ["sample", "sample"]
    assert {prompt_id for _, prompt_id in groups[2:]} < {"a", "b", "e"}
    by_id = {example.prompt_id: example for example in found}
    assert by_id["d"].gain == -6.0 and by_id["d"].saving == pytest.approx(1 / 3 - 1)
    assert len({example.prompt_id for example in found}) == len(found) <= 4


def test_joined_by_key() -> None:
    assert pick(RESULT, PROMPTS.sample(frac=1, random_state=3), each=1) == pick(RESULT, PROMPTS, each=1)


def test_missing_prompt() -> None:
    with pytest.raises(UserError, match="no prompt e"):
        pick(RESULT, PROMPTS.iloc[:4])
