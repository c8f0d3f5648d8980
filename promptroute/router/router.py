"""Load a router folder; predict each model's quality for a prompt; choose."""

import importlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.encoders.base import TextEncoder, encode_all
from promptroute.encoders.static import StaticEncoder
from promptroute.io.cache import digest
from promptroute.io.files import atomic_path, read_json, write_json
from promptroute.predictors.base import Predictor
from promptroute.predictors.folder import load_predictor
from promptroute.router.card import model_card
from promptroute.router.settings import KNOBS, TARGETS, check_policy
from promptroute.routing import checks, policies
from promptroute.routing.calibrate import Calibration, Target
from promptroute.routing.fallback import Fallback
from promptroute.routing.guarantees import Guarantee, abstain
from promptroute.routing.quality import Quality
from promptroute.routing.steps import Policy

FORMAT = 1
_BROKEN = re.compile("[\x00\ud800-\udfff]")  # a NUL, or half of a surrogate pair
# A router folder may come from anywhere, so what it can ask us to build is a closed list.
ENCODERS = (
    "promptroute.encoders.sentence.SentenceEncoder",
    "promptroute.encoders.clip_text.ClipTextEncoder",
    "promptroute.encoders.static.StaticEncoder",
)
OWN = "encoders"  # where an encoder that travels with the router lies in its folder

