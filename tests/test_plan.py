"""What is planned and what is left alone: every guard that keeps a photo, on groups and a disk in memory."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.records import Act, Cause, Photo, Relation, Selection, Verdict
from tests.drawn import draw_photo
from tests.planned import Planning, Shelf, copy_of, decision, group, member

K, D, E, F = (f"/photos/{name}.jpg" for name in "kdef")
ACCEPTING = Selection(accept_metadata_loss=True)
LINKING = Selection(act=Act.HARDLINK)


def keeper(**changes: Any) -> Photo:
    return draw_photo(1, K, **changes)


def copy(number: int = 2, path: str = D, content: str = "", **changes: Any) -> Photo:
    return draw_photo(number, path, content, **changes)


def twin(number: int = 2, path: str = D, **changes: Any) -> Photo:
    """The keeper's bytes in another place."""
    return draw_photo(number, path, K, **changes)


# ---- what goes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relation", [Relation.SAME_PICTURE, Relation.SAME_PIXELS])
def test_a_copy_goes_to_quarantine_for_the_keeper_it_was_compared_with(relation: Relation) -> None:
    made = Planning([group(keeper(), member(keeper(), copy(), relation))])
    (operation,) = made.operations
    assert made.gone == {D: K}
    assert (operation.id, operation.act, operation.relation) == (1, Act.QUARANTINE, relation)
    assert operation.sentence == f"{relation} of 1 and 2"
    assert operation.figures.rms_levels == 1.5
    assert operation.why == ("it is older",)
    assert operation.frees_bytes == 1_000_000
    assert made.left_out == ()


def test_files_are_planned_as_they_are_now_and_not_as_they_were_scanned() -> None:
    photo = copy()
    disk = Shelf(keeper(), photo)
    disk.change(D, ctime_ns=77, mode=0o100600, uid=5)
    (operation,) = Planning([group(keeper(), photo)], disk=disk).operations
    assert (operation.dup.ctime_ns, operation.dup.mode, operation.dup.uid) == (77, 0o100600, 5)


def test_nothing_is_planned_without_groups() -> None:
    assert Planning([]).operations == ()


# ---- what people decided -------------------------------------------------------------------------------------------


def test_an_edited_version_stays_unless_a_person_decided_about_that_very_pair() -> None:
    groups = [group(keeper(), member(keeper(), copy(), Relation.EDITED))]
    assert Planning(groups).stays == {D: Cause.EDITED}
    assert Planning(groups, Selection(only=(Relation.EDITED,))).stays == {D: Cause.EDITED}
    other = decision(Verdict.REMOVE, draw_photo(9), copy())
    assert Planning(groups, decisions=[other]).stays == {D: Cause.EDITED}
    made = Planning(groups, decisions=[decision(Verdict.REMOVE, keeper(), copy())])
    assert made.gone == {D: K}
    assert made.operations[0].decided


def test_a_similar_photo_never_goes_even_if_a_person_said_so() -> None:
    groups = [group(keeper(), member(keeper(), copy(), Relation.SIMILAR))]
    made = Planning(groups, decisions=[decision(Verdict.REMOVE, keeper(), copy())])
    assert made.operations == ()


@pytest.mark.parametrize("verdict", [Verdict.KEEP_BOTH, Verdict.NOT_DUPLICATES])
def test_a_pair_that_a_person_parted_stays(verdict: Verdict) -> None:
    made = Planning([group(keeper(), copy())], decisions=[decision(verdict, keeper(), copy())])
    assert made.stays == {D: Cause.KEPT_BOTH}


def test_what_is_wanted_beside_one_photo_does_not_go_for_a_third() -> None:
    wanted = decision(Verdict.KEEP_BOTH, copy(), draw_photo(9))
    assert Planning([group(keeper(), copy())], decisions=[wanted]).stays == {D: Cause.KEPT_BOTH}
    # Another file with the same bytes is no loss.
    groups = [group(copy(3, E, D), copy(2, D, D))]
    assert Planning(groups, decisions=[wanted]).gone == {D: E}


