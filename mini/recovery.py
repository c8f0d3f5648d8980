"""Phrases of the small world's prompts, and what a text says, part by part: recovered prompts judged exactly.

`python -m mini.recovery` writes mini/phrases.txt.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mini.captions import NUMBERS, PLURALS, RELATIONS, Statement
from mini.scenes import BACKGROUNDS, COLOURS, PATTERNS, PLACES, SHAPES, SIZES, TEXTURES
from promptroute.io.files import write_text
from promptroute.runtime.stage import run_stage

FILE = Path("mini/phrases.txt")
PARTS = ("count", "shape", "colour", "size", "texture", "place", "relation", "background", "pattern")
_PATTERN = {"gradient": "shaded"}
Said = Counter[tuple[str, str]]
"""(part, value) → how many of a text's objects have it, as ("colour", "red")."""


def said(statement: Statement) -> Said:
    """Count what a statement says by part; the number of a group's objects where they are several."""
    found: Said = Counter()
    for group in statement.groups:
        for part in ("shape", "colour", "size", "texture", "place"):
            if value := getattr(group, part):
                found[part, value] += 1
        if group.count > 1:
            found["count", str(group.count)] += 1
    for part in ("relation", "background", "pattern"):
        if value := getattr(statement, part):
            found[part, value] += 1
    return found


def phrase_lists() -> dict[str, dict[str, Said]]:
    """Give the lists of phrases, and what each phrase says."""

    def says(**parts: str) -> Said:
        return Counter(dict.fromkeys(parts.items(), 1))

    several = {number: NUMBERS[number][0] for number in (2, 3, 4)}
    return {
        "objects": {
            f"{colour} {shape}": says(colour=colour, shape=shape) for shape in SHAPES for colour in COLOURS
        },
        "numbers": {
            f"{word} {PLURALS.get(shape, shape + 's')}": says(count=str(number), shape=shape)
            for number, word in several.items()
            for shape in SHAPES
        },
        "sizes": {size: says(size=size) for size in SIZES},
        "textures": {texture: says(texture=texture) for texture in TEXTURES},
        "places": {f"at the {place}": says(place=place) for place in PLACES},
        "relations": {f"{relation} it": says(relation=relation) for relation in RELATIONS},
        "backgrounds": {f"{ground} background": says(background=ground) for ground in BACKGROUNDS},
        "patterns": {
            f"{_PATTERN.get(pattern, pattern)} background": says(pattern=pattern) for pattern in PATTERNS
        },
    }


def said_by_phrases(phrases: Iterable[str]) -> Said:
    """Count what phrases of the lists say together; others say nothing.

    A shape that is both named and counted is one shape.
    """
    known = {phrase: what for phrases in phrase_lists().values() for phrase, what in phrases.items()}
    chosen = [known[phrase] for phrase in phrases if phrase in known]
    found: Said = sum(chosen, Counter())
    for one in chosen:
        shape = [key for key in one if key[0] == "shape"]
        counted = any(part == "count" for part, _ in one)
        if counted and shape and any(shape[0] in other for other in chosen if other is not one):
            found[shape[0]] -= 1
    return found


def agreement(pairs: Sequence[tuple[Said, Said]]) -> dict[str, dict[str, float]]:
    """Compare what recovered texts say with what the prompts do, summed over all of them.

    Args:
        pairs: (recovered, true) of each text.

    Returns:
        Part, and "all" → precision, recall and F1, each 0 to 1; 0 where nothing is said.
    """
    sums: Counter[tuple[str, str]] = Counter()
    for recovered, true in pairs:
        for name, found in (("hit", recovered & true), ("said", recovered), ("true", true)):
            for (part, _), count in found.items():
                sums[part, name] += count
                sums["all", name] += count
    return {
        part: _rates({name: sums[part, name] for name in ("hit", "said", "true")}) for part in (*PARTS, "all")
    }


def _rates(counts: Mapping[str, int]) -> dict[str, float]:
    precision = counts["hit"] / max(counts["said"], 1)
    recall = counts["hit"] / max(counts["true"], 1)
    f1 = 2 * counts["hit"] / max(counts["said"] + counts["true"], 1)
    return {"precision": precision, "recall": recall, "f1": f1}


def main() -> str:
    lists = phrase_lists()
    write_text(FILE, "\n".join("\n".join([f"# {name}", *phrases]) for name, phrases in lists.items()) + "\n")
    return f"recovery: {sum(map(len, lists.values()))} phrases in {FILE}"


if __name__ == "__main__":
    run_stage(main)
