"""Load a router folder; predict each model's quality for a prompt; choose."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self, cast

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.text import short
from promptroute.encoders.base import encode_all
from promptroute.router.looking import Looker, Recent, Seen, seen_scores, steps
from promptroute.router.parts import Parts
from promptroute.router.storage import load, save
from promptroute.router.types import Asked, Assessment, Decision, Next, check_prompts
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
        return self.predictor.predict(batch)

    def assess(self, prompts: PromptBatch | Sequence[str], policy: Policy | None = None) -> Assessment:
        """Predict quality, and tell which prompts are out-of-distribution for the policy (the router's own)."""
        batch = prompts if isinstance(prompts, PromptBatch) else self.batch(prompts)
        ood = (policy or self.policy).out_of_distribution(batch.embeddings)
        return Assessment(self.predictor.predict(batch), np.zeros(len(batch), bool) if ood is None else ood)

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
        asked = self.asked(models, policy, tradeoff, slack)
        return self.decide(prompts, self.assess(prompts, asked.policy), asked)

    def asked(
        self,
        models: Sequence[str] | None = None,
        policy: Policy | None = None,
        tradeoff: float | None = None,
        slack: float | None = None,
    ) -> Asked:
        """Return how a request decides; see `route` for its arguments and what is refused."""
        if sum(value is not None for value in (policy, tradeoff, slack)) > 1:
            raise UserError("policy, tradeoff and slack are ways to decide; give one of them, not both")
        if tradeoff is not None:
            policy = CostAware(tradeoff=tradeoff)
        elif slack is not None:
            policy = CheapestWithin(slack=slack)
        return Asked(policy or self.policy, None if models is None else self._columns(models))

    def decide(
        self, prompts: Sequence[str], assessment: Assessment, asked: Asked | None = None
    ) -> list[Decision]:
        """Decide for n prompts that `assess` has seen, as `asked` says; None: the router's own way."""
        policy, allowed = asked or self.asked()
        choice = policy.choose(assessment.quality, self.cost, allowed=allowed, ood=assessment.ood)
        columns = range(len(self.models)) if allowed is None else allowed.tolist()
        candidates = Candidates(self.labels, self.cost.tolist(), columns)
        rows = zip(
            prompts, assessment.quality.tolist(), choice.tolist(), assessment.ood.tolist(), strict=True
        )
        return [
            Decision(
                prompt=prompt,
                model=self.names[chosen],
                cost=self.models[chosen].cost,
                quality=dict(zip(self.names, row, strict=True)),
                reason=policy.explain(row, chosen, candidates, ood=away),
            )
            for prompt, row, chosen, away in rows
        ]

    def next(self, prompt: str, seen: Seen | None = None, *, models: Sequence[str] | None = None) -> Next:
        """Say what to do next for a prompt, after a look at the images that it has: generate with which model, or stop.

        Nothing is remembered of a prompt but what is predicted for it, so each call tells all that was seen:

            while (step := router.next(prompt, seen)).model:
                seen[step.model] = score(generate(step.model, prompt))
            deliver(step.keep)

        Args:
            prompt: the text.
            seen: model → quality of its image in the unit of the router's score, or its scores by their full names;
                None where the image failed or was withheld: its price is spent, and its model not asked again. A list
                of these where the policy asks a model for several images.
            models: names that may be asked; all where None.

        Raises:
            UserError: the router's policy decides before it sees an image; an empty prompt, or one that is no text; in
                `seen` an unknown model or score, or a score that is no finite number; an unknown model, or none.
        """
        scores = self.looked({} if seen is None else seen)
        allowed = self.asked(models).allowed
        check_prompts([prompt])
        if (quality := self._recent.get(prompt)) is None:
            quality = self.predict([prompt])[0]
            self._recent.add(prompt, quality)
        return self.steps(quality[None], scores[None], allowed)[0]

    @property
    def looker(self) -> Looker:
        """Give the router's policy.

        Raises:
            UserError: it doesn't look at images.
        """
        if not self.policy.looks:
            raise UserError(
                f"the policy {self.policy.name} decides before it sees an image, so there is no next one; ask for a "
                f"choice, or train a router with a policy that looks, as search"
            )
        return cast(Looker, self.policy)

    def looked(self, seen: Seen) -> np.ndarray:
        """Return the quality of the images that a prompt has, as `steps` takes them, [images · m]; see `next`."""
        return seen_scores(seen, self.names, self.quality, self.looker.images)

    def steps(self, quality: np.ndarray, scores: np.ndarray, allowed: np.ndarray | None = None) -> list[Next]:
        """Say what to do next for n prompts of predicted quality [n, m] and images as `looked` gives them."""
        view = self.looker.view(quality, scores, self.cost, allowed=allowed)
        return steps(view, scores, self.looker.prices(self.cost), self.names, self.labels)

    @cached_property
    def _recent(self) -> Recent:
        return Recent()

    def _columns(self, models: Sequence[str]) -> np.ndarray:
        if unknown := [name for name in models if name not in self.names]:
            raise UserError(f"model {short(unknown[0])} is unknown; expected some of {', '.join(self.names)}")
        if not len(models):
            raise UserError(
                f"models is empty, so nothing can be chosen; expected some of {', '.join(self.names)}"
            )
        return np.array([column for column, name in enumerate(self.names) if name in models])
