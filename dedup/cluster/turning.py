"""A measurement seen from its other picture.

Promises: exact; nothing is measured or estimated anew. Does not: word what it cannot know from there.
"""

from __future__ import annotations

from dataclasses import replace

from dedup.records import Match, Relation
from dedup.records.placing import (
    ORIENTED,
    Window,
    bound_window,
    clip_window,
    compose,
    placement_of,
    turn_placement,
)

_DIRECTION_TURNED = {"left-first": "right-first", "right-first": "left-first", "unknown": "unknown"}
_NAMED = {
    Relation.SAME_BYTES: "the same bytes",
    Relation.SAME_PIXELS: "the same pixels",
    Relation.SAME_PICTURE: "the same picture",
    Relation.EDITED: "an edited version",
    Relation.SIMILAR: "the same scene, another moment",
}


def turn_match(match: Match) -> Match:
    """The same measurement with left and right exchanged.

    The figures are exact. The sentence cannot be turned word by word ("half the size", seen from the other side, is
    "twice"), so it says which way it was measured; a match measured the right way round reads better, and `make_groups`
    asks for it. Boxes are carried over; they bound the place, and may be a little larger.
    """
    figures = match.figures
    placement = placement_of(match)
    turned = turn_placement(placement)
    undo = ORIENTED[placement.orientation]

    def carried(box: Window | None) -> Window | None:
        return None if box is None else clip_window(bound_window(box, compose(placement.map, undo)))

    named = _NAMED[match.relation]
    plain = match.relation in (Relation.SAME_BYTES, Relation.SAME_PIXELS, Relation.SIMILAR)
    return replace(
        match,
        left=match.right,
        right=match.left,
        sentence=named if plain else f"{named}; seen from it, the kept one is: {match.sentence}",
        changes=tuple(replace(change, box=carried(change.box)) for change in match.changes),
        figures=replace(
            figures,
            worst_tile_box=carried(figures.worst_tile_box),
            size_ratio=1 / figures.size_ratio if figures.size_ratio > 0 else 1.0,
            orientation=turned.orientation,
            alignment=turned.map,
        ),
        direction=_DIRECTION_TURNED[match.direction],  # type: ignore[arg-type]  # values are the literals
    )
