"""The keeper: every rule decides alone, no rule is fooled by size, borders, finer re-saves or the order of files."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.keeper import RULES, KeeperFacts, find_units, gather_facts, keeper_key, keeper_reasons
from dedup.records import Inspection, Match, Photo, Relation
from tests.drawn import draw_change, draw_match, draw_photo

NO_FACTS = KeeperFacts()
GREY = bytes([90, 90, 91]) * 64
CAMERA: dict[str, Any] = {"exif_tags": 40, "camera": "Canon EOS 80D", "capture_time": "2019-07-04T12:41:07"}

BETTER_AND_WORSE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "undamaged": ({}, {"damage": "ends early"}, "it is sound; 0002.jpg is damaged (ends early)"),
    "detail": (
        {},
        {"width_px": 800, "height_px": 600},
        "it is the largest, 1600 x 1200; 0002.jpg is smaller",
    ),
    "whole": ({"frames": 12}, {}, "it has all 12 frames; 0002.jpg has fewer"),
    "camera record": (
        CAMERA,
        {"exif_tags": 4},
        "it carries the camera's full record (40 tags; 0002.jpg has 4)",
    ),
    "container": ({"format": "HEIF"}, {}, "it is a HEIF, nearer to the original than JPEG"),
    "depth": ({"bits": 16}, {}, "it has 16 bits per sample; 0002.jpg has 8"),
    "metadata": (
        {"gps": "1.0, 2.0", "rating": "5"},
        {},
        "it has GPS and a rating; 0002.jpg lacks some of that",
    ),
    "hard links": ({"link_count": 3}, {}, "3 names already share it"),
    "age": ({"mtime_ns": 1_400_000_000 * 10**9}, {}, "it is older (2014-05-13) than 0002.jpg"),
    "path length": ({"path": "/photos/z.jpg"}, {}, "its path is shorter than that of 0002.jpg"),
    "path": ({}, {}, "nothing sets it apart from 0002.jpg; its path comes first"),
}


@pytest.mark.parametrize("rule", BETTER_AND_WORSE)
def test_each_rule_decides_when_nothing_before_it_does_and_says_so(rule: str) -> None:
    good, bad, sentence = BETTER_AND_WORSE[rule]
    # Later rules speak for the other one.
    better, worse = draw_photo(1, **good), draw_photo(2, **bad)
    assert keeper_key(better, NO_FACTS) < keeper_key(worse, NO_FACTS)
    assert keeper_reasons(better, [worse], NO_FACTS) == (sentence,)


def test_the_rules_stand_in_the_order_of_the_design() -> None:
    names = [rule.name for rule in RULES]
    assert names[:5] == ["choice", "undamaged", "folder", "detail", "generation"]
    assert (
        names.index("container") < names.index("depth") < names.index("metadata") < names.index("hard links")
    )
    assert names[-3:] == ["age", "path length", "path"]
    assert names.index("hard links") < names.index("copies") < names.index("age")
    tested = {*BETTER_AND_WORSE, "choice", "copies", "folder", "generation", "native size", "compression"}
    assert tested == set(names)


def _facts(*matches: Match, photos: list[Photo], **more: Any) -> KeeperFacts:
    return gather_facts(photos, matches, **more)


def _first(photos: list[Photo], facts: KeeperFacts) -> int:
    return min(photos, key=lambda photo: keeper_key(photo, facts)).id


def test_the_photo_that_a_person_chose_comes_first_and_the_last_choice_counts() -> None:
    best, chosen, other = (
        draw_photo(1, width_px=4000, height_px=3000),
        draw_photo(2),
        draw_photo(3, "/z.jpg", "/photos/0002.jpg"),
    )
    assert chosen.digest == other.digest
    facts = replace(gather_facts([best, chosen, other]), chosen={chosen.digest: (0, "/z.jpg")})
    assert _first([best, chosen, other], facts) == 3
    assert keeper_reasons(other, [best], facts) == ("you chose it",)
    facts = replace(facts, chosen={chosen.digest: (0, "/z.jpg"), best.digest: (1, "")})
    assert _first([best, chosen, other], facts) == 1


def test_a_damaged_picture_is_never_kept_over_a_sound_one_even_if_only_the_full_decode_found_out() -> None:
    a = draw_photo(1, width_px=4000, height_px=3000)
    b = draw_photo(2)
    facts = gather_facts(
        [a, b], [], {1: Inspection(1, "the lower third is missing", 1.0)}, protect=["/photos"]
    )
    assert _first([a, b], facts) == 2
    assert "the lower third is missing" in keeper_reasons(b, [a], facts)[0]


def test_a_protected_folder_comes_before_a_preferred_one_and_both_before_size() -> None:
    small: dict[str, Any] = {"width_px": 400, "height_px": 300}
    safe = draw_photo(1, "/nas/safe/a.jpg", **small)
    liked = draw_photo(2, "/home/liked/a.jpg", **small)
    second = draw_photo(3, "/home/second/a.jpg", **small)
    # A neighbour whose name begins alike is another folder.
    other = draw_photo(4, "/home/liked-not/a.jpg")
    photos = [safe, liked, second, other]
    facts = gather_facts(photos, protect=["/nas/safe"], prefer=["/home/liked", "/home/second/"])
    ranked = sorted(photos, key=lambda photo: keeper_key(photo, facts))
    assert [photo.id for photo in ranked] == [1, 2, 3, 4]
    assert keeper_reasons(safe, [liked], facts) == ("it lies in a protected folder",)
    assert keeper_reasons(liked, [other], facts) == ("it lies in a folder you prefer",)


def test_an_enlarged_copy_does_not_win_by_its_pixels() -> None:
    original = draw_photo(1, mtime_ns=2 * 10**9)
    enlarged = draw_photo(2, width_px=3200, height_px=2400, mtime_ns=10**9)
    match = draw_match(enlarged, original, size_ratio=0.5)
    facts = gather_facts([original, enlarged], [match], {2: Inspection(2, "", 0.5)})
    assert _first([original, enlarged], facts) == 1
    reason = "it holds all the detail there is; 0002.jpg was enlarged"
    assert keeper_reasons(original, [enlarged], facts) == (reason,)
    # Evidence of time is believed even if the estimate of its detail is a tenth off.
    known = draw_match(enlarged, original, size_ratio=0.5, direction="right-first")
    facts = gather_facts([original, enlarged], [known], {2: Inspection(2, "", 0.55)})
    assert keeper_reasons(original, [enlarged], facts) == (
        "it came first; 0002.jpg was saved or edited later",
    )


def test_a_soft_original_is_not_taken_for_an_enlargement_of_its_slightly_smaller_copy() -> None:
    original, copy = (
        draw_photo(1, mtime_ns=10**9),
        draw_photo(2, width_px=1440, height_px=1080, mtime_ns=2 * 10**9),
    )
    match = draw_match(original, copy, size_ratio=0.9)
    facts = gather_facts([original, copy], [match], {1: Inspection(1, "", 0.92)})
    assert _first([original, copy], facts) == 1


def test_a_border_does_not_make_a_picture_bigger_before_or_after_it_is_measured() -> None:
    original = draw_photo(1, mtime_ns=2_000 * 10**9)
    bordered = draw_photo(
        2, width_px=1920, height_px=1440, trim=(1 / 12, 1 / 12, 11 / 12, 11 / 12), mtime_ns=10**9
    )
    before = gather_facts([original, bordered])
    assert keeper_key(original, before)[2] == keeper_key(bordered, before)[2]
    inside = (5 / 6, 0.0, 1 / 12, 0.0, 5 / 6, 1 / 12)
    match = draw_match(original, bordered, Relation.EDITED, alignment=inside, direction="left-first")
    after = gather_facts([original, bordered], [match])
    assert _first([original, bordered], after) == 1


def test_a_later_save_with_finer_tables_is_worse_not_better() -> None:
    original = draw_photo(1, quality=80, mtime_ns=3 * 10**9)
    resaved = draw_photo(2, quality=95, mtime_ns=10**9)
    match = draw_match(resaved, original, direction="right-first")
    assert _first([original, resaved], gather_facts([original, resaved], [match])) == 1
    # Without evidence the finer tables say nothing either: the older one is kept.
    assert _first([original, resaved], NO_FACTS) == 2
    newer = draw_photo(3, quality=95, mtime_ns=4 * 10**9)
    assert _first([original, newer], NO_FACTS) == 1


def test_of_a_border_and_a_cut_confirmation_says_which_came_first() -> None:
    whole, other = draw_photo(1, mtime_ns=2 * 10**9), draw_photo(2, height_px=1440, mtime_ns=10**9)
    inside = (1.0, 0.0, 0.0, 0.0, 1.2, -0.1)
    for direction, first in (("left-first", 2), ("right-first", 1)):
        match = draw_match(other, whole, Relation.EDITED, alignment=inside, direction=direction)
        assert _first([whole, other], gather_facts([whole, other], [match])) == first
    # Where it cannot tell, the frame alone is no reason.
    match = draw_match(other, whole, Relation.EDITED, alignment=inside, direction="unknown")
    facts = gather_facts([whole, other], [match])
    assert facts.generation == {whole.digest: 0, other.digest: 0}


def test_a_coarse_copy_is_later_than_a_fine_one_when_the_fine_one_shows_no_trace_of_it() -> None:
    fine, coarse = draw_photo(1, quality=95, mtime_ns=2 * 10**9), draw_photo(2, quality=10, mtime_ns=10**9)
    assert _first([fine, coarse], gather_facts([fine, coarse], [draw_match(coarse, fine)])) == 1
    # An edited version may be finer than its coarse original.
    edited = draw_match(coarse, fine, Relation.EDITED)
    assert _first([fine, coarse], gather_facts([fine, coarse], [edited])) == 2


def test_something_coloured_pasted_into_a_greyscale_picture_does_not_make_it_the_original() -> None:
    grey = draw_photo(1, colour=GREY, mtime_ns=10**9)
    pasted = draw_photo(2, colour=GREY[:180] + bytes([200, 20, 20]) * 4, mtime_ns=2 * 10**9)
    changes = (draw_change("greyscale"), draw_change("retouched"))
    match = draw_match(pasted, grey, Relation.EDITED, direction="left-first", changes=changes)
    assert _first([grey, pasted], gather_facts([grey, pasted], [match])) == 1
    colour = draw_photo(3, mtime_ns=3 * 10**9)
    match = draw_match(colour, grey, Relation.EDITED, direction="left-first", changes=changes)
    assert _first([grey, colour], gather_facts([grey, colour], [match])) == 3


def test_within_one_generation_the_finer_tables_win() -> None:
    original, coarse, fine = (
        draw_photo(1),
        draw_photo(2, quality=85, mtime_ns=10**9),
        draw_photo(3, quality=95),
    )
    matches = [draw_match(original, copy, direction="left-first") for copy in (coarse, fine)]
    facts = gather_facts([original, coarse, fine], matches)
    ranked = sorted([coarse, fine, original], key=lambda photo: keeper_key(photo, facts))
    assert [photo.id for photo in ranked] == [1, 3, 2]
    reasons = keeper_reasons(fine, [coarse], facts)
    assert reasons == ("it is less compressed (about quality 95) than 0002.jpg",)


def test_a_copy_of_a_copy_is_of_a_later_generation() -> None:
    a, b, c = (draw_photo(number) for number in (3, 2, 1))
    matches = [draw_match(a, b, direction="left-first"), draw_match(b, c, direction="left-first")]
    facts = gather_facts([a, b, c], matches)
    assert [facts.generation[photo.digest] for photo in (a, b, c)] == [0, 1, 2]


def test_contradicting_evidence_and_circles_are_survived_and_decided_elsewhere() -> None:
    a, b, c = (draw_photo(number) for number in (1, 2, 3))
    both = [draw_match(a, b, direction="left-first"), draw_match(b, a, direction="left-first")]
    facts = gather_facts([a, b], both)
    assert facts.generation[a.digest] == facts.generation[b.digest] == 0
    circle = [draw_match(x, y, direction="left-first") for x, y in ((a, b), (b, c), (c, a))]
    for matches in itertools.permutations(circle):
        assert _first([c, b, a], gather_facts([b, a, c], matches)) == 1


def test_nothing_gains_detail_by_being_saved_again() -> None:
    soft, grainy = draw_photo(1), draw_photo(2)
    inspections = {1: Inspection(1, "", 0.6), 2: Inspection(2, "", 1.0)}
    match = draw_match(grainy, soft, direction="right-first")
    # Grain looks like detail; it came later, so it is not.
    assert _first([soft, grainy], gather_facts([soft, grainy], [match], inspections)) == 1
    # Without evidence of time the sharper one is kept: the other may be a blurred copy.
    blind = draw_match(grainy, soft)
    assert _first([soft, grainy], gather_facts([soft, grainy], [blind], inspections)) == 2


def test_evidence_that_a_small_picture_came_first_is_not_believed_if_the_big_one_holds_more() -> None:
    big, small = draw_photo(1), draw_photo(2, width_px=400, height_px=300)
    match = draw_match(big, small, size_ratio=0.25, direction="right-first")
    facts = gather_facts([big, small], [match])
    assert _first([big, small], facts) == 1
    assert facts.generation[big.digest] == 0


def test_what_is_trimmed_off_a_dark_edge_by_chance_does_not_decide_between_proven_copies() -> None:
    a = draw_photo(1, trim=(0.0, 0.1, 1.0, 1.0), mtime_ns=10**9)
    b = draw_photo(2, trim=(0.0, 0.12, 1.0, 1.0), mtime_ns=2 * 10**9)
    c = draw_photo(3, mtime_ns=3 * 10**9)
    facts = gather_facts([a, b, c], [draw_match(a, b), draw_match(a, c)])
    assert len({facts.detail_px[p.digest] for p in (a, b, c)}) == 1


def test_where_nothing_tells_the_version_that_more_files_show_is_kept() -> None:
    stamped, original, copy, twin = (draw_photo(number) for number in (1, 2, 3, 4))
    twin = replace(twin, digest=copy.digest)
    photos = [stamped, original, copy, twin]
    matches = [
        draw_match(stamped, original, Relation.EDITED),
        draw_match(stamped, copy, Relation.EDITED),
        draw_match(original, copy, Relation.SAME_PICTURE),
    ]
    facts = _facts(*matches, photos=photos)
    assert _first(photos, _facts(*matches[:2], photos=photos[:3])) == stamped.id
    assert _first(photos, facts) == original.id
    assert keeper_reasons(original, [stamped], facts) == (
        "3 files show this version, only 1 that of 0001.jpg",
    )


def test_containers_stand_from_raw_to_what_the_web_makes() -> None:
    formats: list[dict[str, Any]] = [
        {"format": "RAW"},
        {"format": "HEIF"},
        {"format": "JPEG"},
        {"format": "WEBP", "lossless": True},
        {"format": "JPEG2000"},
        {"format": "GIF", "lossless": True},
        {"format": "WEBP"},
    ]
    photos = [draw_photo(20 - place, **form) for place, form in enumerate(formats)]
    ranked = sorted(photos, key=lambda photo: keeper_key(photo, NO_FACTS))
    assert ranked == photos


def test_an_edited_png_does_not_win_over_its_jpeg_original_by_being_lossless() -> None:
    jpeg = draw_photo(1, mtime_ns=10**9, quality=70)
    png = draw_photo(2, mtime_ns=2 * 10**9, format="PNG", lossless=True, quality=0)
    facts = gather_facts([jpeg, png], [draw_match(png, jpeg, Relation.EDITED)])
    assert _first([jpeg, png], facts) == 1


def test_the_jpeg_is_kept_before_its_png_when_it_is_known_to_be_first_and_the_png_otherwise() -> None:
    jpeg, png = draw_photo(1), draw_photo(2, format="PNG", lossless=True, quality=0)
    assert _first([jpeg, png], gather_facts([jpeg, png], [draw_match(jpeg, png)])) == 2
    known = draw_match(png, jpeg, direction="right-first")
    assert _first([jpeg, png], gather_facts([jpeg, png], [known])) == 1


def test_a_jpeg_with_its_raw_beside_it_is_kept_before_a_lone_one() -> None:
    lone, paired = draw_photo(1, "/p/a.jpg"), draw_photo(2, "/p/longer/a.jpg")
    units = find_units(["/p/a.jpg", "/p/longer/a.jpg", "/p/longer/A.CR2"])
    facts = gather_facts([lone, paired], units=units)
    assert _first([lone, paired], facts) == 2
    assert keeper_reasons(paired, [lone], facts) == ("its RAW lies beside it",)


def test_a_strange_colour_profile_counts_only_beside_a_camera_record() -> None:
    plain = draw_photo(1, mtime_ns=10**9)
    converted = draw_photo(2, icc_digest="ab", icc_name="AdobeRGB-like", mtime_ns=2 * 10**9)
    assert _first([plain, converted], NO_FACTS) == 1
    camera = draw_photo(
        3, icc_digest="ab", icc_name="Adobe RGB (1998)", camera="Nikon D70", mtime_ns=2 * 10**9
    )
    lost = draw_photo(4, camera="Nikon D70", mtime_ns=10**9)
    assert _first([lost, camera], NO_FACTS) == 3
    srgb = draw_photo(5, icc_digest="cd", icc_name="sRGB IEC61966-2.1", mtime_ns=2 * 10**9)
    assert _first([plain, srgb], NO_FACTS) == 5


def test_whoever_holds_a_superset_of_the_metadata_is_kept() -> None:
    fields = {
        "gps": "1, 2",
        "capture_time": "2019-01-01T00:00:00",
        "rating": "4",
        "caption": "c",
        "camera": "X",
    }
    for count in range(len(fields)):
        for names in itertools.combinations(fields, count):
            some = draw_photo(1, **{name: fields[name] for name in names})
            assert _first([some, draw_photo(2, **fields)], NO_FACTS) == 2
    one, two = draw_photo(1, keywords=("sea",)), draw_photo(2, keywords=("sea", "dog"))
    assert _first([one, two], NO_FACTS) == 2


def test_the_reasons_name_each_deciding_rule_once_with_all_it_decided_against() -> None:
    keeper = draw_photo(1)
    small = [draw_photo(number, width_px=80, height_px=60) for number in (2, 3)]
    broken = draw_photo(4, damage="ends early")
    reasons = keeper_reasons(keeper, [*small, broken], NO_FACTS)
    assert reasons == (
        "it is sound; 0004.jpg is damaged (ends early)",
        "it is the largest, 1600 x 1200; 2 others are smaller",
    )


def test_a_unit_is_sidecars_raw_partners_and_the_movie_of_a_live_photo() -> None:
    units = find_units(
        [
            "/a/IMG_1.JPG",
            "/a/img_1.cr2",
            "/a/IMG_1.xmp",
            "/a/IMG_1.JPG.xmp",
            "/a/IMG_1.cr2.pp3",
            "/a/IMG_2.HEIC",
            "/a/IMG_2.MOV",
            "/a/IMG_2.AAE",
            "/b/IMG_1.xmp",
            "/a/IMG_3.png",
            "/a/IMG_3.jpg",
        ]
    )
    assert units == {
        "/a/IMG_1.JPG": ("/a/IMG_1.JPG.xmp", "/a/IMG_1.xmp", "/a/img_1.cr2"),
        "/a/img_1.cr2": ("/a/IMG_1.JPG", "/a/IMG_1.cr2.pp3", "/a/IMG_1.xmp"),
        "/a/IMG_2.HEIC": ("/a/IMG_2.AAE", "/a/IMG_2.MOV"),
    }


def test_units_do_not_mind_odd_names() -> None:
    odd = "/a/\udcff\n'.jpg"
    assert find_units([odd, odd + ".xmp", "/a/.xmp", "/a/noextension"]) == {odd: (odd + ".xmp",)}


_LOOKS = st.fixed_dictionaries(
    {
        "width_px": st.sampled_from([800, 1600, 1610]),
        "format": st.sampled_from(["JPEG", "PNG", "HEIF"]),
        "quality": st.sampled_from([0, 50, 90]),
        "damage": st.sampled_from(["", "", "ends early"]),
        "exif_tags": st.sampled_from([0, 10, 30]),
        "mtime_ns": st.integers(1, 3),
        "link_count": st.integers(1, 2),
    }
)


@settings(deadline=None)
@given(
    looks=st.lists(_LOOKS, min_size=2, max_size=6),
    arrows=st.lists(
        st.tuples(
            st.integers(0, 5), st.integers(0, 5), st.sampled_from(["left-first", "right-first", "unknown"])
        )
    ),
    seed=st.integers(0, 99),
)
def test_the_order_is_total_and_the_same_however_photos_and_matches_come(
    looks: list[dict[str, Any]], arrows: list[tuple[int, int, str]], seed: int
) -> None:
    photos = [draw_photo(number, **look) for number, look in enumerate(looks, 1)]
    matches = [
        draw_match(
            photos[a], photos[b], size_ratio=photos[b].info.width_px / photos[a].info.width_px, direction=way
        )
        for a, b, way in arrows
        if a != b and max(a, b) < len(photos)
    ]
    inspections = {photo.id: Inspection(photo.id, "", 0.5 if photo.id % 2 else 1.0) for photo in photos}
    facts = gather_facts(photos, matches, inspections)
    keys = {photo.id: keeper_key(photo, facts) for photo in photos}
    assert len(set(keys.values())) == len(photos)
    mixed = random.Random(seed)
    again = gather_facts(mixed.sample(photos, len(photos)), mixed.sample(matches, len(matches)), inspections)
    assert {photo.id: keeper_key(photo, again) for photo in photos} == keys
    best = min(photos, key=lambda photo: keys[photo.id])
    others = [photo for photo in photos if photo is not best]
    reasons = keeper_reasons(best, others, facts)
    assert reasons and all(reasons)
    assert reasons == keeper_reasons(best, mixed.sample(others, len(others)), facts)
    if any(not photo.info.damage for photo in photos):
        assert not best.info.damage
