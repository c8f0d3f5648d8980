"""The model card of a router folder: what stands in its README.md."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promptroute.router.settings import KNOBS

if TYPE_CHECKING:
    from promptroute.router.router import Router


def model_card(
    router: "Router", encoders: Mapping[str, Mapping[str, Any]], fingerprints: Mapping[str, str]
) -> str:
    """Markdown for people who are handed the folder alone.

    Args:
        router: what the folder holds. Of `router.about` the card reads, where they are there: `predictor`
            (dotted path), `note` (what a reader must know of the data), `cost` and `split` (their settings), `prompts` (side of the split → how many),
            `data` (what was read → list of {path, sha256, rows}), `files` (file → its SHA-256).
        encoders: encoder name → its description; fingerprints: encoder name → its fingerprint.
    """
    about, quality = router.about, router.quality
    scores = " + ".join(
        f"{weight:g} · {'' if quality.higher_is_better[name] else '-'}{name}"
        for name, weight in quality.weights.items()
    )
    parts = [
        "# A promptroute router",
        f"For a prompt it predicts how well each of {len(router.models)} text-to-image models would draw it, and "
        "chooses one by predicted quality and cost. It is made for choosing among these models at the settings "
        "below, and nothing else.",
        "```python\nfrom promptroute.router import Router\n\n"
        'Router.load("this folder").route(["a red car and a white sheep"])\n```',
        "## Models",
        _table(
            ("model", "name", "$ per 1000 images", "mean quality on validation"),
            [(m.name, m.label, f"{1000 * m.cost:.4f}", f"{m.mean_quality:.4f}") for m in router.models],
        ),
        f"Cost rule: `{_plain(about.get('cost'))}`. Prices are part of the folder: they don't follow the market.",
        "## Quality",
        f"Higher is better: {scores}. "
        + (
            "Each score counts in its own unit."
            if all(quality.spread[name] == 1 and quality.offset[name] == 0 for name in quality.weights)
            else f"Each score is scaled as (score - offset) / spread, fitted on the training prompts: "
            f"`{_plain(quality.to_json())}`."
        ),
        "## Choice",
        (
            f"Policy `{router.policy}` for the target `{router.target}`. "
            if router.policy in KNOBS
            else f"Policy `{router.policy}`. "
        )
        + "Knobs, and mean quality and cost with them on "
        "the validation prompts that they were chosen on (figures on prompts unseen until then are those of "
        "`stages.evaluate`):",
        _table(
            ("policy", "target", "knob", "quality", "$ per 1000 images", "best single model's", "its $"),
            [
                (
                    policy,
                    target,
                    "none: best single model" if one.knob is None else f"{one.knob:.6g}",
                    f"{one.quality:.4f}",
                    f"{1000 * one.cost:.4f}",
                    f"{one.single_quality:.4f}",
                    f"{1000 * one.single_cost:.4f}",
                )
                for policy, targets in router.calibrations.items()
                for target, one in targets.items()
            ],
        ),
        *_careful(router),
        "## Predictor",
        f"`{about.get('predictor', type(router.predictor).__name__)}`, in `predictor/`. "
        + ("It reads the text alone." if not encoders else "It reads the text and these encoders' vectors:"),
    ]
    if encoders:
        rows = []
        for name, facts in encoders.items():
            revision = facts.get("revision") or "not pinned"
            rows.append((name, facts.get("model"), revision, facts.get("dim"), f"`{fingerprints[name]}`"))
        parts.append(_table(("encoder", "model", "revision", "width", "fingerprint"), rows))
        parts.append(
            "The encoders' weights are not in this folder, but for static token vectors, which are in `encoders/`. "
            "They are read from where their names say, and refused where their fingerprint (of weights and "
            "settings) is another."
        )
    parts.append("## Data")
    if about.get("note"):
        parts.append(f"Note: {_cell(about['note'])}.")
    if prompts := about.get("prompts"):
        counts = ", ".join(f"{count} {side}" for side, count in prompts.items())
        parts.append(f"Prompts: {counts}; split by `{_plain(about.get('split'))}`.")
    sources = {
        (file["path"], file["rows"], file["sha256"])
        for files in (about.get("data") or {}).values()
        for file in files
    }
    if sources:
        parts.append(_table(("file read", "rows", "SHA-256"), sorted(sources)))
    if files := about.get("files"):
        parts.append(_table(("file of the study", "SHA-256"), sorted(files.items())))
    if not prompts and not sources and not files:
        parts.append("Not recorded.")
    parts += [
        "Prompts and scores belong to their publishers, under the terms of each source. The predictor's files may "
        "hold words of the training prompts and vectors made of them: look at those terms before you pass it on.",
        "## Limits",
        "- Quality is what the scores above measure, no more: not safety, fairness, or whether text is spelt right.\n"
        "- Predictions hold for prompts like the training prompts, and for the models' versions and settings that "
        "were scored. For other languages, much longer prompts or another domain, evaluate again first.\n"
        "- The knobs were chosen on a finite sample: on new prompts quality and cost differ a little either way.\n"
        "- Prompts are not stored, filtered or moderated.",
    ]
    return "\n\n".join(parts) + "\n"


def _careful(router: "Router") -> list[str]:
    """What holds the choice back: margin, guarantee, fallback."""
    parts = []
    favour = max(
        (one.favour for targets in router.calibrations.values() for one in targets.values()), default=0
    )
    if favour:
        parts.append(
            f"Margin: the best single model is left only for a predicted gain above {favour:g}, in units of "
            "quality. The knobs were chosen without it, the figures beside them are with it."
        )
    if (promise := router.guarantee) is not None:
        model = router.models[promise.single].label
        parts.append(
            f"Guarantee, against {model}: {promise.statement}."
            + (
                f" A cheaper model is taken where it is predicted more than {promise.threshold:+.4g} above {model}. "
                f"On the calibration prompts at most {promise.risk:.2%} fell shorter than allowed. It comes from "
                "conformal risk control (arXiv 2208.02814), so it holds on average over prompts like the training "
                "prompts: not for each prompt, for each kind of prompt, or for a choice among some of the models. "
                "Where the predictor learnt from the calibration prompts too (`kernel`), its leave-one-out "
                "predictions stand in for those of a fit without them, and the guarantee is approximate."
                if promise.given
                else ""
            )
        )
    if (fallback := router.fallback) is not None:
        parts.append(
            f"Fallback: a prompt farther from its {fallback.neighbours} nearest training prompts than all but "
            f"{fallback.share:.1%} of the validation prompts (1 - mean cosine above {fallback.threshold:.4f}, by "
            f"the encoder {fallback.encoder}) goes to {router.models[fallback.safest].label}, the best single "
            "model. The figures above are without it."
        )
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _plain(value: Any) -> str:
    """Settings on one line, without what would end the code span around them."""
    return json.dumps(value, ensure_ascii=False).replace("`", "'")
