"""What a study's images take, before any of them is generated."""

from collections.abc import Mapping, Sequence

from promptroute.core.plain import Section
from promptroute.generators.base import build_generator
from promptroute.io.images import ImageCache
from promptroute.runtime.preflight import Images, check_once


def planned(
    models: Mapping[str, Section],
    texts: Sequence[str],
    prompts: int,
    seeds: Sequence[int],
    device: str,
    prices: Mapping[str, float],
) -> dict[str, Images]:
    """Work out what each model's images take; each model is checked, once.

    Args:
        models: name → section of `models`.
        texts: the prompts that are known, for what the cache has.
        prompts: how many there will be.
        seeds: each once.
        device: torch device.
        prices: model → dollars an image, where that is known.

    Raises:
        UserError: a model can't generate what is asked.
    """
    work = {}
    for name, section in models.items():
        generator = build_generator(section["generator"], f"params.yaml: models.{name}.generator", device)
        kept = ImageCache.of(generator.fingerprint()).keys()
        work[name] = Images(
            prompts * len(seeds),
            check_once(generator, generator.check),
            (section.get("profile") or {}).get("seconds"),
            sum((text, seed) in kept for text in texts for seed in seeds),
            prices.get(name),
        )
    return work
