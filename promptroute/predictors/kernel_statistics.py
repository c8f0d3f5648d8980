"""The kernel, and plain statistics of the text, in equal parts."""

from pydantic import Field

from promptroute.core.plain import Section
from promptroute.predictors.base import Predictor
from promptroute.predictors.ensemble import Ensemble
from promptroute.predictors.features import Features
from promptroute.predictors.kernel import Kernel
from promptroute.predictors.ridge import Ridge


def _members(given: Section) -> dict[str, Predictor]:
    seed, counts = given["seed"], Features(embeddings=(), words=False)
    return {"kernel": Kernel(seed=seed), "statistics": Ridge(features=counts, seed=seed)}


class KernelStatistics(Ensemble):
    """The mean of `Kernel` and of ridge regression on the text statistics alone.

    Where a few hundred prompts are learnt from, counts of words, commas, digits and capitals tell more than the states of an
    encoder do; where there are thousands they add nothing (benchmarks/ROUTER_LOG.md).

    Args:
        seed: of both members too.
        members: may be replaced, as those of any `Ensemble`.
    """

    members: dict[str, Predictor] = Field(default_factory=_members, min_length=1)