def test_two_files_of_the_same_bytes_both_stay_if_a_person_wants_both() -> None:
    groups = [group(keeper(), twin())]
    both = decision(Verdict.NOT_DUPLICATES, keeper(), twin())
    assert Planning(groups, decisions=[both]).stays == {D: Cause.KEPT_BOTH}
    assert Planning([group(draw_photo(4, F), twin())], decisions=[both]).stays == {D: Cause.KEPT_BOTH}


def test_a_pair_that_was_put_off_stays() -> None:
    later = decision(Verdict.LATER, keeper(), copy())
    assert Planning([group(keeper(), copy())], decisions=[later]).stays == {D: Cause.LATER}


def test_a_photo_never_goes_for_one_that_a_person_would_let_go_for_it() -> None:
    turned = decision(Verdict.REMOVE, copy(), keeper())
    assert Planning([group(keeper(), copy())], decisions=[turned]).stays == {D: Cause.KEEPER_GOES}


def test_the_photo_that_a_person_chose_stays_even_if_the_groups_do_not_follow_yet() -> None:
    chosen = decision(Verdict.KEEP, copy())
    assert Planning([group(keeper(), copy())], decisions=[chosen]).stays == {D: Cause.KEEPER_GOES}
    there = decision(Verdict.KEEP, keeper(), place=D)
    assert Planning([group(keeper(), twin())], decisions=[there]).stays == {D: Cause.KEEPER_GOES}
    here = decision(Verdict.KEEP, keeper(), place=K)
    assert Planning([group(keeper(), twin())], decisions=[here]).gone == {D: K}


def test_the_last_decision_about_a_pair_counts() -> None:
    groups = [group(keeper(), member(keeper(), copy(), Relation.EDITED))]
    remove = decision(Verdict.REMOVE, keeper(), copy())
    later = decision(Verdict.LATER, keeper(), copy())
    assert Planning(groups, decisions=[remove, later]).operations == ()
    assert Planning(groups, decisions=[later, remove]).gone == {D: K}


# ---- copies of an edited version -----------------------------------------------------------------------------------


def test_a_copy_of_an_edited_version_goes_for_that_version() -> None:
    edited = copy(content="e")
    groups = [
        group(keeper(), member(keeper(), edited, Relation.EDITED), copy_of(keeper(), edited, copy(3, E, "e")))
    ]
    made = Planning(groups)
    assert made.gone == {E: D}
    assert made.operations[0].relation is Relation.SAME_BYTES
    assert made.stays == {D: Cause.EDITED}


def test_an_edited_copy_of_an_edited_version_needs_a_decision_about_these_two() -> None:
    edited = copy()
    third = copy_of(keeper(), edited, copy(3, E), Relation.EDITED)
    groups = [group(keeper(), member(keeper(), edited, Relation.EDITED), third)]
    made = Planning(groups)
    assert made.stays == {D: Cause.EDITED, E: Cause.EDITED}
    assert {entry.keep for entry in made.left_out} == {K}
    assert Planning(groups, decisions=[decision(Verdict.REMOVE, edited, third.photo)]).gone == {E: D}


def test_a_copy_stays_if_a_person_lets_the_version_go_that_it_copies() -> None:
    edited = copy(path=F)
    groups = [
        group(keeper(), copy_of(keeper(), edited, copy(3, D)), member(keeper(), edited, Relation.EDITED))
    ]
    made = Planning(groups, decisions=[decision(Verdict.REMOVE, keeper(), edited)])
    assert made.gone == {F: K}
    assert made.stays == {D: Cause.KEEPER_GOES}


def test_what_is_kept_for_another_duplicate_does_not_go() -> None:
    """The same file in two groups cannot happen, and must not matter."""
    groups = [group(keeper(), copy()), group(copy(), copy(3, E))]
    made = Planning(groups)
    assert len(made.operations) == 1
    assert set(made.stays.values()) == {Cause.KEEPER_GOES}


