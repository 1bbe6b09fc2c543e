"""Candidate pairs to matches: alignment, full-pixel RMS, tiles, relation and reasons. The heart of the program.

    component.py  the pairs of a component, each member against the photo that would be kept
    pair.py       one pair: cheap tests, then full pixels, then registration
    copies.py     two decoded pictures of one frame: equal, copies, or one made from the other
    pixels.py     one frame, pixel against pixel: RMS, worst tile, shift of colour, changed detail, grain
    alignment.py  the map under which one picture shows what the other shows
    tone.py       how one rendition's colours become the other's
    likeness.py   what remains after both
    frames.py     a plain border around a picture, or more of the scene
    relation.py   every threshold, with what it was measured on
    evidence.py   which of two copies came first
    words.py      what was done, in words
    loading.py    pictures decoded in full, once

Promises: a safe relation only for pictures that were compared at full pixels, in every part; an edited version
named apart from a copy, and another moment apart from both. Does not: group, choose or remember.
"""

from __future__ import annotations

from dedup.confirm.component import ComponentJob, ComponentResult, confirm_component

CONFIRM_RECIPE = "confirm 11"
"""Names everything that decides a relation; another recipe measures all pairs again."""

__all__ = ["CONFIRM_RECIPE", "ComponentJob", "ComponentResult", "confirm_component"]
