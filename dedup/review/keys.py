"""The key table: what each key does. The page acts by it, and its legend is made of it."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """One thing that can be done by key."""

    keys: tuple[str, ...]
    """As `KeyboardEvent.key` says them."""
    action: str
    """What the page calls it."""
    words: str
    section: str
    """Where the legend lists it."""


KEYS = (
    Key(("j", "ArrowDown"), "next", "next group", "Groups"),
    Key(("k", "ArrowUp"), "previous", "previous group", "Groups"),
    Key(("Enter",), "open", "open the group", "Groups"),
    Key(("Escape",), "close", "back to the list", "Groups"),
    Key(("o",), "next-open", "next group that is not decided", "Groups"),
    Key(("ArrowRight", "]"), "photo-next", "next photo of the group", "Photos"),
    Key(("ArrowLeft", "["), "photo-previous", "previous photo of the group", "Photos"),
    Key(("p",), "pick", "keep this one, the others may go", "Decide"),
    Key(("x",), "goes", "this one may go", "Decide"),
    Key(("s",), "stays", "keep this one as well", "Decide"),
    Key(("b",), "both", "keep all of them", "Decide"),
    Key(("n",), "apart", "not duplicates, never show them together again", "Decide"),
    Key(("l",), "later", "later", "Decide"),
    Key(("u",), "undo", "take back the last decision", "Decide"),
    Key(("Backspace",), "clear", "take back all that was said about this group", "Decide"),
    Key(("1",), "side", "side by side", "Compare"),
    Key(("2", " "), "blink", "blink between the two", "Compare"),
    Key(("3",), "slider", "slider between the two", "Compare"),
    Key(("4", "d"), "difference", "where they differ", "Compare"),
    Key(("+", "="), "zoom-in", "zoom in", "Compare"),
    Key(("-",), "zoom-out", "zoom out", "Compare"),
    Key(("0",), "zoom-fit", "whole picture", "Compare"),
    Key(("z",), "zoom-place", "go to the changed place", "Compare"),
    Key((",",), "slider-left", "move the slider to the left", "Compare"),
    Key((".",), "slider-right", "move the slider to the right", "Compare"),
    Key(("f",), "filter", "filters", "Page"),
    Key(("P",), "plan", "the plan", "Page"),
    Key(("t",), "theme", "light or dark", "Page"),
    Key(("?",), "help", "this list", "Page"),
)
"""Letters for what is said about photos, digits for ways to look at them."""