@pytest.mark.parametrize("first", [True, False])
def test_what_is_kept_under_another_name_does_not_go(first: bool) -> None:
    linked = copy(4, "/photos/l.jpg", D, inode=2, link_count=2)
    kept = copy(2, D, D, inode=2, link_count=2)
    one, other = group(keeper(), linked), group(kept, copy(3, E))
    if first:
        one = replace(one, keeper=draw_photo(7, "/photos/0.jpg"))
    made = Planning([one, other])
    assert len(made.operations) == 1
    assert set(made.stays.values()) == {Cause.KEEPER_GOES}


# ---- damage, protection, change ------------------------------------------------------------------------------------


def test_nothing_goes_for_a_damaged_photo_however_the_damage_was_found() -> None:
    damaged = keeper(damage="ends early")
    assert Planning([group(damaged, copy())]).stays == {D: Cause.DAMAGED}
    hidden = {keeper().digest: "the lower third is missing"}
    assert Planning([group(keeper(), copy())], damage=hidden).stays == {D: Cause.DAMAGED}
    remove = decision(Verdict.REMOVE, keeper(), copy())
    assert Planning([group(keeper(), copy())], decisions=[remove], damage=hidden).operations == ()
    assert Planning([group(keeper(), twin())], damage=hidden).stays == {D: Cause.DAMAGED}


def test_a_damaged_photo_goes_for_a_sound_one() -> None:
    assert Planning([group(keeper(), copy(damage="ends early"))]).gone == {D: K}


def test_a_protected_photo_stays_and_may_be_kept_for_others() -> None:
    disk = Shelf(keeper(), copy())
    disk.change(D, protected=True)
    assert Planning([group(keeper(), copy())], disk=disk).stays == {D: Cause.PROTECTED}
    disk = Shelf(keeper(), copy())
    disk.change(K, protected=True)
    assert Planning([group(keeper(), copy())], disk=disk).gone == {D: K}


@pytest.mark.parametrize("path", [K, D])
@pytest.mark.parametrize("cause", [Cause.CHANGED, Cause.PLACE])
def test_a_pair_stays_if_one_of_the_two_is_not_as_it_was_scanned(path: str, cause: Cause) -> None:
    disk = Shelf(keeper(), copy())
    disk.lose(path, cause)
    assert Planning([group(keeper(), copy())], disk=disk).stays == {D: cause}


def test_the_same_bytes_are_believed_only_while_the_digests_agree() -> None:
    disk = Shelf(keeper(), twin())
    disk.change(D, digest=bytes(32))
    assert Planning([group(keeper(), twin())], disk=disk).stays == {D: Cause.CHANGED}
    # And two files that are the same now were not when they were compared.
    disk = Shelf(keeper(), copy())
    disk.change(D, digest=keeper().digest)
    assert Planning([group(keeper(), copy())], disk=disk).stays == {D: Cause.CHANGED}


@pytest.mark.parametrize("links", [1, 2])
def test_a_file_never_goes_for_itself_under_another_name(links: int) -> None:
    """Hard links gain nothing; one inode with a single link under two names is one file."""
    made = Planning([group(keeper(link_count=links), twin(inode=1, link_count=links))])
    assert made.stays == {D: Cause.LINKED}


# ---- metadata ------------------------------------------------------------------------------------------------------

TOLD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"gps": "1.0, 2.0"}, "GPS position 1.0, 2.0"),
    ({"gps": "3.0, 4.0"}, {"gps": "1.0, 2.0"}, "GPS position 1.0, 2.0 (the keeper says 3.0, 4.0)"),
    ({}, {"capture_time": "2019-07-04T12:41:07"}, "capture date 2019-07-04T12:41:07"),
    ({"rating": "3"}, {"rating": "5"}, "rating 5 (the keeper says 3)"),
    ({"keywords": ("sea",)}, {"keywords": ("sea", "sun")}, "keywords sun"),
    ({}, {"caption": "at the sea"}, "caption at the sea"),
    ({}, {"camera": "Canon"}, "camera Canon"),
    ({}, {"content_identifier": "A1"}, "the tie to its Live Photo"),
    ({"exif_tags": 10}, {"exif_tags": 18}, "8 further EXIF tags"),
    ({}, {"icc_digest": "ab", "icc_name": "Display P3"}, "colour profile Display P3"),
]


