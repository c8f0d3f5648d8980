"""Small routing problems for the tests of this room."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

# CEMS, Table 2 by equation (4): SDXL-Turbo, SD-Turbo, aMUSEd, TAESD, in dollars per image.
TABLE_2 = np.array([1.0266687e-4, 1.466670e-5, 3.2600025e-5, 1.0586687e-4])


@st.composite
def problems(draw: st.DrawFn, prompts: int = 6, models: int = 4, least: int = 1) -> Any:
    """Make (quality [n, m], cost [m]) with n <= `prompts`, m <= `models`, and many ties in both."""
    n, m = draw(st.integers(least, prompts)), draw(st.integers(1, models))
    # Multiples of an eighth: sums and differences are exact, so that ties are ties.
    quality = draw(hnp.arrays(np.float64, (n, m), elements=st.integers(-16, 16).map(lambda k: k / 8)))
    cost = draw(hnp.arrays(np.float64, (m,), elements=st.integers(1, 12).map(lambda k: k / 4)))
    return quality, cost


def simulated(n: int, seed: int, skill: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predicted and true quality [n, 4] and Table 2's cost; `skill` is their correlation."""
    rng = np.random.default_rng(seed)
    means = np.array([0.5, 0.2, 0.0, 0.4])
    signal, rest = rng.normal(size=(n, 4)), rng.normal(size=(n, 4))
    true = means + skill * signal + np.sqrt(1 - skill**2) * rest
    return means + skill * signal, true, TABLE_2
