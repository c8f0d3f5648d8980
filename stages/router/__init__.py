"""The trained router: one folder, and prompts in, choices out.

The one room that knows both predictors and routing: it is what `train`, `calibrate` and `evaluate` make,
and what `route` and other people's programs load.
"""

from stages.router.router import Decision, ModelInfo, Router, check_prompts
from stages.router.settings import KNOBS, POLICIES, TARGETS, Settings, check_policy

__all__ = [
    "KNOBS",
    "POLICIES",
    "TARGETS",
    "Decision",
    "ModelInfo",
    "Router",
    "Settings",
    "check_policy",
    "check_prompts",
]
