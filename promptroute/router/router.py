"""Load a router folder; predict each model's quality for a prompt; choose."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.text import short
from promptroute.encoders.base import encode_all
from promptroute.router.parts import Parts
from promptroute.router.storage import load, save
from promptroute.router.types import Assessment, Decision, check_prompts
from promptroute.routing.base import Candidates, Policy
from promptroute.routing.policies import CheapestWithin, CostAware


@dataclass(frozen=True)
class Router(Parts):
    """What turns a prompt into a choice: predict each model's quality, then let the policy choose."""

    @classmethod
    def load(cls, folder: Path | str, allow: Collection[str] = ()) -> "Router":
        """Read a router folder. Text encoders are loaded when a prompt is first given, or by `Router.load(folder).warm()`.

        Args:
            folder: what `save` wrote.
            allow: class paths, or packages ending with a dot, that it may name besides our own.

        Raises:
            UserError: the folder is absent, corrupt, of another format, or names a class that is not allowed.
        """
        return load(cls, Path(folder), allow)

    def save(self, folder: Path | str, predictor: Path | str) -> None:
        """Write the router folder, replaced whole; `predictor` is the folder of the already saved predictor.

        Raises:
            UserError: an encoder can't be loaded, so that its fingerprint is not known.
        """
        save(self, Path(folder), Path(predictor))

    def warm(self) -> Self:
        """Load everything that a first prompt would, so that none has to wait, and faults show now; return itself.

        Raises:
            UserError: an encoder can't be loaded, or is not the encoder that the predictor was trained with.
        """
        self.route(["a red car and a white sheep"])
        return self

    def batch(self, prompts: Sequence[str]) -> PromptBatch:
        """Embed prompts with the router's encoders (loaded on first use).

        Raises:
            UserError: see `check_prompts`.
        """
        check_prompts(prompts)
        texts, many = list(prompts), len(prompts) > 1000
        vectors = {name: encode_all(encoder, texts, progress=many) for name, encoder in self.loaded.items()}
        return PromptBatch(texts, vectors)

    def predict(self, prompts: PromptBatch | Sequence[str]) -> np.ndarray:
        """Predict quality, float64 [n, m], higher is better."""
        batch = prompts if isinstance(prompts, PromptBatch) else self.batch(prompts)
        return self._finite(batch)

    def _finite(self, batch: PromptBatch) -> np.ndarray:
        predicted = self.predictor.predict(batch)
        if not np.isfinite(predicted).all():
            raise UserError("the predictor gives quality that is not finite; train it again")
        return predicted

    def assess(self, prompts: PromptBatch | Sequence[str], policy: Policy | None = None) -> Assessment:
        """Predict quality, and tell which prompts are out-of-distribution for the policy (the router's own)."""
        batch = prompts if isinstance(prompts, PromptBatch) else self.batch(prompts)
        ood = (policy or self.policy).out_of_distribution(batch.embeddings)
        return Assessment(self._finite(batch), np.zeros(len(batch), bool) if ood is None else ood)

    def route(
        self,
        prompts: Sequence[str],
        *,
        models: Sequence[str] | None = None,
        policy: Policy | None = None,
        tradeoff: float | None = None,
        slack: float | None = None,
    ) -> list[Decision]:
        """Choose a model for each prompt.

        Args:
            prompts: n texts.
            models: names that may be chosen; all where None.
            policy: what decides this once, calibrated; the router's own where None.
            tradeoff: λ in quality per dollar, 0 or more: decide by `CostAware` with it, this once.
            slack: ε in quality, 0 or more: decide by `CheapestWithin` with it, this once.

        Raises:
            UserError: an empty prompt, or one that is no text; more than one of policy, tradeoff and slack; a
                tradeoff or slack below 0; an unknown model, or none.
        """
        if not len(prompts):
            return []
        policy = self._deciding(policy, tradeoff, slack)
        quality, ood = self.assess(prompts, policy)
        return self.decide(prompts, quality, ood=ood, models=models, policy=policy)

    def _deciding(self, policy: Policy | None, tradeoff: float | None, slack: float | None) -> Policy:
        """Return the policy that a request asks for; the router's own where it asks for none."""
        asked = [value for value in (policy, tradeoff, slack) if value is not None]
        if len(asked) > 1:
            raise UserError("policy, tradeoff and slack are ways to decide; give one of them, not both")
        if tradeoff is not None:
            return CostAware(tradeoff=tradeoff)
        if slack is not None:
            return CheapestWithin(slack=slack)
        return policy or self.policy

    def choose(
        self,
        quality: np.ndarray,
        *,
        ood: np.ndarray | None = None,
        models: Sequence[str] | None = None,
        policy: Policy | None = None,
        tradeoff: float | None = None,
        slack: float | None = None,
    ) -> np.ndarray:
        """Return the column chosen for each prompt, int64 [n]; arguments as of `decide`."""
        allowed = None if models is None else self._columns(models)
        deciding = self._deciding(policy, tradeoff, slack)
        return deciding.choose(quality, self.cost, allowed=allowed, ood=ood)

    def decide(
        self,
        prompts: Sequence[str],
        quality: np.ndarray,
        *,
        ood: np.ndarray | None = None,
        models: Sequence[str] | None = None,
        policy: Policy | None = None,
        tradeoff: float | None = None,
        slack: float | None = None,
    ) -> list[Decision]:
        """Decide as `route` for prompts that `assess` has seen.

        Args:
            prompts: n texts.
            quality: predicted [n, m].
            ood: which are out-of-distribution, bool [n].
            models, policy, tradeoff, slack: see `route`.
        """
        policy = self._deciding(policy, tradeoff, slack)
        choice = self.choose(quality, ood=ood, models=models, policy=policy)
        columns = range(len(self.models)) if models is None else self._columns(models).tolist()
        candidates = Candidates(self.labels, self.cost.tolist(), columns)
        far = [False] * len(choice) if ood is None else ood.tolist()
        return [
            Decision(
                prompt=prompt,
                model=self.names[chosen],
                cost=self.models[chosen].cost,
                quality=dict(zip(self.names, row, strict=True)),
                reason=policy.explain(row, chosen, candidates, ood=away),
            )
            for prompt, row, chosen, away in zip(prompts, quality.tolist(), choice.tolist(), far, strict=True)
        ]

    def _columns(self, models: Sequence[str]) -> np.ndarray:
        if unknown := [name for name in models if name not in self.names]:
            raise UserError(f"model {short(unknown[0])} is unknown; expected some of {', '.join(self.names)}")
        if not len(models):
            raise UserError(
                f"models is empty, so nothing can be chosen; expected some of {', '.join(self.names)}"
            )
        return np.array([column for column, name in enumerate(self.names) if name in models])
