"""The kernel, and plain statistics of the text, in equal parts."""

from pydantic import Field

from promptroute.core.plain import Section
from promptroute.predictors.base import Predictor
from promptroute.predictors.ensemble import Ensemble
from promptroute.predictors.kernel import Kernel
from promptroute.predictors.text_statistics import TextStatistics


def _members(given: Section) -> dict[str, Predictor]:
    seed = {"seed": given["seed"]}
    return {"kernel": Kernel.model_validate(seed), "statistics": TextStatistics.model_validate(seed)}


class KernelStatistics(Ensemble):
    """The mean of `Kernel` and of `TextStatistics`.

    Where a few hundred prompts are learnt from, counts of words, commas, digits and capitals tell more than the states of an
    encoder do; where there are thousands they add nothing (benchmarks/ROUTER_LOG.md).

    Args:
        seed: of both members too.
        members: may be replaced, as those of any `Ensemble`.
    """

    members: dict[str, Predictor] = Field(default_factory=_members, min_length=1)
