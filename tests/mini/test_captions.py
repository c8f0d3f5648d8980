"""Captions: what they state is true of their scenes and said in their words."""

from dataclasses import asdict

import numpy as np
import pytest
import yaml
from hypothesis import given, settings

from mini.captions import (
    LAYOUTS,
    NUMBERS,
    PLURALS,
    PROMPT_SETS,
    RELATIONS,
    WORDS,
    Caption,
    caption_from_plain,
    sample_captions,
)
from mini.checker import check
from mini.scenes import BACKGROUNDS, COLOURS, PATTERNS, PLACES, SHAPES, SIZES, TEXTURES, place_of
from mini.write_prompts import read_prompts
from tests.mini.helpers import any_caption


@given(any_caption)
@settings(max_examples=300, deadline=None)
def test_statements_hold_in_scene(caption: Caption) -> None:
    assert all(claim.correct for claim in check(caption.statement, caption.scene))
    assert sum(group.count for group in caption.statement.groups) == len(caption.scene.objects)


@given(any_caption)
@settings(max_examples=200, deadline=None)
def test_statements_are_worded(caption: Caption) -> None:
    text = caption.text.lower()
    said = [caption.statement.background, caption.statement.pattern, caption.statement.relation]
    for group in caption.statement.groups:
        said += [group.colour, group.size, group.texture]
    for key in filter(None, said):
        opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}.get(
            key, key
        )
        assert any(word in text for word in (*WORDS[key], *WORDS[opposite])), (key, text)


def test_inverse_relation() -> None:
    """The inverse sentence shape: "A with B under it" states that A is above B."""
    found = 0
    for caption in sample_captions("relations", 400, seed=5):
        if " with " in caption.text and caption.statement.relation == "above":
            assert any(f" {word} it" in caption.text for word in WORDS["below"])
            found += 1
    assert found > 5


def test_sample_lengths_and_prefix() -> None:
    words = {
        name: np.mean([len(c.text.split()) for c in sample_captions(name, 200, 0)]) for name in PROMPT_SETS
    }
    assert words["labels"] < 4 < words["counts"] < 9 < words["relations"] < 20 < words["narratives"]
    assert min(len(caption.text.split()) for caption in sample_captions("labels", 200, 0)) == 1
    for name in PROMPT_SETS:
        assert sample_captions(name, 30, 7, distinct=True)[:20] == sample_captions(name, 20, 7, distinct=True)
        assert len({caption.text for caption in sample_captions(name, 100, 7, distinct=True)}) == 100


def test_arranged_layouts() -> None:
    def places(name: str, arranged: bool) -> set[tuple[str, ...]]:
        return {
            tuple(place_of(item.x, item.y) for item in caption.scene.objects)
            for caption in sample_captions(name, 100, seed=4, arranged=arranged)
            if not any(group.place for group in caption.statement.groups)
        }

    assert places("labels", True) == places("tags", True) == {LAYOUTS[1]}
    assert places("counts", True) == set(LAYOUTS.values())
    assert places("relations", True) == set(RELATIONS.values())
    assert len(places("labels", False)) == 9
    told = [caption for caption in sample_captions("tags", 100, seed=4) if caption.statement.groups[0].place]
    assert len({caption.statement.groups[0].place for caption in told}) > 5


def test_grammar_covers_vocabulary() -> None:
    for key in (*COLOURS, *BACKGROUNDS, *SHAPES, *SIZES, *TEXTURES, *PATTERNS):
        assert WORDS[key], key
    assert len(PLACES) == 9


@given(any_caption)
@settings(max_examples=200, deadline=None)
def test_spans_say_what_is_stated(caption: Caption) -> None:
    statement, text = caption.statement, caption.text
    ends = [0, *(span.end for span in caption.spans)]
    assert all(span.start >= end for span, end in zip(caption.spans, ends, strict=False)), "in order, apart"
    said = {(span.group, span.part): text[span.start : span.end].lower() for span in caption.spans}
    parts = ("shape", "colour", "size", "texture", "place")
    stated = {
        (index, part)
        for index, group in enumerate(statement.groups)
        for part in parts
        if getattr(group, part)
    }
    stated |= {(None, part) for part in ("relation", "background", "pattern") if getattr(statement, part)}
    assert stated == {key for key in said if key[1] != "count"}
    for (index, part), words in said.items():
        if part == "count":
            assert words in NUMBERS[statement.groups[index or 0].count]
        elif part not in ("place", "relation"):
            key = getattr(statement if index is None else statement.groups[index], part)
            plurals = [PLURALS.get(word, word + "s") for word in WORDS[key]]
            assert words in WORDS[key] or words in plurals


def test_spans_survive_files() -> None:
    caption = sample_captions("tags", 1, seed=2)[0]
    assert caption_from_plain(asdict(caption)) == caption
    assert (
        caption_from_plain({key: value for key, value in asdict(caption).items() if key != "spans"}).spans
        == ()
    )


def test_texts_stay(request: pytest.FixtureRequest) -> None:
    """Keeping spans takes no random number: all committed prompts are made again, byte for byte."""
    folder = request.config.rootpath / "mini"
    wanted = yaml.safe_load((folder / "pipeline" / "params.yaml").read_text())["prompts"]
    for name in PROMPT_SETS:
        rows = read_prompts(name, folder / "prompts")
        sampled = sample_captions(name, wanted["n"], wanted["seed"], distinct=True)
        assert rows == [(caption.text, caption.statement) for caption in sampled]