FALLBACK = "fallback.safetensors"


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuse what can't be drawn.

    Raises:
        UserError: a prompt that is not a text, holds nothing to read, or is not valid Unicode (a NUL, half
            of a surrogate pair); names its position.
    """
    if isinstance(prompts, str):
        raise UserError(f"the prompts are one text ({_short(prompts)}); give a list of texts")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            fault = "is not text; give a text to draw"
        elif not prompt.strip():
            fault = "is empty; give a text to draw"
        elif _BROKEN.search(prompt):
            fault = "is not valid Unicode text; take out what is none (a NUL, half of a surrogate pair)"
        else:
            continue
        raise UserError(f"prompt {index + 1} of {len(prompts)} ({_short(prompt)}) {fault}")


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
        target: what its knob was chosen for, "quality" or "cost" (see `promptroute.routing.calibrate.choose`).
        calibrations: policy → target → its knob, chosen on validation. Those that don't decide are kept
            too, so that every policy can be compared on the same prompts.
        about: where it comes from, for people; see `promptroute.router.card`.
        fingerprints: encoder name → fingerprint of the encoder that the predictor was trained with. Another
            one's vectors would be read as noise, so an encoder that differs is refused.
        guarantee: what the policy `guaranteed` promises, or that it can't be given; None for other policies.
        fallback: sends prompts unlike the training prompts to the best single model; None: nothing does.
        home: the folder that it was loaded from, which may hold encoders of its own.
    """

    models: Sequence[ModelInfo]
    quality: Quality
    predictor: Predictor
    encoders: Mapping[str, Mapping[str, Any]]
    policy: Policy | Literal["best_predicted", "guaranteed"]
    target: Target
    calibrations: Mapping[Policy, Mapping[Target, Calibration]]
    about: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    guarantee: Guarantee | None = None
    fallback: Fallback | None = None
    home: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the m models."""
        return tuple(model.name for model in self.models)

    @cached_property
    def cost(self) -> np.ndarray:
        """Dollars per image, float64 [m]."""
        return np.array([model.cost for model in self.models])

    @cached_property
    def _loaded(self) -> dict[str, TextEncoder]:
        """The encoders, built, their weights read, and checked against `fingerprints`."""
        encoders = self._build_all()
        for name, expected in self.fingerprints.items():
            found = digest(encoders[name].fingerprint())
            if found != expected:
                raise UserError(
                    f"encoder {name}: the weights or settings of {self.encoders[name].get('model')} on this "
                    f"machine are not those that the router was trained with (fingerprint "
                    f"{found[:12]}, expected {expected[:12] or 'one, but none is recorded'}); "
                    f"install the revision that the router's README names, or train it again"
                )
        return encoders

    def _build_all(self) -> dict[str, TextEncoder]:
        encoders = {}
        for name, config in self.encoders.items():
            own = None if self.home is None else self.home / OWN / name
            encoders[name] = _build(
                name, config if own is None or not own.is_dir() else {**config, "folder": str(own)}
            )
        return encoders

    def warm(self) -> None:
        """Load everything that a first prompt would, so that none has to wait, and faults show now.

        Raises:
            UserError: an encoder can't be loaded, or is not the one that the predictor was trained with.
        """
        self.route(["a red car and a white sheep"])

    def batch(self, prompts: Sequence[str]) -> PromptBatch:
        """Embed prompts with the router's encoders (loaded on first use).

        Raises:
            UserError: see `check_prompts`.
        """
        check_prompts(prompts)
        texts, many = list(prompts), len(prompts) > 1000
        vectors = {name: encode_all(encoder, texts, progress=many) for name, encoder in self._loaded.items()}
        return PromptBatch(texts, vectors)

    def predict(self, prompts: PromptBatch | Sequence[str]) -> np.ndarray:
        """Predicted quality, float64 [n, m], higher is better."""
        batch = prompts if isinstance(prompts, PromptBatch) else self.batch(prompts)
        return self.predictor.predict(batch)

    def unlike(self, prompts: PromptBatch | Sequence[str]) -> np.ndarray:
        """Whether each prompt is too unlike the training prompts for a prediction to count, bool [n].

        Always False without a `fallback`.
        """
        if self.fallback is None:
            return np.zeros(len(prompts), bool)
        batch = prompts if isinstance(prompts, PromptBatch) else self.batch(prompts)
        # Of an encoder that gives inner layers too, the last columns are the sentence embedding.
        vectors = batch.embeddings[self.fallback.encoder][:, -self.fallback.rows.shape[1] :]
        return self.fallback.unlike(vectors)

    def sentence_width(self, encoder: str) -> int:
        """How many of an encoder's columns, the last ones, make the sentence embedding."""
        one = self._loaded[encoder]
        return int(getattr(one, "sentence_width", one.description["dim"]))

    def look(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """`predict` and `unlike` of prompts that are embedded once: float64 [n, m], bool [n]."""
        batch = self.batch(prompts)
        return self.predict(batch), self.unlike(batch)

    def choose(
        self,
        predicted: np.ndarray,
        *,
        tradeoff: float | None = None,
        slack: float | None = None,
        models: Sequence[str] | None = None,
        unlike: np.ndarray | None = None,
    ) -> np.ndarray:
        """The policy's choice, int64 [n], for predicted quality [n, m].

        Args:
            predicted: float64 [n, m].
            tradeoff: λ in quality per dollar, 0 or more: decide by `cost_aware` with it, this once.
            slack: ε in quality, 0 or more: decide by `cheapest_within` with it, this once.
            models: names that may be chosen; all where None.
            unlike: bool [n], see the method of that name: these prompts go to the best single model.
                A prompt is as any other where None, and wherever a knob is given for this once.

        Raises:
            UserError: both knobs at once, a knob below 0 or not a number, an unknown model, or none.
        """
        if tradeoff is not None and slack is not None:
            raise UserError("tradeoff and slack are knobs of different policies; give one of them, not both")
        columns = self._columns(models)
        quality, cost = predicted[:, columns], self.cost[columns]
        if tradeoff is not None:
            return columns[policies.cost_aware(quality, cost, tradeoff=tradeoff)]
        if slack is not None:
            return columns[policies.cheapest_within(quality, cost, slack=slack)]
        if self._single(columns) is not None:
            chosen = np.full(len(predicted), self._safest(columns), np.int64)
        elif self.guarantee is not None:
            place = int(np.flatnonzero(columns == self.guarantee.single)[0])
            threshold = self.guarantee.threshold
            chosen = columns[policies.cheapest_guaranteed(quality, cost, single=place, threshold=threshold)]
        elif self.policy == "best_predicted":
            chosen = columns[policies.best_predicted(quality, cost)]
        else:
            one = self.calibration
            favoured = policies.favoured(predicted, model=one.single, margin=one.favour)
            chosen = columns[one.apply(favoured[:, columns], cost)]
        if unlike is None or self.fallback is None:
            return chosen
        return abstain(chosen, unlike, safest=self._safest(columns))

    @property
    def calibration(self) -> Calibration:
        """That of the policy, which must be one of `KNOBS`."""
        return self.calibrations[self.policy][self.target]  # type: ignore[index]

    def _single(self, columns: np.ndarray) -> str | None:
        """Why all prompts go to one of the models `columns`; None where they don't."""
        if self.policy == "best_predicted":
            return None
        if self.guarantee is not None:
            if not self.guarantee.given:
                return self.guarantee.statement
            if self.guarantee.single in columns:
                return None
            label = self.models[self.guarantee.single].label
            return f"the guarantee is against {label}, which may not be chosen here, so every prompt goes to one model"
        if self.calibration.knob is not None:
            return None
        return f"no knob met the target ({self.target}) on validation, so every prompt goes to one model"

    def _safest(self, columns: np.ndarray) -> int:
        """The best single model if it is among `columns`, or else the best of these by its mean quality."""
        if self.guarantee is not None:
            best = self.guarantee.single
        else:
            best = self.calibration.single if self.fallback is None else self.fallback.safest
        return best if best in columns else int(max(columns, key=lambda j: self.models[j].mean_quality))

    def _columns(self, models: Sequence[str] | None) -> np.ndarray:
        if models is None:
            return np.arange(len(self.models))
        if unknown := [name for name in models if name not in self.names]:
            raise UserError(
                f"model {_short(unknown[0])} is unknown; expected some of {', '.join(self.names)}"
            )
        if not len(models):
            raise UserError(
                f"models is empty, so nothing can be chosen; expected some of {', '.join(self.names)}"
            )
        return np.array([j for j, name in enumerate(self.names) if name in models])

    def route(
        self,
        prompts: Sequence[str],
        *,
        tradeoff: float | None = None,
        slack: float | None = None,
        models: Sequence[str] | None = None,
    ) -> list[Decision]:
        """Choose a model for each prompt; the knobs and `models` are those of `choose`.

        Raises:
            UserError: an empty prompt, or one that is no text; see `batch`; what `choose` refuses.
        """
        if not len(prompts):
            return []
        predicted, unlike = self.look(prompts)
        return self.decide(prompts, predicted, tradeoff=tradeoff, slack=slack, models=models, unlike=unlike)

    def decide(
        self,
        prompts: Sequence[str],
        predicted: np.ndarray,
        *,
        tradeoff: float | None = None,
        slack: float | None = None,
        models: Sequence[str] | None = None,
        unlike: np.ndarray | None = None,
    ) -> list[Decision]:
        """`route` for prompts whose quality [n, m] is predicted already; `unlike` is that of `choose`."""
        choice = self.choose(predicted, tradeoff=tradeoff, slack=slack, models=models, unlike=unlike)
        columns = self._columns(models)
        knob = tradeoff is not None or slack is not None
        names, why = self.names, self._why(columns, knob)
        strange = np.zeros(len(choice), bool) if unlike is None or knob or self.fallback is None else unlike
        away = "too unlike the training prompts to be predicted, so it goes to the best single model"
        return [
            Decision(
                prompt=prompt,
                model=names[chosen],
                cost=self.models[chosen].cost,
                quality=dict(zip(names, row, strict=True)),
                reason=away if sent else why(row, chosen),
            )
            for prompt, row, chosen, sent in zip(
                prompts, predicted.tolist(), choice.tolist(), strange.tolist(), strict=True
            )
        ]

    def _why(self, among: np.ndarray, knob: bool) -> Callable[[list[float], int], str]:
        """What says why: (predicted quality [m], column chosen from `among`) → a sentence."""
        models, columns = self.models, among.tolist()
        single = None if knob else self._single(among)
        saving = knob or self.policy != "best_predicted"
        promise = None if knob else self.guarantee
        favourite = None if knob or self.policy not in KNOBS else self.calibration

        def guaranteed(chosen: int, promise: Guarantee) -> str:
            best = models[promise.single]
            words = f"within {promise.epsilon:g} of {best.label}"
            if chosen == promise.single:
                return f"no cheaper model is predicted well enough to stay {words}"
            share, saved = f"{1 - promise.alpha:.4g} of all prompts", 1 - models[chosen].cost / best.cost
            # The calibration speaks of the choice among all models.
            sure = (
                "calibrated" if len(columns) == len(models) else "calibrated, though for all models together,"
            )
            return f"the cheapest that is {sure} to stay {words} on {share}, for {saved:.0%} less"

        def why(row: list[float], chosen: int) -> str:
            if single is not None:
                return single
            if promise is not None:
                return guaranteed(chosen, promise)
            best = max(columns, key=lambda j: row[j])
            if row[chosen] == row[best]:
                cheaper = [models[j].label for j in columns if models[j].cost < models[chosen].cost]
                if not cheaper or not saving:
                    return "predicted best"
                return (
                    f"predicted best; {' and '.join(cheaper)} would cost less but lose more than that saves"
                )
            lost = f"predicted {row[best] - row[chosen]:.3g} below the best ({models[best].label})"
            if favourite and chosen == favourite.single and row[best] - row[chosen] <= favourite.favour:
                return f"{lost}, which is too little to leave {models[chosen].label}, the best single model"
            return f"{lost}, for {1 - models[chosen].cost / models[best].cost:.0%} less"

        return why

    def save(self, folder: Path | str, predictor: Path | str) -> None:
        """Write the router folder; `predictor` is the folder of the already saved predictor.

        The folder holds JSON, safetensors and a model card for people, and is replaced whole. The encoders'
        weights stay where they are: their fingerprints are written down. A `StaticEncoder` comes along.

        Raises:
            UserError: an encoder can't be loaded, so that its fingerprint is not known.
        """
        from safetensors.numpy import save_file

        encoders = {name: dict(encoder.description) for name, encoder in self._loaded.items()}
        fingerprints = {name: digest(encoder.fingerprint()) for name, encoder in self._loaded.items()}
        with atomic_path(folder) as temporary:
            # out_of_fold.parquet has done its work: it was for choosing the knobs.
            shutil.copytree(
                predictor, temporary / "predictor", ignore=shutil.ignore_patterns("out_of_fold.parquet")
            )
            write_json(
                temporary / "router.json",
                {
                    "format": FORMAT,
                    "models": [asdict(model) for model in self.models],
                    "quality": self.quality.to_json(),
                    "encoders": self.encoders,
                    "fingerprints": fingerprints,
                    "policy": self.policy,
                    "target": self.target,
                    "calibrations": {
                        policy: {target: asdict(one) for target, one in targets.items()}
                        for policy, targets in self.calibrations.items()
                    },
                    "about": self.about,
                    "guarantee": None if self.guarantee is None else asdict(self.guarantee),
                    "fallback": None if self.fallback is None else _facts_of(self.fallback),
                },
                digits=17,
            )
            if self.fallback is not None:
                save_file({"rows": self.fallback.rows}, temporary / FALLBACK)
            for name, encoder in self._loaded.items():
                if isinstance(encoder, StaticEncoder):
                    encoder.save(temporary / OWN / name)
            (temporary / "README.md").write_text(model_card(self, encoders, fingerprints), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> "Router":
        """Read a router folder. Text encoders are loaded when a prompt is first given.

        Raises:
            UserError: the folder is absent, torn, of another format, or asks for something not allowed.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"{folder}: no such router folder; `dvc repro` trains one")
        facts = read_json(folder / "router.json")
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise UserError(
                f"{folder}/router.json: not a router of format {FORMAT}; train it again with `dvc repro`"
            )
        try:
            encoders = facts["encoders"]
            for name, config in encoders.items():
                if config.get("_target_") not in ENCODERS:
                    raise UserError(
                        f"{folder}/router.json: encoder {name} is {config.get('_target_')!r}; "
                        f"nothing but {', '.join(ENCODERS)} may be built, so train it again with `dvc repro`"
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
                fingerprints={name: facts.get("fingerprints", {}).get(name, "") for name in encoders},
                guarantee=Guarantee(**facts["guarantee"]) if facts.get("guarantee") else None,
                fallback=_read_fallback(folder, facts["fallback"]) if facts.get("fallback") else None,
                home=folder,
            )
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise cls._torn(folder, error) from error
        check_policy(router.policy, router.target, f"{folder}/router.json")
        try:
            router._check()
        except (KeyError, TypeError, ValueError) as error:
            raise cls._torn(folder, error) from error
        return router

    @staticmethod
    def _torn(folder: Path, error: Exception) -> UserError:
        return UserError(
            f"{folder}/router.json: not a whole router ({type(error).__name__}: {error}); train it again with "
            f"`dvc repro`"
        )

    def _check(self) -> None:
        """Try the parts on one made-up prompt, so that what doesn't fit together shows before a request does.

        Raises:
            KeyError, TypeError, ValueError: they don't.
        """
        m = len(self.models)
        if self.predictor.models != m or len(set(self.names)) != m:
            raise ValueError(f"{self.predictor.models} models predicted, {list(self.names)} to choose from")
        checks.cost_vector(self.cost, m)
        flat = self.quality.of({name: np.ones((1, m)) for name in self.quality.scores})
        checks.quality_matrix(flat)
        for policy in KNOBS:
            for target in TARGETS:
                self.calibrations[policy][target].decide(flat, self.cost)
        if (self.policy == "guaranteed") != (self.guarantee is not None):
            raise ValueError(f"policy {self.policy!r}, but guarantee {self.guarantee}")
        if self.guarantee is not None:
            self.guarantee.decide(flat, self.cost)
            if self.guarantee.given != (self.guarantee.threshold is not None):
                raise ValueError("a guarantee that is given has a threshold, one that isn't has none")
        if self.fallback is not None:
            checks.column(self.fallback.safest, m, "safest")
            if self.fallback.encoder not in self.encoders:
                raise ValueError(f"fallback by encoder {self.fallback.encoder!r}, of {list(self.encoders)}")
            self.fallback.unlike(np.ones((1, self.fallback.rows.shape[1])))


def _facts_of(fallback: Fallback) -> dict[str, Any]:
    """All of a fallback but its rows."""
    return {
        name: getattr(fallback, name) for name in ("encoder", "neighbours", "threshold", "safest", "share")
    }


def _read_fallback(folder: Path, facts: Mapping[str, Any]) -> Fallback:
    """What `Router.save` wrote.

    Raises:
        ValueError, TypeError, KeyError: it isn't that.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        rows = load_file(folder / FALLBACK)["rows"]
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{FALLBACK}: {error}") from error
    return Fallback(rows=rows, **facts)


def _build(name: str, config: Mapping[str, Any]) -> TextEncoder:
    """An encoder of the closed list; its weights are read when they are first needed.

    Raises:
        UserError: it isn't in the list, or refuses its arguments.
    """
    target = config.get("_target_")
    if target not in ENCODERS:
        raise UserError(f"encoder {name} is {target!r}; allowed: {ENCODERS}")
    module, _, class_name = target.rpartition(".")
    kind = getattr(importlib.import_module(module), class_name)
    try:
        encoder: TextEncoder = kind(**{key: value for key, value in config.items() if key != "_target_"})
    except UserError as error:
        raise UserError(f"encoder {name} can't be built ({error}); train the router again") from error
    return encoder


def _short(value: object) -> str:
    """Quoted, escaped and of bounded length: prompts are other people's text."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