@pytest.mark.parametrize(("kept", "lost", "words"), TOLD)
def test_a_copy_that_says_what_the_keeper_does_not_goes_only_if_a_person_accepts_that(
    kept: dict[str, Any], lost: dict[str, Any], words: str
) -> None:
    one, other = keeper(**kept), copy(**lost)
    made = Planning([group(one, other)])
    assert made.stays == {D: Cause.METADATA}
    assert made.left_out[0].losses == (words,)
    assert "--accept-metadata-loss" in made.left_out[0].remedy
    accepted = Planning([group(one, other)], ACCEPTING)
    assert (accepted.gone, accepted.operations[0].losses) == ({D: K}, (words,))
    decided = Planning([group(one, other)], decisions=[decision(Verdict.REMOVE, one, other)])
    assert (decided.gone, decided.operations[0].losses) == ({D: K}, (words,))


@pytest.mark.parametrize(
    ("kept", "lost"),
    [
        ({"capture_time": "2019-07-04T12:41:07"}, {"capture_time": "2019-07-04T12:41:07.25"}),
        ({"gps": "1.0, 2.0"}, {}),
        ({"exif_tags": 10}, {"exif_tags": 17}),
        ({}, {"icc_digest": "ab", "icc_name": "sRGB IEC61966-2.1"}),
        ({"icc_digest": "cd"}, {"icc_digest": "ab", "icc_name": "Display P3"}),
        ({}, {"software": "GIMP"}),
    ],
)
def test_what_the_keeper_says_too_is_no_loss(kept: dict[str, Any], lost: dict[str, Any]) -> None:
    assert Planning([group(keeper(**kept), copy(**lost))]).gone == {D: K}


def test_tags_of_a_file_manager_are_a_loss() -> None:
    disk = Shelf(keeper(), twin())
    disk.change(D, notes=(("tags", b"sea"),))
    made = Planning([group(keeper(), twin())], disk=disk)
    assert (made.stays, made.left_out[0].losses) == ({D: Cause.METADATA}, ("tags",))
    disk.change(K, notes=(("tags", b"sea"),))
    assert Planning([group(keeper(), twin())], disk=disk).gone == {D: K}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": 0o100600}, "permissions rw------- (the keeper has rw-r--r--)"),
        ({"uid": 5}, "owner 5:1000 (the keeper has 1000:1000)"),
        ({"xattrs": bytes(32)}, "extended attributes that differ from the keeper's"),
    ],
)
def test_a_hard_link_that_levels_permissions_owners_or_attributes_is_a_loss(
    changes: dict[str, Any], words: str
) -> None:
    disk = Shelf(keeper(), twin())
    disk.change(D, **changes)
    groups = [group(keeper(), twin())]
    made = Planning(groups, LINKING, disk=disk)
    assert (made.stays, made.left_out[0].losses) == ({D: Cause.METADATA}, (words,))
    assert Planning(groups, replace(LINKING, accept_metadata_loss=True), disk=disk).gone == {D: K}
    # What stays a file of its own, in quarantine or with blocks shared, loses none of it.
    assert Planning(groups, disk=disk).gone == {D: K}
    assert Planning(groups, Selection(act=Act.REFLINK), disk=disk).gone == {D: K}


# ---- units ---------------------------------------------------------------------------------------------------------

CR2_K, CR2_D = "/photos/k.CR2", "/photos/d.CR2"


def raw_pair(content_of_raw: bytes = b"raw") -> tuple[Photo, Photo, Shelf]:
    """Two photos, each with a RAW beside it; by default RAWs of the same bytes."""
    one, other = keeper(), twin()
    disk = Shelf(one, other)
    disk.put_beside(one, "k.CR2", b"raw", 11)
    disk.put_beside(other, "d.CR2", content_of_raw, 12)
    return one, other, disk


def test_a_partner_with_the_same_bytes_beside_the_keeper_goes_along() -> None:
    one, other, disk = raw_pair()
    made = Planning([group(one, other)], disk=disk)
    assert (made.gone, made.with_them) == ({D: K}, {CR2_D: CR2_K})
    assert made.operations[0].frees_bytes == 1_000_000 + 3


