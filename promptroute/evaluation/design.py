"""Which images people see, and in which order: every prompt and model alike first, then what tells most."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from promptroute.core.votes import Subject
from promptroute.evaluation.strength import Outcomes, expected_share, fit


def even_pairs(
    images: Mapping[str, Mapping[str, Collection[int]]], models: Sequence[str], seeds: int | None, seed: int
) -> list[Subject]:
    """Lay out every pair of models for every prompt, in rounds.

    A round has each prompt once, in an order of its own, with the pair that was shown least so far, so that whoever
    stops anywhere has seen prompts, models and pairs alike.

    Args:
        images: prompt_id → model → seeds that there are images of.
        models: their names; a pair is in this order.
        seeds: images of each side, 1 or more, the smallest seeds that both have; None: all that both have.
        seed: of the order.

    Returns:
        The tasks. A pair without a common seed is left out.
    """
    random = np.random.default_rng(seed)
    pairs = list(itertools.combinations(models, 2))
    shown: Counter[tuple[str, str]] = Counter()
    single: Counter[str] = Counter()
    left = {prompt: [pair for pair in pairs if _common(images[prompt], pair)] for prompt in images}
    tasks = []
    while any(left.values()):
        for prompt in random.permutation(sorted(name for name, open in left.items() if open)).tolist():
            tie = random.permutation(len(left[prompt])).tolist()
            _, _, _, pair = min(
                (shown[pair], sum(single[model] for model in pair), tie[place], pair)
                for place, pair in enumerate(left[prompt])
            )
            left[prompt].remove(pair)
            shown[pair] += 1
            single.update(pair)
            tasks.append(Subject(prompt, pair, tuple(_common(images[prompt], pair)[:seeds])))
    return tasks


def even_images(
    images: Mapping[str, Mapping[str, Collection[int]]], models: Sequence[str], seeds: int | None, seed: int
) -> list[Subject]:
    """Lay out single images, in rounds of each prompt once, models in turn; arguments as of `even_pairs`."""
    random = np.random.default_rng(seed)
    single = {
        prompt: [(model, s) for model in models for s in sorted(of.get(model, ()))[:seeds]]
        for prompt, of in images.items()
    }
    order = {prompt: random.permutation(len(those)).tolist() for prompt, those in single.items()}
    tasks = []
    for place in range(max(map(len, single.values()), default=0)):
        more = sorted(prompt for prompt, those in single.items() if len(those) > place)
        for prompt in random.permutation(more).tolist():
            model, s = single[prompt][order[prompt][place]]
            tasks.append(Subject(prompt, (model,), (s,)))
    return tasks


def _common(images: Mapping[str, Collection[int]], pair: tuple[str, str]) -> list[int]:
    first, second = (set(images.get(model, ())) for model in pair)
    return sorted(first & second)


def is_swapped(task: str, rater: str, seed: int) -> bool:
    """Tell whether this rater sees the task's first model on the right: as good as a coin, and always the same."""
    return bool(
        hashlib.sha256(f"{seed}\0{rater}\0{task.removesuffix('-again')}".encode()).digest()[0] & 1
    ) ^ (
        task.endswith("-again")  # a repetition shows the sides the other way round
    )


def with_repeats(tasks: Sequence[str], share: float, gap: int = 10) -> list[str]:
    """Put repetitions among tasks: of `share` (0 to 1) of them, each at least `gap` tasks after its first showing."""
    every = round(1 / share) if share > 0 else 0
    order = []
    for place, task in enumerate(tasks, 1):
        order.append(task)
        if every and place % every == 0 and place > gap:
            order.append(f"{tasks[place - 1 - gap]}-again")
    return order


def most_telling(subjects: Sequence[Subject], models: Sequence[str], outcomes: Outcomes) -> list[int]:
    """Order tasks by how much a vote on them would tell: pairs nearest to even, and with the fewest votes, first.

    Args:
        subjects: pairs.
        models: m names.
        outcomes: votes so far over all prompts, [m, m].

    Returns:
        Positions in `subjects`.
    """
    strength, tie = fit(outcomes)
    columns = {model: column for column, model in enumerate(models)}
    votes = outcomes.wins + outcomes.wins.T + outcomes.ties

    def worth(subject: Subject) -> float:
        a, b = (columns[model] for model in subject.models)
        share = float(expected_share(strength[[a, b]], tie)[0])
        return (
            share * (1 - share) / (1 + float(votes[a, b]))
        )  # what a vote takes off the variance of their lead

    return sorted(range(len(subjects)), key=lambda place: (-worth(subjects[place]), place))
