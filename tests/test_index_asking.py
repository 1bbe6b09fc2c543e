"""One picture asked about, against the search of a library that includes it: the same pairs, the same hypotheses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dedup.index import Asker, build_snapshot, find_candidates, open_asker
from dedup.index.windows import window_hashes, window_hashes_of_one
from dedup.records import CandidatePair
from dedup.settings import Settings
from tests.pictures import fog_frame, gradient, night_frame
from tests.shelf import CUT, NAMES, SAVED, Shelf, picture, retouched

SETTINGS = Settings()
EDITS = {**SAVED, **CUT}


def asker_of(shelf: Shelf, rows: list[int], folder: Path, *, searched: bool) -> Asker:
    """The library of some rows of a shelf, open for questions."""
    held = shelf.table.take(np.array(rows))
    if searched:
        list(find_candidates(held, shelf.greys, SETTINGS, None, folder))
    path = build_snapshot(held, [7 * int(id_) for id_ in held.ids], shelf.greys, folder, folder)
    asker = open_asker(path, SETTINGS)
    assert asker is not None
    for id_ in held.ids.tolist():
        assert asker.content_of(id_) == 7 * id_
    return asker


def ask(asker: Asker, shelf: Shelf, number: int) -> list[CandidatePair]:
    return asker.ask(shelf.table.take(np.array([number])), shelf.photos[number].fingerprint.grey, shelf.greys)


def search(shelf: Shelf, rows: list[int], number: int) -> list[CandidatePair]:
    """The pairs of one picture, as the search of a library finds them that includes it."""
    table = shelf.table.take(np.array(sorted([*rows, number])))
    is_new = table.ids == 10 * (number + 1)
    return list(find_candidates(table, shelf.greys, SETTINGS, is_new))


def asked_and_scanned(
    images: list[Image.Image], number: int, folder: Path, *, searched: bool
) -> tuple[list[CandidatePair], list[CandidatePair]]:
    """Pairs of one picture, by asking the library of the others, and by searching the library of all."""
    shelf = Shelf(images)
    rows = [row for row in range(len(images)) if row != number]
    asker = asker_of(shelf, rows, folder, searched=searched)
    return ask(asker, shelf, number), search(shelf, rows, number)


def key(pair: CandidatePair) -> tuple[int, int]:
    return pair.left, pair.right


def as_dict(pairs: list[CandidatePair]) -> dict[tuple[int, int], CandidatePair]:
    assert len({key(pair) for pair in pairs}) == len(pairs)
    return {key(pair): pair for pair in pairs}


@pytest.fixture(scope="module")
def edited() -> tuple[Shelf, dict[str, int]]:
    """The photos, then what people do to two of them; and where each edit stands."""
    images = [picture(name) for name in NAMES]
    places = {}
    for name in ("chelsea", "page"):
        for edit in sorted(EDITS):
            places[f"{name}, {edit}"] = len(images)
            images.append(EDITS[edit](picture(name)))
        for turn in Image.Transpose:
            places[f"{name}, {turn.name}"] = len(images)
            images.append(picture(name).transpose(turn))
    return Shelf(images), places


def test_edits_are_proposed_as_a_scan_proposes_them(
    edited: tuple[Shelf, dict[str, int]], tmp_path: Path
) -> None:
    shelf, places = edited
    originals = list(range(len(NAMES)))
    asker = asker_of(shelf, originals, tmp_path, searched=True)
    for edit, number in places.items():
        found = ask(asker, shelf, number)
        assert as_dict(found) == as_dict(search(shelf, originals, number)), edit
        assert found, edit


def test_an_original_is_proposed_to_its_edits_as_in_a_scan(
    edited: tuple[Shelf, dict[str, int]], tmp_path: Path
) -> None:
    shelf, places = edited
    edits = list(places.values())
    asker = asker_of(shelf, edits, tmp_path, searched=True)
    for name in ("chelsea", "page", "coffee"):
        number = NAMES.index(name)
        found = ask(asker, shelf, number)
        assert as_dict(found) == as_dict(search(shelf, edits, number))
        assert len(found) >= (len(EDITS) if name != "coffee" else 0)


def test_flat_pictures_are_proposed_by_colour(tmp_path: Path) -> None:
    images = [night_frame(1), night_frame(2), fog_frame(1), gradient((200, 10, 10), (210, 10, 10))]
    images += [gradient((10, 20, 200), (10, 30, 210)), picture("coffee"), night_frame(1)]
    for number in range(len(images)):
        found, expected = asked_and_scanned(images, number, tmp_path / str(number), searched=False)
        assert as_dict(found) == as_dict(expected)


def test_a_black_frame_among_many_is_proposed_to_the_nearest(tmp_path: Path) -> None:
    images = [night_frame(seed) for seed in range(40)] + [night_frame(5)]
    found, expected = asked_and_scanned(images, 40, tmp_path, searched=False)
    assert as_dict(found) == as_dict(expected)
    assert (60, 410) in as_dict(found)
    assert len(found) <= 8


def test_twins_by_the_dozen_come_once_as_in_a_scan(tmp_path: Path) -> None:
    images = [picture("coffee")] * 12 + [picture("rocket"), picture("coffee")]
    found, expected = asked_and_scanned(images, 13, tmp_path, searched=False)
    assert as_dict(found) == as_dict(expected)
    assert len(found) == 1


@pytest.mark.parametrize("searched", [False, True], ids=["exactly", "by annoy"])
def test_a_retouched_place_is_proposed_by_its_neighbours(searched: bool, tmp_path: Path) -> None:
    images = [*(picture(name) for name in NAMES), retouched(picture("astronaut"), picture("page"))]
    found, expected = asked_and_scanned(images, len(NAMES), tmp_path, searched=searched)
    assert {key(pair) for pair in found} == {key(pair) for pair in expected}


def test_without_neighbours_annoy_is_not_asked(tmp_path: Path) -> None:
    shelf = Shelf([picture("astronaut"), retouched(picture("astronaut"), picture("page"))])
    held = shelf.table.take(np.array([0]))
    path = build_snapshot(held, [1], shelf.greys, tmp_path)
    row, grey = shelf.table.take(np.array([1])), shelf.photos[1].fingerprint.grey
    asked = [open_asker(path, replace(SETTINGS, neighbours=wanted)) for wanted in (True, False)]
    assert all(asked)
    with_, without = (len(asker.ask(row, grey, shelf.greys)) for asker in asked if asker)
    assert with_ >= without


def test_nothing_is_proposed_by_an_empty_library(tmp_path: Path) -> None:
    shelf = Shelf([picture("coffee")])
    nothing = shelf.table.take(np.empty(0, dtype=np.int64))
    asker = open_asker(build_snapshot(nothing, [], shelf.greys, tmp_path), SETTINGS)
    assert asker is not None
    assert asker.ask(shelf.table, shelf.photos[0].fingerprint.grey, shelf.greys) == []


def test_the_picture_itself_is_not_proposed_to_itself(tmp_path: Path) -> None:
    shelf = Shelf([picture("coffee"), picture("rocket")])
    asker = open_asker(build_snapshot(shelf.table, [1, 2], shelf.greys, tmp_path), SETTINGS)
    assert asker is not None
    row = shelf.table.take(np.array([0]))
    assert asker.ask(row, shelf.photos[0].fingerprint.grey, shelf.greys) == []


def test_a_snapshot_that_is_not_whole_is_not_believed(tmp_path: Path) -> None:
    shelf = Shelf([picture("coffee")])
    path = build_snapshot(shelf.table, [1], shelf.greys, tmp_path)
    whole = path.read_bytes()
    for spoilt in (
        b"",
        whole[:100],
        whole[:-1],
        whole + b"x",
        b"x" + whole[1:],
        whole.replace(b'"format"', b'"farmot"'),
    ):
        path.write_bytes(spoilt)
        assert open_asker(path, SETTINGS) is None
    path.write_bytes(whole)
    assert open_asker(path, SETTINGS) is not None
    assert open_asker(tmp_path / "none", SETTINGS) is None


def test_a_snapshot_is_named_by_what_is_in_it_and_replaces_earlier_ones(tmp_path: Path) -> None:
    shelf = Shelf([picture("coffee"), picture("rocket")])
    first = build_snapshot(shelf.table, [1, 2], shelf.greys, tmp_path)
    stamp = first.stat().st_mtime_ns
    assert build_snapshot(shelf.table, [1, 2], shelf.greys, tmp_path) == first
    assert first.stat().st_mtime_ns == stamp
    second = build_snapshot(shelf.table, [1, 3], shelf.greys, tmp_path)
    assert second != first
    assert list(tmp_path.glob("check-*")) == [second]


def test_a_snapshot_without_annoys_file_is_not_believed(tmp_path: Path) -> None:
    shelf = Shelf([picture(name) for name in NAMES])
    list(find_candidates(shelf.table, shelf.greys, SETTINGS, None, tmp_path))
    path = build_snapshot(shelf.table, list(range(len(NAMES))), shelf.greys, tmp_path, tmp_path)
    assert open_asker(path, SETTINGS) is not None
    for file in tmp_path.glob("neighbours-*.ann"):
        file.unlink()
    assert open_asker(path, SETTINGS) is None


@pytest.mark.parametrize("aspect", [0.3, 0.75, 1.0, 1.5, 3.0])
def test_windows_of_one_picture_are_those_of_many(aspect: float) -> None:
    greys = np.stack([np.asarray(picture(name).convert("L").resize((64, 64))) for name in NAMES])
    aspects: NDArray[np.float64] = np.full(len(greys), aspect)
    together = window_hashes(greys, aspects)
    alone = np.stack([window_hashes_of_one(grey, aspect) for grey in greys])
    assert int(np.bitwise_count(together ^ alone).sum()) <= 2