def test_a_partner_without_an_equal_beside_the_keeper_holds_the_duplicate() -> None:
    one, other, disk = raw_pair(b"another raw")
    assert Planning([group(one, other)], ACCEPTING, disk=disk).stays == {D: Cause.UNIT}
    remove = decision(Verdict.REMOVE, one, other)
    assert Planning([group(one, other)], decisions=[remove], disk=disk).operations == ()


def test_a_partner_that_cannot_be_read_holds_the_duplicate() -> None:
    one, other, disk = raw_pair()
    disk.lose(CR2_D, Cause.PLACE)
    assert Planning([group(one, other)], disk=disk).stays == {D: Cause.PLACE}
    one, other, disk = raw_pair()
    disk.lose(CR2_K, Cause.PLACE)
    assert Planning([group(one, other)], disk=disk).stays == {D: Cause.UNIT}


def test_a_partner_that_is_one_file_with_its_twin_holds_the_duplicate() -> None:
    one, other, disk = raw_pair()
    disk.change(CR2_D, inode=11)
    assert Planning([group(one, other)], disk=disk).stays == {D: Cause.UNIT}


def test_links_leave_partners_where_they_are() -> None:
    one, other, disk = raw_pair(b"another raw")
    made = Planning([group(one, other)], LINKING, disk=disk)
    assert (made.gone, made.with_them) == ({D: K}, {})


def test_a_sidecar_on_the_duplicate_only_is_a_loss_and_goes_along_if_that_is_accepted() -> None:
    disk = Shelf(keeper(), twin())
    sidecar = disk.put_beside(twin(), "d.xmp", b"stars", 12)
    made = Planning([group(keeper(), twin())], disk=disk)
    assert (made.stays, made.left_out[0].losses) == ({D: Cause.METADATA}, ("sidecar d.xmp",))
    accepted = Planning([group(keeper(), twin())], ACCEPTING, disk=disk)
    assert (accepted.gone, accepted.with_them) == ({D: K}, {sidecar: None})


def test_a_sidecar_that_differs_from_the_keepers_is_a_loss() -> None:
    disk = Shelf(keeper(), twin())
    disk.put_beside(twin(), "d.xmp", b"five stars", 12)
    disk.put_beside(keeper(), "k.xmp", b"no stars", 11)
    made = Planning([group(keeper(), twin())], disk=disk)
    assert made.left_out[0].losses == ("sidecar d.xmp, which differs from the keeper's",)


def test_a_sidecar_of_the_same_bytes_beside_the_keeper_goes_along() -> None:
    disk = Shelf(keeper(), twin())
    disk.put_beside(twin(), "d.xmp", b"stars", 12)
    disk.put_beside(keeper(), "k.xmp", b"stars", 11)
    assert Planning([group(keeper(), twin())], disk=disk).with_them == {"/photos/d.xmp": "/photos/k.xmp"}


def test_a_sidecar_that_belongs_to_another_photo_too_holds_the_duplicate() -> None:
    disk = Shelf(keeper(), twin())
    sidecar = disk.put_beside(twin(), "d.xmp", b"stars", 12)
    disk.units["/photos/d.png"] = (sidecar,)
    made = Planning([group(keeper(), twin())], ACCEPTING, disk=disk)
    assert made.stays == {D: Cause.UNIT}
    assert "d.png" in made.left_out[0].why


def test_a_sidecar_of_both_stays_with_the_keeper() -> None:
    png = copy(2, "/photos/k.png")
    disk = Shelf(keeper(), png)
    sidecar = disk.put_beside(keeper(), "k.xmp", b"stars", 11)
    disk.units[png.file.path] = (sidecar,)
    made = Planning([group(keeper(), png)], disk=disk)
    assert (made.gone, made.with_them) == ({"/photos/k.png": K}, {})


@pytest.mark.parametrize("way", [(K, CR2_K), (CR2_K, K)])
def test_a_raw_and_its_jpeg_never_go_for_each_other(way: tuple[str, str]) -> None:
    one, raw = keeper(), copy(2, CR2_K)
    disk = Shelf(one, raw)
    disk.units[way[0]] = (way[1],)
    remove = decision(Verdict.REMOVE, one, raw)
    made = Planning([group(one, raw)], decisions=[remove], disk=disk)
    assert made.stays == {CR2_K: Cause.UNIT}
    assert made.left_out[0].why == "it and k.jpg belong together"


