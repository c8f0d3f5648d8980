"""The model card of a router folder: what stands in its README.md."""

import json
from collections.abc import Mapping
from importlib.resources import files

import numpy as np

from promptroute.core.plain import Plain, Section
from promptroute.router.parts import Parts
from promptroute.routing.search_policy import Search

_WIDE, _PAIRS = 8, 5  # models of a matrix of correlations, at most; pairs at each end where there are more


def model_card(router: Parts, encoders: Mapping[str, Section], fingerprints: Mapping[str, str]) -> str:
    """Return Markdown for people who are handed the folder alone.

    Args:
        router: what the folder holds. Of `router.about` the card reads, where they are there: `predictor`
            (dotted path), `note` (what a reader must know of the data), `cost` and `split` (their settings),
            `prompts` (split → how many), `data` (what was read → list of {path, sha256, rows}), `files` (file →
            its SHA-256).
        encoders: encoder name → its description.
        fingerprints: encoder name → its fingerprint.
    """
    from jinja2 import Environment, StrictUndefined

    # Markdown, not HTML: what comes from outside goes through `cell` or `code`.
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {"cell": _cell, "code": _code}
    about, quality = router.about, router.quality
    plain = all(quality.spread[name] == 1 and quality.offset[name] == 0 for name in quality.weights)
    sources = {
        (file["path"], file["rows"], file["sha256"])
        for read in (about.get("data") or {}).values()
        for file in read
    }
    template = files("promptroute.router").joinpath("card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        models=router.models,
        policies={"router": router.policy, **router.compared},
        decides=router.policy.summary(router.labels),
        notes=router.policy.notes(router.labels),
        search=_search(router),
        score=" + ".join(
            f"{weight:g} · {'' if quality.higher_is_better[name] else '-'}{name}"
            for name, weight in quality.weights.items()
        ),
        scaling=None if plain else quality.to_json(),
        predictor=about.get("predictor", type(router.predictor).__name__),
        encoders=encoders,
        fingerprints=fingerprints,
        about=about,
        sources=sorted(sources),
    )


def _search(router: Parts) -> Plain | None:
    """Give what a reader must know of a search besides its notes; None of a policy that doesn't look."""
    policy = router.policy
    if not isinstance(policy, Search) or policy.facts is None:
        return None
    covariance = policy.belief.covariance[: len(router.models), : len(router.models)]
    sd = np.sqrt(np.diag(covariance))
    scale = np.where(sd > 0, sd, 1.0)
    alike = covariance / scale / scale[:, None]
    rows, columns = np.triu_indices(len(sd), 1)
    order = np.argsort(-alike[rows, columns], kind="stable").tolist()
    named = [(router.labels[rows[k]], router.labels[columns[k]], alike[rows[k], columns[k]]) for k in order]
    # A matrix of many models is wider than a page: the pairs at its ends say most.
    pairs = named if len(named) <= 2 * _PAIRS else named[:_PAIRS] + named[-_PAIRS:]
    first = sorted(zip(router.labels, policy.facts.first, strict=True), key=lambda pair: -pair[1])
    return {
        "first": [(label, share) for label, share in first if share > 0],
        "mean_images": sum(many * share for many, share in enumerate(policy.facts.images, 1)),
        "matrix": alike.tolist() if len(sd) <= _WIDE else None,
        "pairs": pairs,
        "sd": sd.tolist(),
        "single_images": policy.facts.single_images,
        **(router.about.get("searched") or {"quality": None, "fresh": None}),
    }


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _code(value: object) -> str:
    """Put settings on one line, without what would end the code span around them."""
    return json.dumps(value, ensure_ascii=False).replace("`", "'")
