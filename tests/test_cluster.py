"""Groups: every member held to its keeper, no chains, hubs apart, and the same for any order of photos and matches."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.cluster import make_groups, turn_match
from dedup.records import DuplicateGroup, GroupingResult, Match, Photo, Relation
from dedup.records.placing import (
    Placement,
    chain_placements,
    compose,
    invert,
    turn_placement,
    windows_of,
)
from tests.drawn import IDENTITY, draw_change, draw_match, draw_photo

SAME, EDITED, SIMILAR = Relation.SAME_PICTURE, Relation.EDITED, Relation.SIMILAR
Oracle = Callable[[Photo, Photo], Relation | None]


def _order(photo: Photo) -> Any:
    return photo.file.path_bytes


def _group(photos: Iterable[Photo], matches: Iterable[Match], **more: Any) -> GroupingResult:
    return make_groups({photo.id: photo for photo in photos}, matches, _order, **more)


def _settle(photos: list[Photo], matches: list[Match], oracle: Oracle) -> GroupingResult:
    """Measure what is wanted until nothing is, as the pipeline does."""
    by_id = {photo.id: photo for photo in photos}
    matches = list(matches)
    asked: set[tuple[int, int]] = set()
    for _ in range(40):
        result = _group(photos, matches, asked=asked)
        if not result.wanted:
            return result
        for pair, keeper in zip(result.wanted, result.wanted_keepers, strict=True):
            assert pair.left < pair.right
            other = pair.left + pair.right - keeper
            assert (keeper, other) not in asked, "wanted twice"
            asked.add((keeper, other))
            relation = oracle(by_id[keeper], by_id[other])
            if relation:
                matches.append(draw_match(by_id[keeper], by_id[other], relation))
    raise AssertionError("never satisfied")


def _names(group: DuplicateGroup) -> tuple[int, dict[int, str]]:
    return group.keeper.id, {member.photo.id: str(member.match.relation) for member in group.members}


def _photos(count: int, **changes: Any) -> list[Photo]:
    return [draw_photo(number, **changes) for number in range(1, count + 1)]


def test_the_best_photo_keeps_and_the_others_are_members_with_their_match_to_it() -> None:
    a, b, c = _photos(3)
    result = _group([a, b, c], [draw_match(a, b), draw_match(a, c, EDITED)])
    (group,) = result.groups
    assert _names(group) == (1, {2: "same-picture", 3: "edited"})
    assert [member.match.left for member in group.members] == [1, 1]
    assert group.members[0].match.sentence == "same-picture of 1 and 2"
    assert not result.wanted


def test_a_chain_is_asked_for_and_not_taken_over() -> None:
    a, b, c = _photos(3)
    chain = [draw_match(a, b), draw_match(b, c)]
    first = _group([a, b, c], chain)
    assert [_names(group) for group in first.groups] == [(1, {2: "same-picture"})]
    assert [(pair.left, pair.right) for pair in first.wanted] == [(1, 3)]
    assert first.wanted_keepers == (1,)
    # Measured, and nothing: it stays outside, and is listed beside the group.
    refused = _settle([a, b, c], chain, lambda *_: None)
    (group,) = refused.groups
    assert _names(group) == (1, {2: "same-picture"})
    (also,) = group.also_like
    assert (also.photo_id, also.path, also.relation) == (3, c.file.path, SAME)
    assert also.why == "not confirmed against the kept photo"
    # Measured, and the same: it joins with its own measurement.
    joined = _settle([a, b, c], chain, lambda *_: EDITED)
    assert _names(joined.groups[0]) == (1, {2: "same-picture", 3: "edited"})


def test_a_long_chain_of_neighbours_never_becomes_one_group() -> None:
    photos = _photos(30)
    chain = [draw_match(left, right) for left, right in pairwise(photos)]
    near = _settle(photos, chain, lambda a, b: SAME if abs(a.id - b.id) <= 2 else None)
    assert max(len(group.members) for group in near.groups) == 2
    assert sum(1 + len(group.members) for group in near.groups) == 30


def test_a_proven_copy_goes_to_the_photo_it_is_a_copy_of_and_not_to_the_one_it_was_edited_from() -> None:
    a, b, c = _photos(3)
    matches = [draw_match(a, b, EDITED), draw_match(b, c)]
    # c is a copy of b but nothing to a: the pair b, c is worth more than the edited link a, b.
    result = _settle([a, b, c], matches, lambda *_: None)
    assert [_names(group) for group in result.groups] == [(2, {3: "same-picture"})]
    assert [row.photo_id for row in result.groups[0].also_like] == [1]


def test_copies_of_an_edited_version_stand_under_the_original_and_name_the_first_copy() -> None:
    original, crop, copy = _photos(3)
    matches = [draw_match(original, crop, EDITED), draw_match(original, copy, EDITED), draw_match(crop, copy)]
    (group,) = _group([original, crop, copy], matches).groups
    assert _names(group) == (1, {2: "edited", 3: "edited"})
    first, second = group.members
    assert (first.copy_of, first.copy_match) == (None, None)
    assert second.copy_of == 2
    assert second.copy_match is not None and second.copy_match.relation is SAME
    assert (second.copy_match.left, second.copy_match.right) == (2, 3)


def test_two_edited_versions_that_look_alike_are_asked_for_and_others_are_not() -> None:
    original = draw_photo(1)
    looks = draw_photo(9)
    same_look: dict[str, Any] = {"phash64": looks.fingerprint.phash64, "colour": bytes([90] * 192)}
    crop = draw_photo(2, **same_look)
    copy = draw_photo(3, phash64=looks.fingerprint.phash64, colour=bytes([92] * 192))
    warmer = draw_photo(4, phash64=looks.fingerprint.phash64, colour=bytes([99] * 192))
    turned = draw_photo(5, width_px=1200, height_px=1600, **same_look)
    photos = [original, crop, copy, warmer, turned]
    matches = [draw_match(original, other, EDITED) for other in photos[1:]]
    result = _group(photos, matches)
    assert [(pair.left, pair.right) for pair in result.wanted] == [(2, 3)]
    settled = _settle(photos, matches, lambda *_: SAME)
    assert {m.photo.id: m.copy_of for m in settled.groups[0].members} == {2: None, 3: 2, 4: None, 5: None}


def test_files_of_equal_bytes_need_no_match_and_inherit_what_was_measured() -> None:
    a, a2 = draw_photo(1, content="A"), draw_photo(2, content="A")
    b, b2 = draw_photo(3, content="B"), draw_photo(4, content="B")
    c, c2 = draw_photo(5, content="C"), draw_photo(6, content="C")
    (group,) = _group([c2, b2, a2, a, b, c], [draw_match(a2, b2), draw_match(a, c2, EDITED)]).groups
    assert _names(group) == (
        1,
        {2: "same-bytes", 3: "same-picture", 4: "same-picture", 5: "edited", 6: "edited"},
    )
    members = {member.photo.id: member for member in group.members}
    assert members[2].match.sentence == "the same bytes"
    assert members[4].match.figures == members[3].match.figures
    assert members[4].copy_of is None
    assert members[6].copy_of == 5
    assert members[6].copy_match is not None and members[6].copy_match.relation is Relation.SAME_BYTES
    assert all(member.match.left == 1 and member.match.right == member.photo.id for member in group.members)


def test_a_byte_copy_of_a_copy_of_an_edited_version_names_the_first_version_too() -> None:
    photos = [draw_photo(1), draw_photo(2), draw_photo(3, content="X"), draw_photo(4, content="X")]
    a, crop, copy, _ = photos
    matches = [draw_match(a, crop, EDITED), draw_match(a, copy, EDITED), draw_match(crop, copy)]
    (group,) = _group(photos, matches).groups
    assert {member.photo.id: member.copy_of for member in group.members} == {2: None, 3: 2, 4: 2}
    assert group.members[2].copy_match is not None
    assert (group.members[2].copy_match.left, group.members[2].copy_match.right) == (2, 4)


def test_equal_files_alone_are_a_group() -> None:
    result = _group([draw_photo(1, content="A"), draw_photo(2, content="A"), draw_photo(3)], [])
    assert [_names(group) for group in result.groups] == [(1, {2: "same-bytes"})]


def test_a_match_that_reads_backwards_counts_and_is_asked_for_the_right_way_round() -> None:
    a, b = _photos(2)
    backwards = draw_match(b, a, sentence="half the size", size_ratio=0.5, direction="right-first")
    result = _group([a, b], [backwards])
    assert _names(result.groups[0]) == (1, {2: "same-picture"})
    match = result.groups[0].members[0].match
    assert (match.left, match.right, match.figures.size_ratio, match.direction) == (1, 2, 2.0, "left-first")
    assert match.sentence == "the same picture; seen from it, the kept one is: half the size"
    assert (len(result.wanted), result.wanted_keepers) == (1, (1,))
    again = _group([a, b], [backwards, draw_match(a, b, sentence="twice the size")])
    assert again.groups[0].members[0].match.sentence == "twice the size"
    assert not again.wanted


def test_the_strongest_of_several_measurements_holds() -> None:
    a, b = _photos(2)
    matches = [draw_match(a, b, SIMILAR), draw_match(a, b, SAME), draw_match(a, b, EDITED)]
    result = _group([a, b], matches)
    assert _names(result.groups[0]) == (1, {2: "same-picture"})
    assert not result.similar


def test_similar_pairs_stand_apart_and_make_no_group() -> None:
    a, b, c = _photos(3)
    result = _group([c, b, a], [draw_match(c, a, SIMILAR), draw_match(b, c, SAME), draw_match(a, b, SIMILAR)])
    assert [_names(group) for group in result.groups] == [(2, {3: "same-picture"})]
    assert [(pair.left.id, pair.right.id) for pair in result.similar] == [(1, 2), (1, 3)]
    inside = _group([a, b, c], [draw_match(a, b), draw_match(a, c), draw_match(b, c, SIMILAR)])
    assert not inside.similar


def test_two_groups_tied_by_a_similar_pair_have_their_keepers_measured() -> None:
    original, bordered, coarse, marked = _photos(4)
    matches = [
        draw_match(original, bordered, EDITED),
        draw_match(coarse, marked, EDITED),
        # Against the bordered one, the coarse one looked like another moment.
        draw_match(bordered, coarse, SIMILAR),
    ]
    result = _group([original, bordered, coarse, marked], matches)
    assert [(pair.left, pair.right) for pair in result.wanted] == [(1, 3)]
    joined = _settle([original, bordered, coarse, marked], matches, lambda *_: EDITED)
    assert [_names(group) for group in joined.groups] == [(1, {2: "edited", 3: "edited", 4: "edited"})]
    apart = _settle([original, bordered, coarse, marked], matches, lambda *_: None)
    assert len(apart.groups) == 2


def test_a_blank_form_that_resembles_everything_is_split_off_and_named() -> None:
    photos = _photos(14)
    blank, *filled = photos
    words = (draw_change("retouched"),)
    matches = [draw_match(blank, page, EDITED, changes=words) for page in filled]
    # One page has a true copy.
    matches.append(draw_match(filled[0], filled[1]))
    result = _settle(photos, matches, lambda a, b: SIMILAR if blank not in (a, b) else EDITED)
    assert result.hubs == (blank.file.path,)
    assert [_names(group) for group in result.groups] == [(2, {3: "same-picture"})]
    assert [(row.photo_id, row.why) for row in result.groups[0].also_like] == [
        (1, "one of the two resembles too many photos that differ among themselves")
    ]


def test_an_original_with_many_edited_versions_is_no_hub() -> None:
    photos = _photos(14)
    marked = [draw_match(photos[0], other, EDITED, changes=(draw_change("overlay"),)) for other in photos[1:]]
    assert not _settle(photos, marked, lambda *_: EDITED).hubs
    # Edits of tone or frame are not even asked about.
    toned = [draw_match(photos[0], other, EDITED, changes=(draw_change("cropped"),)) for other in photos[1:]]
    result = _group(photos, toned)
    assert not result.wanted and len(result.groups[0].members) == 13


def test_freed_bytes_count_an_inode_once_and_only_when_its_last_name_goes() -> None:
    size = 1000

    def copy(number: int, inode: int, links: int) -> Photo:
        return draw_photo(number, content="A", size_bytes=size, inode=inode, link_count=links)

    keeper = copy(1, 1, 2)
    cases = [
        ([copy(2, 1, 2)], 0),  # a link to the keeper
        ([copy(2, 2, 1)], size),
        ([copy(2, 2, 2), copy(3, 2, 2)], size),  # two names of one file
        ([copy(2, 2, 3), copy(3, 2, 3)], 0),  # a third name outside keeps it alive
        ([copy(2, 2, 1), copy(3, 3, 1)], 2 * size),
    ]
    for others, freed in cases:
        (group,) = _group([keeper, *others], []).groups
        assert group.freed_bytes == freed
    linked = _group([keeper, copy(2, 1, 2)], []).groups[0].members[0]
    assert linked.also_link_of and linked.match.sentence == "the same file, already a hard link to it"
    edited = draw_photo(9, size_bytes=size)
    assert _group([keeper, edited], [draw_match(keeper, edited, EDITED)]).groups[0].freed_bytes == 0


def test_the_id_of_a_group_follows_its_contents_and_not_its_names() -> None:
    one = _group([draw_photo(1, "/a.jpg", "A"), draw_photo(2, "/b.jpg", "A")], []).groups[0].id
    two = _group([draw_photo(7, "/x.jpg", "A"), draw_photo(8, "/y.jpg", "A")], []).groups[0].id
    three = _group([draw_photo(7, "/x.jpg", "B"), draw_photo(8, "/y.jpg", "B")], []).groups[0].id
    assert one == two != three
    assert len(one) == 12


def test_reasons_and_unit_files_are_filled_in_by_those_who_know() -> None:
    a, b = _photos(2)
    result = _group(
        [a, b],
        [draw_match(a, b)],
        reasons=lambda keeper, others: (f"{keeper.id} before {[o.id for o in others]}",),
        unit_files=lambda photo: (photo.file.path + ".xmp",),
    )
    (group,) = result.groups
    assert group.keeper_reasons == ("1 before [2]",)
    assert group.keeper_unit_files == ("/photos/0001.jpg.xmp",)
    assert group.members[0].unit_files == ("/photos/0002.jpg.xmp",)


# Properties, on worlds in which the truth is known.


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[list[Photo], list[Match], Oracle]:
    """Scenes with originals, versions and copies; some relations hold between neighbours only."""
    count = draw(st.integers(2, 14))
    nature = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=count, max_size=count))
    contents = draw(st.lists(st.integers(1, count), min_size=count, max_size=count))
    folders = draw(st.lists(st.sampled_from("xyz"), min_size=count, max_size=count))
    photos = []
    for number in range(1, count + 1):
        scene, version = nature[contents[number - 1] - 1]
        look = draw_photo(900 + scene)
        photos.append(
            draw_photo(
                number,
                f"/{folders[number - 1]}/{number:02d}.jpg",
                f"content {contents[number - 1]}",
                phash64=look.fingerprint.phash64,
                colour=bytes([50 + 3 * version] * 192),
                keywords=(str(scene), str(version)),
            )
        )

    def oracle(a: Photo, b: Photo) -> Relation | None:
        (scene_a, version_a), (scene_b, version_b) = (
            tuple(map(int, p.info.metadata.keywords)) for p in (a, b)
        )
        if scene_a != scene_b or abs(version_a - version_b) == 3:
            return None
        if version_a == version_b:
            return SAME
        return EDITED if abs(version_a - version_b) == 1 else SIMILAR

    pairs = draw(
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=4 * count)
    )
    matches = []
    for i, j in pairs:
        relation = oracle(photos[i], photos[j])
        if relation and photos[i].digest != photos[j].digest:
            matches.append(draw_match(photos[i], photos[j], relation))
    return photos, matches, oracle


def _shown(result: GroupingResult) -> object:
    return (result.groups, result.similar, result.hubs, result.wanted, result.wanted_keepers)


@settings(deadline=None, max_examples=150)
@given(world=_worlds(), seed=st.integers(0, 999))
def test_the_order_of_photos_and_matches_never_changes_anything(
    world: tuple[list[Photo], list[Match], Oracle], seed: int
) -> None:
    photos, matches, _ = world
    mixed = random.Random(seed)
    again = _group(mixed.sample(photos, len(photos)), mixed.sample(matches, len(matches)))
    assert _shown(again) == _shown(_group(photos, matches))


@settings(deadline=None, max_examples=150)
@given(world=_worlds(), offset=st.integers(0, 13))
def test_ids_never_change_the_groups(world: tuple[list[Photo], list[Match], Oracle], offset: int) -> None:
    photos, matches, oracle = world
    other = {photo.id: (photo.id + offset) % len(photos) + 1 for photo in photos}
    renamed = [replace(photo, id=other[photo.id]) for photo in photos]
    rematched = [replace(match, left=other[match.left], right=other[match.right]) for match in matches]

    def shown(result: GroupingResult) -> object:
        return [
            (
                group.id,
                group.keeper.file,
                [(m.photo.file, m.match.relation, m.copy_of is None) for m in group.members],
            )
            for group in result.groups
        ]

    assert shown(_settle(renamed, rematched, oracle)) == shown(_settle(photos, matches, oracle))


@settings(deadline=None, max_examples=300)
@given(world=_worlds())
def test_every_group_holds_what_it_promises(world: tuple[list[Photo], list[Match], Oracle]) -> None:
    photos, matches, oracle = world
    by_id = {photo.id: photo for photo in photos}
    for result in (_group(photos, matches), _settle(photos, matches, oracle)):
        seen: list[int] = []
        for group in result.groups:
            assert group.members
            paths = [member.photo.file.path_bytes for member in group.members]
            assert paths == sorted(paths)
            ids = {group.keeper.id, *(member.photo.id for member in group.members)}
            seen += [group.keeper.id, *(member.photo.id for member in group.members)]
            for member in group.members:
                match = member.match
                assert (match.left, match.right) == (group.keeper.id, member.photo.id)
                assert match.relation is not SIMILAR
                equal = member.photo.digest == group.keeper.digest
                assert equal == (match.relation is Relation.SAME_BYTES)
                assert equal or oracle(group.keeper, member.photo) is match.relation
                # The best one keeps.
                assert _order(group.keeper) < _order(member.photo) or not equal
                if member.copy_of is not None:
                    head = next(m for m in group.members if m.photo.id == member.copy_of)
                    assert match.relation is head.match.relation is EDITED
                    assert head.copy_of is None
                    assert member.copy_match is not None
                    assert (member.copy_match.left, member.copy_match.right) == (
                        member.copy_of,
                        member.photo.id,
                    )
                    assert member.copy_match.relation.is_safe
                    same = head.photo.digest == member.photo.digest
                    assert same or oracle(head.photo, member.photo) is SAME
            for row in group.also_like:
                assert row.photo_id not in ids
                assert row.path == by_id[row.photo_id].file.path
        assert len(seen) == len(set(seen)), "a file stands in one group"
        grouped = set(seen)
        for photo in photos:
            twins = [other for other in photos if other.digest == photo.digest]
            assert len(twins) == 1 or photo.id in grouped, "no byte copy is lost"


@settings(deadline=None, max_examples=150)
@given(world=_worlds())
def test_no_proven_copy_of_a_settled_world_is_lost(world: tuple[list[Photo], list[Match], Oracle]) -> None:
    photos, matches, oracle = world
    result = _settle(photos, matches, oracle)
    home = {
        photo.id: group.id
        for group in result.groups
        for photo in (group.keeper, *(member.photo for member in group.members))
    }
    for match in matches:
        if match.relation.is_safe:
            assert home[match.left] == home[match.right]


# Geometry.

_ORIENTATIONS = st.integers(0, 7)
_MAPS = st.tuples(
    st.floats(0.5, 2),
    st.floats(-0.1, 0.1),
    st.floats(-0.3, 0.3),
    st.floats(-0.1, 0.1),
    st.floats(0.5, 2),
    st.floats(-0.3, 0.3),
)


def _seen(placement: Placement, x: float, y: float) -> tuple[float, float]:
    """The point of the stored right picture that the point of the left one shows."""
    a, b, c, d, e, f = placement.map
    x, y = a * x + b * y + c, d * x + e * y + f
    # Independent of the module: what EXIF's eight values mean.
    return [
        (x, y),
        (1 - x, y),
        (1 - x, 1 - y),
        (x, 1 - y),
        (y, x),
        (y, 1 - x),
        (1 - y, 1 - x),
        (1 - y, x),
    ][placement.orientation]


@given(_ORIENTATIONS, _MAPS, st.floats(0, 1), st.floats(0, 1))
def test_turning_a_placement_leads_back_to_the_same_point(
    orientation: int, affine: tuple[float, ...], x: float, y: float
) -> None:
    placement = Placement(orientation, affine)  # type: ignore[arg-type]
    u, v = _seen(placement, x, y)
    assert _seen(turn_placement(placement), u, v) == pytest.approx((x, y), abs=1e-6)


@given(_ORIENTATIONS, _MAPS, _ORIENTATIONS, _MAPS, st.floats(0, 1), st.floats(0, 1))
def test_two_placements_in_a_row_are_one(
    one: int, first: tuple[float, ...], two: int, second: tuple[float, ...], x: float, y: float
) -> None:
    a, b = Placement(one, first), Placement(two, second)  # type: ignore[arg-type]
    assert _seen(chain_placements(a, b), x, y) == pytest.approx(_seen(b, *_seen(a, x, y)), abs=1e-6)


def test_orientation_indices_mean_what_pillow_makes_of_them() -> None:
    import numpy as np
    from PIL import Image, ImageOps

    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for index in range(8):
        image = Image.fromarray(pixels)
        image.getexif()[0x0112] = index + 1
        upright = np.asarray(ImageOps.exif_transpose(image))
        h, w = upright.shape
        for row in range(h):
            for column in range(w):
                x, y = _seen(Placement(index, IDENTITY), (column + 0.5) / w, (row + 0.5) / h)
                assert upright[row, column] == pixels[int(y * 2), int(x * 3)]


def test_windows_say_where_a_crop_lies() -> None:
    # The right picture is the middle half of the left one.
    crop = Placement(0, (2.0, 0.0, -0.5, 0.0, 2.0, -0.5))
    assert windows_of(crop) == ((0.25, 0.25, 0.75, 0.75), (0.0, 0.0, 1.0, 1.0))
    assert windows_of(turn_placement(crop)) == ((0.0, 0.0, 1.0, 1.0), (0.25, 0.25, 0.75, 0.75))
    assert compose(crop.map, invert(crop.map)) == pytest.approx(IDENTITY)


def test_a_turned_match_keeps_its_figures_and_moves_its_places() -> None:
    a, b = _photos(2)
    # The right picture is the left half of the left one, turned by 90 degrees.
    match = draw_match(
        a,
        b,
        EDITED,
        orientation=7,
        alignment=(2.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        worst_tile_box=(0.0, 0.0, 0.25, 0.5),
        changes=(draw_change("overlay", box=(0.25, 0.5, 0.5, 1.0)), draw_change("recompressed")),
    )
    turned = turn_match(match)
    assert turned.figures.orientation == 5
    assert turned.figures.worst_tile_box == pytest.approx((0.5, 0.0, 1.0, 0.5))
    assert turned.changes[0].box == pytest.approx((0.0, 0.5, 0.5, 1.0))
    assert turned.changes[1].box is None
    back = turn_match(turned)
    assert back.figures.alignment == pytest.approx(match.figures.alignment)
    assert back.figures.worst_tile_box == pytest.approx(match.figures.worst_tile_box)
    assert (back.left, back.right, back.figures.orientation) == (1, 2, 7)


def test_what_is_wanted_through_a_member_comes_with_the_composed_hypothesis() -> None:
    a, b, c = _photos(3)
    half = (2.0, 0.0, 0.0, 0.0, 2.0, 0.0)
    chain = [draw_match(a, b, EDITED, orientation=2), draw_match(b, c, EDITED, alignment=half)]
    (pair,) = _group([a, b, c], chain).wanted
    assert pair.orientation == 2
    assert (pair.left_window, pair.right_window) == ((0.5, 0.5, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0))


def test_odd_names_are_sorted_by_their_bytes() -> None:
    odd = [
        draw_photo(1, "/p/\udcff.jpg", "A"),
        draw_photo(2, "/p/é.jpg", "A"),
        draw_photo(3, "/p/a\nb.jpg", "A"),
    ]
    (group,) = _group(odd, []).groups
    names = [group.keeper.file.path, *(member.photo.file.path for member in group.members)]
    assert names == sorted(names, key=os.fsencode)