def test_a_unit_of_photos_that_are_both_duplicates_goes_once() -> None:
    """RAW and JPEG are in groups of their own: whichever is taken first, the unit moves once and whole."""
    jpegs = keeper(), copy()
    raws = draw_photo(3, CR2_K, "raw"), draw_photo(4, CR2_D, "raw")
    disk = Shelf(*jpegs, *raws)
    for jpeg, raw in zip(jpegs, raws, strict=True):
        disk.units[jpeg.file.path], disk.units[raw.file.path] = (raw.file.path,), (jpeg.file.path,)
    made = Planning([group(*jpegs), group(*raws)], disk=disk)
    # The JPEGs differ in their bytes, so only the JPEG can take its RAW along, not the reverse.
    assert (made.gone, made.with_them) == ({D: K}, {CR2_D: CR2_K})
    assert made.left_out == ()


def test_a_partner_that_is_kept_for_another_duplicate_holds_the_unit() -> None:
    one, other, disk = raw_pair()
    raw, third = draw_photo(5, CR2_D, "r", inode=12), draw_photo(6, "/photos/a/x.CR2", "r")
    disk.files[CR2_D] = Shelf(raw).files[CR2_D]
    disk.files[third.file.path] = Shelf(third).files[third.file.path]
    disk.change(CR2_K, digest=raw.digest, size_bytes=1_000_000)
    made = Planning([group(raw, third), group(one, other)], disk=disk)
    assert made.gone == {third.file.path: CR2_D}
    assert made.stays == {D: Cause.KEEPER_GOES}


# ---- links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [Act.HARDLINK, Act.REFLINK])
def test_only_the_same_bytes_are_linked(act: Act) -> None:
    groups = [group(keeper(), twin(), copy(3, E), member(keeper(), copy(4, F), Relation.SAME_PIXELS))]
    made = Planning(groups, Selection(act=act))
    assert made.gone == {D: K}
    assert made.stays == {E: Cause.ACT, F: Cause.ACT}
    decided = decision(Verdict.REMOVE, keeper(), copy(3, E))
    assert E not in Planning(groups, Selection(act=act), [decided]).gone


@pytest.mark.parametrize("act", [Act.HARDLINK, Act.REFLINK])
def test_nothing_is_linked_across_disks(act: Act) -> None:
    far = twin(path="/other/d.jpg")
    assert Planning([group(keeper(), far)], Selection(act=act)).stays == {"/other/d.jpg": Cause.PLACE}
    assert Planning([group(keeper(), far)]).gone == {"/other/d.jpg": K}


def test_a_set_of_hard_links_is_linked_whole_or_not_at_all() -> None:
    first, second = twin(inode=9, link_count=2), twin(3, E, inode=9, link_count=2)
    assert Planning([group(keeper(), first, second)], LINKING).gone == {D: K, E: K}
    made = Planning([group(keeper(), first)], LINKING)
    assert made.stays == {D: Cause.LINKED}
    assert "further names" in made.left_out[0].why


def test_blocks_of_a_file_with_two_names_are_shared_once() -> None:
    first, second = twin(inode=9, link_count=2), twin(3, E, inode=9, link_count=2)
    made = Planning([group(keeper(), first, second)], Selection(act=Act.REFLINK))
    assert (made.gone, made.stays) == ({D: K}, {E: Cause.LINKED})
    assert made.operations[0].frees_bytes == 1_000_000


def test_what_shares_its_blocks_already_is_not_planned_again() -> None:
    disk = Shelf(keeper(), twin())
    disk.shared.add((D, K))
    assert Planning([group(keeper(), twin())], Selection(act=Act.REFLINK), disk=disk).stays == {
        D: Cause.LINKED
    }
    assert Planning([group(keeper(), twin())], LINKING, disk=disk).gone == {D: K}


