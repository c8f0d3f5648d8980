"""Load a router folder; predict each model's quality for a prompt; choose."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages.predictors import Predictor, load_predictor
from stages.records import BadInput
from stages.records.batch import PromptBatch
from stages.routing import policies
from stages.routing.calibrate import Calibration, Target
from stages.routing.quality import Quality
from stages.routing.steps import Policy
from stages.store import atomic_path, read_json, write_json
from stages.text import encode_all

FORMAT = 1
# A router folder may come from anywhere, so what it can ask us to build is a closed list.
ENCODERS = ("stages.text.SentenceEncoder", "stages.text.ClipTextEncoder")

KNOBS: tuple[Policy, ...] = ("cost_aware", "cheapest_within")
"""Policies whose knob is chosen on validation."""
POLICIES = (*KNOBS, "best_predicted")
TARGETS: tuple[Target, ...] = ("quality", "cost")


def check_policy(policy: str, target: str, where: str) -> None:
    """Refuse a policy or target that the router doesn't know.

    Raises:
        BadInput: naming `where` and the legal values.
    """
    for name, value, allowed in (("policy", policy, POLICIES), ("target", target, TARGETS)):
        if value not in allowed:
            raise BadInput(f"{where}: {name} {value!r} is unknown; expected one of {', '.join(allowed)}")


@dataclass(frozen=True)
class ModelInfo:
    """One model that can be chosen.

    Attributes:
        name: key.
        label: how people write it.
        cost: dollars per image.
        mean_quality: mean true quality over the prompts that the router was calibrated on.
    """

    name: str
    label: str
    cost: float
    mean_quality: float


@dataclass(frozen=True)
class Decision:
    """The choice for one prompt.

    Attributes:
        prompt: the text as given.
        model: name of the chosen model.
        cost: dollars per image with it.
        quality: model → predicted quality, higher is better, in the unit of the router's score.
        reason: one sentence for people.
    """

    prompt: str
    model: str
    cost: float
    quality: Mapping[str, float]
    reason: str


@dataclass(frozen=True)
class Router:
    """Everything that turns a prompt into a choice.

    Attributes:
        models: m models; columns of every quality matrix stand in this order.
        quality: what quality means.
        predictor: prompts → predicted quality [n, m].
        encoders: encoder name → how to build it (`_target_` and arguments).
        policy: what decides, one of `POLICIES`.
        target: what its knob was chosen for, "quality" or "cost" (see `stages.routing.calibrate.choose`).
        calibrations: policy → target → its knob, chosen on validation. Those that don't decide are kept
            too, so that every policy can be compared on the same prompts.
        about: where it comes from; for people.
    """

    models: Sequence[ModelInfo]
    quality: Quality
    predictor: Predictor
    encoders: Mapping[str, Mapping[str, Any]]
    policy: Policy | Literal["best_predicted"]
    target: Target
    calibrations: Mapping[Policy, Mapping[Target, Calibration]]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the m models."""
        return tuple(model.name for model in self.models)

    @property
    def cost(self) -> np.ndarray:
        """Dollars per image, float64 [m]."""
        return np.array([model.cost for model in self.models])

    @cached_property
    def _loaded(self) -> dict[str, Any]:
        from stages.runtime import build

        return {name: build(config, f"router.encoders.{name}") for name, config in self.encoders.items()}

    def batch(self, prompts: Sequence[str]) -> PromptBatch:
        """Embed prompts with the router's encoders (loaded on first use).

        Raises:
            BadInput: a prompt that is not a text or holds nothing to read; names its position.
        """
        for index, prompt in enumerate(prompts):
            if not isinstance(prompt, str) or not prompt.strip():
                raise BadInput(
                    f"prompt {index + 1} of {len(prompts)} ({prompt!r}) is empty; give a text to draw"
                )
        texts, many = list(prompts), len(prompts) > 1000
        vectors = {name: encode_all(encoder, texts, progress=many) for name, encoder in self._loaded.items()}
        return PromptBatch(texts, vectors)

    def predict(self, prompts: PromptBatch | Sequence[str]) -> np.ndarray:
        """Predicted quality, float64 [n, m], higher is better."""
        batch = prompts if isinstance(prompts, PromptBatch) else self.batch(prompts)
        return self.predictor.predict(batch)

    def choose(self, predicted: np.ndarray) -> np.ndarray:
        """The policy's choice, int64 [n], for predicted quality [n, m]."""
        if self.policy == "best_predicted":
            return policies.best_predicted(predicted, self.cost)
        return self.calibrations[self.policy][self.target].decide(predicted, self.cost)

    def route(self, prompts: Sequence[str]) -> list[Decision]:
        """Choose a model for each prompt.

        Raises:
            BadInput: an empty prompt.
        """
        if not prompts:
            return []
        predicted = self.predict(prompts)
        choice = self.choose(predicted)
        return [
            Decision(
                prompt=prompt,
                model=self.names[chosen],
                cost=self.models[chosen].cost,
                quality=dict(zip(self.names, map(float, row), strict=True)),
                reason=self._reason(row, int(chosen)),
            )
            for prompt, row, chosen in zip(prompts, predicted, choice, strict=True)
        ]

    def _reason(self, row: np.ndarray, chosen: int) -> str:
        best = int(np.argmax(row))
        if chosen == best:
            cheaper = [m.label for m, q in zip(self.models, row, strict=True) if m.cost < self.cost[chosen]]
            rest = (
                ""
                if not cheaper
                else f"; {' and '.join(cheaper)} would cost less but lose more than that saves"
            )
            return f"predicted best{rest}"
        saved = 1 - self.cost[chosen] / self.cost[best]
        return (
            f"predicted {row[best] - row[chosen]:.3g} below the best ({self.models[best].label}), "
            f"for {saved:.0%} less"
        )

    def save(self, folder: Path | str, predictor: Path | str) -> None:
        """Write the router folder; `predictor` is the folder of the already saved predictor.

        The folder holds JSON and safetensors alone, and is replaced whole.
        """
        with atomic_path(folder) as temporary:
            shutil.copytree(predictor, temporary / "predictor")
            write_json(
                temporary / "router.json",
                {
                    "format": FORMAT,
                    "models": [asdict(model) for model in self.models],
                    "quality": self.quality.to_json(),
                    "encoders": self.encoders,
                    "policy": self.policy,
                    "target": self.target,
                    "calibrations": {
                        policy: {target: asdict(one) for target, one in targets.items()}
                        for policy, targets in self.calibrations.items()
                    },
                    "about": self.about,
                },
                digits=17,
            )

    @classmethod
    def load(cls, folder: Path | str) -> "Router":
        """Read a router folder. Text encoders are loaded when a prompt is first given.

        Raises:
            BadInput: the folder is absent, torn, of another format, or asks for something not allowed.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise BadInput(f"{folder}: no such router folder; `dvc repro` trains one")
        facts = read_json(folder / "router.json")
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise BadInput(
                f"{folder}/router.json: not a router of format {FORMAT}; train it again with `dvc repro`"
            )
        try:
            encoders = facts["encoders"]
            for name, config in encoders.items():
                if config.get("_target_") not in ENCODERS:
                    raise BadInput(
                        f"{folder}/router.json: encoder {name} is {config.get('_target_')!r}; allowed: {ENCODERS}"
                    )
            router = cls(
                models=tuple(ModelInfo(**model) for model in facts["models"]),
                quality=Quality(**facts["quality"]),
                predictor=load_predictor(folder / "predictor"),
                encoders=encoders,
                policy=facts["policy"],
                target=facts["target"],
                calibrations={
                    policy: {target: Calibration(**one) for target, one in targets.items()}
                    for policy, targets in facts["calibrations"].items()
                },
                about=facts["about"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f"{folder}/router.json: incomplete ({error!r}); train it again with `dvc repro`"
            ) from error
        check_policy(router.policy, router.target, f"{folder}/router.json")
        return router
