"""`assert_same_picture` for tests of anything that draws, and the pytest plugin that goes with it.

    from dedup.testing import assert_same_picture

    def test_the_page_looks_as_it_did(page):
        assert_same_picture(page.screenshot(), "tests/pictures/page.png")

    $ pytest --update-pictures      # takes the new pictures for the expected ones, where they differ

Promises: strict by default, since a word that differs on a page is a few hundred pixels of a million: no pixel may
differ by more than two levels; a failure says how many do, by how much and where, and draws it. Does not: need pytest,
or import anything heavy before a picture is compared.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dedup.errors import UsageError

if TYPE_CHECKING:
    from dedup.compare.frames import Frames

__all__ = ["assert_same_picture"]

TOLERANCE_LEVELS = 2.0
"""What rounding in another version of a drawing library moves; the palest grey text on white is 20 levels and more."""
DIFFERENCES = "picture-differences"

Box = tuple[int, int, int, int]


@dataclass(slots=True)
class _Run:
    """What the command line of the test run says."""

    update: bool = False
    differences: str = DIFFERENCES
    updated: list[str] = field(default_factory=list)


_run = _Run()


def assert_same_picture(
    actual: Any,
    expected: str | os.PathLike[str] | bytes | Any,
    tolerance_levels: float = TOLERANCE_LEVELS,
    differing_share: float = 0.0,
    ignore: Sequence[Box] = (),
    difference: str | os.PathLike[str] | None = None,
) -> None:
    """Fail unless a picture is the expected one, pixel by pixel.

    Parameters
    ----------
    actual, expected
        A path, the bytes of a file, a Pillow image, or an array (height, width[, 3 or 4]) of uint8. `expected` is
        mostly a path; with `--update-pictures` a PNG of that name is written where it is missing or differs.
    tolerance_levels
        Difference of a pixel, in any band, up to which it counts as equal; 0 to 255.
    differing_share
        Share of the pixels that may differ by more, 0 to 1. An animated corner is better left to `ignore`.
    ignore
        Windows (left, top, right, bottom) in pixels where anything may stand: a clock, a version.
    difference
        Where to draw the difference on failure; by default a name made of test and picture in the folder that
        `--picture-differences` says (`picture-differences`).

    Raises
    ------
    AssertionError
        If they differ; the message says how many pixels, by how much and where, and names the drawing.
    UsageError
        If something is no picture, or a picture cannot be updated.

    Notes
    -----
    Pictures are compared as they are seen: upright, managed to sRGB, transparency on white and as a fourth band. Those
    of 16 bits keep fractions of a level. Different sizes always differ.
    """
    path = _name(expected)
    if path is not None and not path.exists():
        if not _run.update:
            raise AssertionError(
                f"there is no picture {path} yet; look at the new one and run pytest --update-pictures to keep it"
            )
        _keep(actual, path)
        return
    frames = _frames(actual, expected, tolerance_levels, ignore)
    words = _difference_words(frames, differing_share)
    if not words:
        return
    if _run.update and path is not None:
        _keep(actual, path)
        return
    lines = [f"the picture differs from {path or 'the expected one'}: {words}"]
    drawing = _draw(frames, path, difference)
    if drawing:
        lines.append(f"drawn in {drawing}")
    if path is not None:
        lines.append("if it is right as it is now: pytest --update-pictures")
    raise AssertionError("\n".join(lines))


def _name(picture: Any) -> Path | None:
    if isinstance(picture, str):
        return Path(picture)
    return Path(os.fspath(picture)) if isinstance(picture, os.PathLike) else None


def _content(picture: Any, role: str) -> bytes:
    """A picture as the bytes of a file."""
    path = _name(picture)
    if path is not None:
        try:
            return path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path}: the {role} picture cannot be read ({error.strerror})") from error
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    from dedup.compare.drawing import encode_png

    try:
        return encode_png(picture)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the {role} picture is {type(picture).__name__}, which is none: give a path, the bytes of a file, "
            f"a Pillow image or an array of uint8 ({error})"
        ) from error


def _frames(actual: Any, expected: Any, tolerance_levels: float, ignore: Sequence[Box]) -> Frames:
    from dedup.compare.files import as_layer
    from dedup.compare.frames import prepare
    from dedup.decode import BadPicture, FullPicture, read_full
    from dedup.records import Preparation

    pictures: list[FullPicture] = []
    for picture, role in ((expected, "expected"), (actual, "actual")):
        name = _name(picture)
        try:
            pictures.append(read_full(_content(picture, role), str(name or role)))
        except BadPicture as error:
            raise UsageError(f"the {role} picture {name or ''} cannot be read ({error.detail})") from error
    layers = as_layer(pictures[0], pictures[1]), as_layer(pictures[1], pictures[0])
    frames = prepare(*layers, Preparation(tolerance_levels=tolerance_levels), None)
    if ignore and not frames.trouble:
        frames.b = frames.b.copy()
        for left, top, right, bottom in ignore:
            window = (slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right)))
            frames.b[window] = frames.a[window]
    return frames


def _difference_words(frames: Frames, differing_share: float) -> str:
    """What differs beyond what may; empty if nothing does."""
    from dedup.compare.levels import Sums

    if frames.trouble:
        (height, width), (high, wide) = frames.a.shape[:2], frames.b.shape[:2]
        return f"it is {wide} x {high} pixels, {width} x {height} were expected"
    if frames.is_equal:
        return ""
    sums = Sums(frames)
    if sums.tolerated <= differing_share * sums.pixels or sums.box is None:
        return ""
    left, top, right, bottom = sums.box
    return (
        f"{sums.tolerated:,} of {sums.pixels:,} pixels ({100 * sums.tolerated / sums.pixels:.2g} %) by more than "
        f"{frames.tolerance_levels:g} levels, at most {sums.largest:.0f}, from ({left}, {top}) to ({right}, {bottom})"
    )


def _keep(actual: Any, path: Path) -> None:
    """Take the actual picture for the expected one."""
    from dedup.compare.drawing import encode_png
    from dedup.decode import BadPicture, read_full

    if path.suffix.lower() != ".png":
        raise UsageError(
            f"{path}: only PNG pictures are updated, since others lose something; give another name"
        )
    content = _content(actual, "actual")
    try:
        picture = read_full(content, "actual")
    except BadPicture as error:
        raise UsageError(f"the actual picture cannot be read ({error.detail})") from error
    if picture.info.format != "PNG":
        pixels = picture.rgb
        content = encode_png(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    _run.updated.append(str(path))


def _draw(frames: Frames, path: Path | None, place: str | os.PathLike[str] | None) -> str:
    """The drawing of a difference, and where it lies; empty if it could not be put there."""
    from dedup.compare.drawing import draw_difference, draw_pair

    if place is None:
        # pytest's own words: tests/test_page.py::test_it (call)
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        name = "-".join(part for part in (test, path.stem if path else "picture") if part)
        place = Path(_run.differences) / (re.sub(r"[^\w.\[\]-]+", "_", name)[-150:] + ".png")
    place = Path(place)
    names = ("expected", "actual")
    png = draw_pair(frames, names) if frames.trouble else draw_difference(frames, names)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png)
    except OSError:
        # A test run in a place where nothing can be written still says what differs.
        return ""
    return str(place)


# ---- pytest --------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: Any) -> None:
    """Options of the plugin."""
    group = parser.getgroup("pictures", "pictures compared by dedup.testing.assert_same_picture")
    group.addoption(
        "--update-pictures",
        action="store_true",
        help="Take the pictures that tests make for the expected ones, where these are missing or differ.",
    )
    group.addoption(
        "--picture-differences",
        metavar="DIR",
        default=DIFFERENCES,
        help="Folder for drawings of what differs (default: %(default)s).",
    )


def pytest_configure(config: Any) -> None:
    """Note what was asked for."""
    _run.update = bool(config.getoption("--update-pictures"))
    _run.differences = str(config.getoption("--picture-differences"))
    _run.updated.clear()


def pytest_unconfigure() -> None:
    """Back to what holds without pytest."""
    _run.update, _run.differences = False, DIFFERENCES


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which pictures are new."""
    if _run.updated:
        terminalreporter.section("pictures updated")
        for path in _run.updated:
            terminalreporter.line(path)
