"""Routers made by hand, small enough for every test."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.predictors.folder import save_predictor
from promptroute.predictors.ridge import Ridge
from promptroute.router.router import Router
from promptroute.router.types import ModelInfo
from promptroute.routing.base import Calibration, Policy
from promptroute.routing.guarantees import Guarantee
from promptroute.routing.policies import BestPredicted, CheapestWithin, CostAware, Guaranteed, Single
from promptroute.routing.quality import Quality
from promptroute.routing.search_policy import Search, SearchFacts
from promptroute.routing.wrappers import WithMargin, WithOodFallback

EXPENSIVE, MIDDLE, CHEAP = 1.0e-3, 4.0e-4, 1.0e-4
MODELS = (
    ModelInfo("expensive", "Expensive", EXPENSIVE, 5.0),
    ModelInfo("middle", "Middle", MIDDLE, 4.8),
    ModelInfo("cheap", "Cheap", CHEAP, 4.5),
)
COST = np.array([EXPENSIVE, MIDDLE, CHEAP])
QUALITY = Quality({"nima": 1.0}, {"nima": True}, {"nima": 0.0}, {"nima": 1.0})
KNOWN = {"hard": [5.0, 4.8, 4.0], "easy": [5.0, 4.95, 4.9], "odd": [4.0, 4.0, 4.5]}
PREDICTED = np.array(list(KNOWN.values()))
FACTS = Calibration(
    prompts=9, quality=5.0, cost=EXPENSIVE, single=0, single_quality=5.0, single_cost=EXPENSIVE,
    mean_quality=[5.0, 4.8, 4.5], reason="by hand",
)  # fmt: skip


class Known:
    """Predict what stands in `KNOWN`, and remember what was asked."""

    kind, models = "known", 3

    def __init__(self) -> None:
        self.asked: list[PromptBatch] = []

    def predict(self, prompts: PromptBatch) -> np.ndarray:
        self.asked.append(prompts)
        return np.array([KNOWN[text] for text in prompts.texts])


def guaranteed(threshold: float | None = -0.15, single: int = 0) -> Guaranteed:
    """A guarantee by hand, within 0.2 with probability 0.9."""
    given = threshold is not None
    words = "within 0.2 of the best single model's quality with probability 0.9: "
    words += (
        "given, by hand" if given else "not given by any cheaper model (by hand), so every prompt goes there"
    )
    found = Guarantee(
        epsilon=0.2, alpha=0.1, single=single, threshold=threshold, given=given, risk=0.0, bound=0.1,
        cheaper_share=0.5, prompts=9, statement=words,
    )  # fmt: skip
    return Guaranteed(
        epsilon=0.2, alpha=0.1, guarantee=found, calibration=FACTS.model_copy(update={"single": single})
    )


def cost_aware(value: float | None = 0.0) -> Policy:
    """λ by hand; None: the target could not be met, so everything goes to the best single model."""
    if value is None:
        because = (
            "no operating point met the target (quality) on validation, so every prompt goes to one model"
        )
        return Single(model=0, because=because, calibration=FACTS.model_copy(update={"reached": False}))
    return CostAware(tradeoff=value, calibration=FACTS)


def policies() -> dict[str, Policy]:
    """A policy of every kind that can decide, by hand."""
    return {
        "cost_aware": cost_aware(90.0),
        "single": cost_aware(None),
        "cheapest_within": CheapestWithin(slack=0.05, calibration=FACTS),
        "best_predicted": BestPredicted(calibration=FACTS),
        "guaranteed": guaranteed(),
        "margin": WithMargin(policy=cost_aware(0.0), margin=0.2, calibration=FACTS),
    }


SPREAD, LAMBDA, LOOK = 0.5, 1000.0, 1e-5
# h(-0.5), h(0) and h(0.5), h(t) = φ(t) - t (1 - Φ(t)): reservation values 0.25 below, at and 0.25 above the mean.
PRICES = np.array([0.6977966, 0.3989423, 0.1977966]) * SPREAD / LAMBDA
PRICED = tuple(replace(model, cost=float(price - LOOK)) for model, price in zip(MODELS, PRICES, strict=True))


def search(covariance: np.ndarray | None = None, noise: np.ndarray | None = None, **settings: Any) -> Search:
    """A search by hand; independent models, λ = 1000, where nothing else is said."""
    facts = SearchFacts(
        prompts=9, coverage=0.9, single_images=noise is not None, first=[0.0, 0.5, 0.5], images=[0.75, 0.25]
    )
    own = Search(**{"tradeoff": LAMBDA, "look": LOOK, "facts": facts, "calibration": FACTS, **settings})
    known = SPREAD**2 * np.eye(3) if covariance is None else covariance
    return own.with_arrays({"covariance": known, **({} if noise is None else {"noise": noise})})


def router(policy: Policy | None = None, **changes: Any) -> Router:
    """A router that knows three prompts."""
    given = {
        "models": MODELS,
        "quality": QUALITY,
        "predictor": Known(),
        "encoders": {},
        "policy": policy or cost_aware(),
    }
    return Router(**{**given, **changes})


UNIT = np.eye(3, dtype=np.float32)


class Axes:
    """Stand in for an encoder: where a prompt points. The first two columns are an inner layer."""

    batch_size = 8
    description: ClassVar[dict[str, Any]] = {"dim": 5}
    where: ClassVar[dict[str, np.ndarray]] = {"hard": UNIT[0], "easy": UNIT[0], "odd": UNIT[2]}

    def fingerprint(self) -> dict[str, Any]:
        return {"class": "axes"}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([np.concatenate([[7.0, 7.0], self.where[text]]) for text in texts]).astype(np.float32)


AXES = {"axes": {"_target_": "promptroute.encoders.sentence.SentenceEncoder", "model": "axes"}}


def with_fallback(policy: Policy) -> WithOodFallback:
    """A fallback that knows the first axis alone."""
    fitted = WithOodFallback(policy=policy, neighbours=1, threshold=0.5, encoder="axes", calibration=FACTS)
    return fitted.with_arrays({"rows": UNIT[:1]})


def training(n: int = 60) -> tuple[PromptBatch, np.ndarray]:
    """n prompts and their quality [n, 3]: the third model is best at robots."""
    random = np.random.default_rng(0)
    texts = [f"{random.choice(['a robot', 'a sheep', 'an oil painting'])} number {i}" for i in range(n)]
    quality = 5 + random.normal(size=(n, 3))
    quality[:, 2] += ["robot" in text for text in texts]
    return PromptBatch(texts), quality


def fitted() -> tuple[Ridge, np.ndarray, np.ndarray]:
    """A predictor that has learnt something, with what it predicts for its own prompts, and what was observed."""
    prompts, quality = training()
    predictor = Ridge(alphas=[10.0]).fit(prompts, quality)
    return predictor, predictor.predict(prompts), quality


def saved_router(folder: Path, policy: Policy | None = None, **changes: Any) -> tuple[Router, Path]:
    """Save a trained router below `folder`; its policy is calibrated on what was learnt."""
    predictor, predicted, quality = fitted()
    own = router(
        policy or CostAware().calibrate(predicted, quality, COST),
        predictor=predictor,
        quality=Quality({"nima": 1 / 3, "clip": 2.0}, {"nima": True, "clip": False}, {"nima": 0.1, "clip": -7.3}, {"nima": 3e-7, "clip": 1.7}),
        compared={"within": CheapestWithin(target="cost").calibrate(predicted, quality, COST)},
        about={"cost": {"rule": "by hand"}},
        **changes,
    )  # fmt: skip
    save_predictor(predictor, folder / "predictor")
    own.save(folder / "router", predictor=folder / "predictor")
    return own, folder / "router"