def test_bytes_come_back_with_the_last_name_of_a_file() -> None:
    first, second = twin(inode=9, link_count=2), twin(3, E, inode=9, link_count=2)
    made = Planning([group(keeper(), first, second)])
    assert [operation.frees_bytes for operation in made.operations] == [0, 1_000_000]
    made = Planning([group(keeper(), twin(inode=9, link_count=2))])
    assert [operation.frees_bytes for operation in made.operations] == [0]


# ---- selection -----------------------------------------------------------------------------------------------------


def test_only_what_is_named_is_planned_and_the_rest_is_not_mentioned() -> None:
    one = group(keeper(), twin(), copy(3, E), member(keeper(), copy(4, F), Relation.EDITED))
    other = group(draw_photo(5, "/other/k.jpg"), draw_photo(6, "/photos/sub/d.jpg"))
    made = Planning([one, other], Selection(only=(Relation.SAME_BYTES,)))
    assert (made.gone, made.stays) == ({D: K}, {})
    made = Planning([one, other], Selection(groups=(other.id,)))
    assert made.gone == {"/photos/sub/d.jpg": "/other/k.jpg"}
    assert made.stays == {}
    made = Planning([one, other], Selection(within=("/photos/sub",)))
    assert (list(made.gone), made.stays) == (["/photos/sub/d.jpg"], {})
    made = Planning([one, other], Selection(within=("/photos/su",)))
    assert (made.gone, made.stays) == ({}, {})


def test_a_keeper_may_lie_outside_the_folder_that_is_cleared() -> None:
    made = Planning([group(draw_photo(1, "/other/k.jpg"), copy())], Selection(within=("/photos",)))
    assert made.gone == {D: "/other/k.jpg"}


# ---- the whole -----------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_the_groups_a_plan_holds_together_and_does_not_depend_on_their_order(data: Any) -> None:
    """Any groups at all, even ones that share files: every plan passes its own checks, and keeps what it says."""
    choose = data.draw
    photos = [
        draw_photo(
            number,
            f"/photos/{number}.jpg",
            choose(st.sampled_from(["a", "b", "c", f"own {number}"])),
            inode=choose(st.integers(1, 6)),
            link_count=9,
        )
        for number in range(1, 9)
    ]
    by_inode = {photo.file.inode: photo for photo in photos}
    photos = [replace(photo, digest=by_inode[photo.file.inode].digest) for photo in photos]
    groups = []
    for first in choose(st.lists(st.sampled_from(photos), min_size=1, max_size=4, unique=True)):
        others = choose(st.lists(st.sampled_from(photos), min_size=1, max_size=5, unique=True))
        others = [other for other in others if other != first]
        relations = st.sampled_from([Relation.SAME_PICTURE, Relation.EDITED])
        groups.append(
            group(
                first,
                *(
                    member(first, other, None if other.digest == first.digest else choose(relations))
                    for other in others
                ),
            )
        )
    verdicts = st.sampled_from([Verdict.REMOVE, Verdict.KEEP_BOTH, Verdict.LATER, Verdict.KEEP])
    decisions = [
        decision(choose(verdicts), *choose(st.permutations(photos))[:2])
        for _ in range(choose(st.integers(0, 3)))
    ]
    decisions = [
        replace(found, right=b"") if found.verdict is Verdict.KEEP else found
        for found in decisions
        if found.left != found.right
    ]
    disk = Shelf(*photos)
    for photo in photos:
        if choose(st.booleans()):
            name = f"{photo.id}.xmp"
            disk.put_beside(photo, name, choose(st.sampled_from([b"x", b"y"])), 100 + photo.id)
    selection = Selection(act=choose(st.sampled_from(list(Act))), accept_metadata_loss=choose(st.booleans()))
    made = Planning(groups, selection, decisions, disk=disk)  # checks the plan
    kept = set(made.gone.values()) | {path for path in made.with_them.values() if path}
    gone = {*made.gone, *made.with_them}
    assert not kept & gone
    again = Planning(random.Random(1).sample(groups, len(groups)), selection, decisions, disk=disk)
    assert (again.operations, again.left_out) == (made.operations, made.left_out)
