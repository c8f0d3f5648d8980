"""What a router is made of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from promptroute.core.plain import Section
from promptroute.encoders.base import TextEncoder
from promptroute.predictors.base import Predictor
from promptroute.router.encoders import build_encoders, check_fingerprints
from promptroute.router.types import ModelInfo
from promptroute.routing.base import Policy
from promptroute.routing.quality import Quality


@dataclass(frozen=True)
class Parts:
    """What turns a prompt into a choice, and what lies in a router folder.

    Attributes:
        models: m models; columns of every quality matrix stand in this order.
        quality: what quality means.
        predictor: prompts → predicted quality [n, m].
        encoders: encoder name → the section that it is built from.
        policy: what decides, calibrated.
        compared: name → calibrated policy, to be compared with on the same prompts; none needed to decide.
        about: where it comes from, for people; see `promptroute.router.card`.
        fingerprints: encoder name → fingerprint of the encoder that the predictor was trained with.
        seen: digests of the texts that it was fitted or calibrated on; see `promptroute.router.seen`.
        home: the folder that it was loaded from, which may hold encoders of its own.
        allow: class paths, or packages ending with a dot, that its owner allows besides our own.
    """

    models: Sequence[ModelInfo]
    quality: Quality
    predictor: Predictor
    encoders: Mapping[str, Section]
    policy: Policy
    compared: Mapping[str, Policy] = field(default_factory=dict)
    about: Section = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    seen: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    home: Path | None = None
    allow: Collection[str] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the m models."""
        return tuple(model.name for model in self.models)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the m models."""
        return tuple(model.label for model in self.models)

    @cached_property
    def cost(self) -> np.ndarray:
        """Dollars per image, float64 [m]."""
        return np.array([model.cost for model in self.models])

    @cached_property
    def loaded(self) -> dict[str, TextEncoder]:
        """Give the encoders by name, their weights read, and checked against `fingerprints`."""
        encoders = build_encoders(self.encoders, self.home, self.allow)
        check_fingerprints(encoders, self.encoders, self.fingerprints)
        return encoders
