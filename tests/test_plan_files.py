"""The plan file: what is written reads back, and whatever is not exactly as it should be is refused whole."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import stat
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.errors import Unsafe
from dedup.plan import is_plan, plan_lines, plan_text, plan_to_json, read_plan, simple_lines
from dedup.plan.checks import Fault, check_plan
from dedup.plan.files import LONGEST_LINE
from dedup.records import (
    Act,
    Companion,
    Operation,
    Plan,
    PlannedFile,
    PlanRoot,
    Relation,
    Selection,
    Verdict,
)
from tests.drawn import draw_photo
from tests.planned import Planning, Shelf, decision, group, member

K, D, E, F = (f"/photos/{name}.jpg" for name in "kdef")


def a_plan() -> Plan:
    """Two operations for one keeper, one with a sidecar; one edited that was decided; one left alone."""
    keep, dup = draw_photo(1, K), draw_photo(2, D, K)
    third, edited = draw_photo(3, E), draw_photo(4, F)
    disk = Shelf(keep, dup, third, edited, draw_photo(5, "/photos/g.jpg"))
    disk.put_beside(dup, "d.xmp", b"stars", 12)
    disk.put_beside(keep, "k.xmp", b"stars", 11)
    found = group(
        keep,
        dup,
        third,
        member(keep, edited, Relation.EDITED),
        member(keep, draw_photo(5, "/photos/g.jpg"), Relation.EDITED),
    )
    made = Planning([found], decisions=[decision(Verdict.REMOVE, keep, edited)], disk=disk)
    assert len(made.operations) == 3
    return replace(made.plan, protected=(b"/photos/safe",))


def written(plan: Plan) -> bytes:
    return b"".join(plan_lines(plan))


def read(data: bytes) -> Plan:
    return read_plan(io.BytesIO(data), "a.plan")


def forged(change: Callable[[list[Any]], object], data: bytes | None = None) -> bytes:
    """A plan file with its rows changed by hand, and everything about it made to fit again."""
    rows = [json.loads(line) for line in (data or written(a_plan())).splitlines()]
    change(rows)
    rows[0]["operations"] = sum("left_out" not in row for row in rows[1:])
    rows[0]["left_out"] = sum("left_out" in row for row in rows[1:])
    return sealed(rows)


def sealed(rows: list[Any]) -> bytes:
    """The rows with the digest that belongs to them."""
    rows[0]["sha256"] = ""
    whole = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
    return whole.replace(b'"sha256":""', f'"sha256":"{hashlib.sha256(whole).hexdigest()}"'.encode(), 1)


def b64(text: bytes) -> str:
    return base64.b64encode(text).decode()


# ---- what is written reads back ------------------------------------------------------------------------------------


def test_a_plan_reads_back_as_it_was_written() -> None:
    plan = a_plan()
    assert read(written(plan)) == plan
    assert written(plan) == written(read(written(plan)))
    assert is_plan(written(plan)[:64])
    assert forged(lambda rows: None) == written(plan)


def test_a_plan_that_does_nothing_reads_back() -> None:
    plan = replace(a_plan(), operations=(), left_out=())
    assert read(written(plan)) == plan


names = st.lists(
    st.binary(min_size=1, max_size=12).filter(
        lambda part: not set(part) & set(b"/\0") and part not in (b".", b"..", b".dedup")
    ),
    min_size=1,
    max_size=3,
).map(b"/".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(names, min_size=2, max_size=2, unique=True), st.text(), st.integers(0, 2**64 - 1))
def test_any_name_and_any_sentence_reads_back(paths: list[bytes], sentence: str, inode: int) -> None:
    """Names are bytes: newlines, escapes, what is not UTF-8; sentences may quote them."""
    plan = a_plan()
    operation = plan.operations[1]
    odd = replace(
        operation,
        id=1,
        dup=replace(operation.dup, path=paths[0], inode=inode or 5, mtime_ns=-7, link_count=2**40),
        keep=replace(operation.keep, path=paths[1], inode=(inode or 5) - 1),
        sentence=sentence,
        why=(sentence, paths[0].decode("utf-8", "surrogateescape")),
    )
    plan = replace(plan, operations=(odd,))
    data = written(plan)
    assert read(data) == plan
    assert data.isascii()
    assert data.count(b"\n") == 3
    for line in (*simple_lines(plan), json.dumps(plan_to_json(plan))):
        line.encode("utf-8")
    assert list(plan_text(plan, str))


def test_only_a_plan_that_holds_together_is_written() -> None:
    plan = a_plan()
    twice = replace(plan, operations=(plan.operations[0], replace(plan.operations[0], id=2)))
    with pytest.raises(Unsafe, match="goes twice"):
        written(twice)


# ---- the file itself -----------------------------------------------------------------------------------------------


def test_a_plan_that_is_cut_off_anywhere_is_refused() -> None:
    data = written(a_plan())
    for end in range(len(data)):
        with pytest.raises(Unsafe, match="nothing was done"):
            read(data[:end])


def test_a_plan_with_any_byte_changed_is_refused() -> None:
    data = written(a_plan())
    for place in range(0, len(data), 3):
        spoilt = bytearray(data)
        spoilt[place] ^= 1 + place % 7
        with pytest.raises(Unsafe, match="nothing was done"):
            read(bytes(spoilt))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: b"", "it is empty"),
        (lambda data: b"\n" + data, "JSON"),
        (lambda data: data + b"\n", "JSON"),
        (lambda data: data + b"{}\n", "an operation after"),
        (lambda data: data.replace(b"\n", b"\r\n"), "sha256"),
        (lambda data: data.rstrip(b"\n"), "cut off"),
        (lambda data: b"\xef\xbb\xbf" + data, "JSON"),
        (lambda data: data.replace(b'"id":1', '"id":"é"'.encode()), "JSON"),
        (lambda data: b" " * (LONGEST_LINE + 2) + data, "longer"),
        (lambda data: data.splitlines(keepends=True)[0], "sha256"),
        (lambda data: b"".join(data.splitlines(keepends=True)[1:]), "begin like a plan"),
        (lambda data: data + data.splitlines(keepends=True)[1], "an operation after"),
        (lambda data: b"[" * 100_000 + b"\n", "JSON"),
        (lambda data: b"[]\n" + data, "no JSON object"),
        (lambda data: data.replace(b'{"id":1,', b'{"id":1,"id":1,'), "twice"),
        (lambda data: data.replace(b'"rms_levels":1.5', b'"rms_levels":NaN'), "no number"),
        (lambda data: data.replace(b'"rms_levels":1.5', b'"rms_levels":1e999'), "no number"),
    ],
)
def test_a_file_that_is_not_shaped_like_a_plan_is_refused(
    spoil: Callable[[bytes], bytes], words: str
) -> None:
    with pytest.raises(Unsafe, match=words):
        read(spoil(written(a_plan())))


def test_the_refusal_names_the_file_and_the_line() -> None:
    with pytest.raises(Unsafe, match=r"a\.plan, line 2: .*Make it again") as caught:
        read(forged(lambda rows: rows[1].pop("keep")))
    assert caught.value.exit_code == 5


# ---- fields --------------------------------------------------------------------------------------------------------


def every_field() -> list[tuple[Any, ...]]:
    """The way to each field of a plan, as keys from the rows."""
    rows = [json.loads(line) for line in written(a_plan()).splitlines()]
    found: list[tuple[Any, ...]] = []

    def walk(value: Any, way: tuple[Any, ...]) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                found.append((*way, key))
                walk(inner, (*way, key))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            walk(value[0], (*way, 0))

    walk(rows[0], (0,))
    walk(rows[1], (1,))
    walk(rows[-1], (len(rows) - 1,))
    return found


FIELDS = every_field()


def holder(rows: list[Any], way: tuple[Any, ...]) -> Any:
    found: Any = rows
    for key in way[:-1]:
        found = found[key]
    return found


def test_every_field_of_the_records_stands_in_the_file() -> None:
    names = {str(way[-1]) for way in FIELDS}
    kinds = (Operation, PlannedFile, PlanRoot, Companion)
    wanted = {field.name for kind in kinds for field in fields(kind)} - {"digest"}
    assert wanted <= names
    assert "sha256" in names


@pytest.mark.parametrize("way", FIELDS, ids=lambda way: ".".join(map(str, way)))
def test_a_field_that_is_missing_is_refused(way: tuple[Any, ...]) -> None:
    if way in ((0, "operations"), (0, "left_out"), (0, "sha256")):
        rows = [json.loads(line) for line in written(a_plan()).splitlines()]
        del rows[0][way[-1]]
        data = sealed(rows) if way != (0, "sha256") else json.dumps(rows[0]).encode() + b"\n"
    else:
        data = forged(lambda rows: holder(rows, way).pop(way[-1]))
    with pytest.raises(Unsafe, match=r"missing|begin like|format"):
        read(data)


@pytest.mark.parametrize(
    "way", sorted({(*way[:-1], "more") for way in FIELDS}, key=str), ids=lambda way: ".".join(map(str, way))
)
def test_a_field_that_is_unknown_is_refused(way: tuple[Any, ...]) -> None:
    with pytest.raises(Unsafe, match="'more' is unknown"):
        read(forged(lambda rows: holder(rows, way).update(more=1)))


@pytest.mark.parametrize("way", FIELDS, ids=lambda way: ".".join(map(str, way)))
@pytest.mark.parametrize("value", [None, -1.5, True, "?", [], {}, [[1]], 2**200], ids=repr)
def test_a_field_of_another_kind_is_refused_or_means_the_same(way: tuple[Any, ...], value: Any) -> None:
    """No value of the wrong kind gets through: what is accepted stands there again when it is written."""
    if way in ((0, "sha256"), (0, "operations"), (0, "left_out")):
        return
    before: list[Any] = []

    def change(rows: list[Any]) -> None:
        before.append(holder(rows, way)[way[-1]])
        holder(rows, way)[way[-1]] = value

    data = forged(change)
    try:
        found = read(data)
    except Unsafe:
        return
    assert written(found) == data
    assert type(value) is type(before[0]) or (value is None and way[-1] in ("twin", "worst_tile_box"))


@pytest.mark.parametrize("counted", ["operations", "left_out"])
def test_a_plan_that_holds_more_or_fewer_lines_than_it_says_is_refused(counted: str) -> None:
    for change in (1, -1):
        rows = [json.loads(line) for line in written(a_plan()).splitlines()]
        rows[0][counted] += change
        with pytest.raises(Unsafe, match="as many lines"):
            read(sealed(rows))


def change_first(**changes: Any) -> Callable[[list[Any]], None]:
    return lambda rows: rows[1].update(changes)


def change_dup(**changes: Any) -> Callable[[list[Any]], None]:
    return lambda rows: rows[2]["dup"].update(changes)


PATHS = [b"", b"/a", b"a/../b", b"..", b"a//b", b"a/", b"./a", b"a\0b", b"a/.dedup/b", b".dedup", b"a/."]


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_a_path_that_leads_anywhere_but_below_its_root_is_refused(path: bytes) -> None:
    with pytest.raises(Unsafe, match=r"path below a root|dedup's own"):
        read(forged(change_dup(path=b64(path))))


@pytest.mark.parametrize("path", [b"", b"photos", b"/photos/", b"/a/../b", b"//a", b"/a\0", b"/."], ids=repr)
def test_a_root_that_is_no_plain_absolute_path_is_refused(path: bytes) -> None:
    for way in (
        lambda rows: rows[0]["roots"][1].update(path=b64(path)),
        lambda rows: rows[0].update(protected=[b64(path)]),
    ):
        with pytest.raises(Unsafe, match=r"absolute path|plain path"):
            read(forged(way))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[0].update(format=2), "format is 2"),
        (lambda rows: rows[0].update(format=True), "format is True"),
        (lambda rows: rows[0].update(kind="another"), "begin like a plan"),
        (lambda rows: rows[0]["roots"].append(dict(rows[0]["roots"][0])), "a root stands there twice"),
        (lambda rows: rows[0]["roots"].append(rows[0]["roots"][0] | {"path": b64(b"/x")}), "one folder"),
        (lambda rows: rows[0]["roots"].clear(), "a root is missing"),
        (lambda rows: rows[0].update(protected=[b64(b"/photos")]), "protected folder"),
        (lambda rows: rows[0].update(protected=[b64(b"/photos/e.jpg")]), "protected folder"),
        (lambda rows: rows[0].update(protected=[b64(b"/")]), "protected folder"),
        (lambda rows: rows.reverse(), "begin like a plan"),
        (change_first(id=2), "from 1 to the end"),
        (lambda rows: rows[2].update(id=1), "from 1 to the end"),
        (change_first(act="delete"), "'delete' is unknown"),
        (change_first(relation="alike"), "'alike' is unknown"),
        (change_first(frees_bytes=10**7), "frees more"),
        (lambda rows: rows[1]["figures"].update(alignment=[]), "right length"),
        (lambda rows: rows[1]["figures"].update(compared_px=[1]), "right length"),
        (lambda rows: rows[1]["figures"].update(worst_tile_box=[0.1]), "right length"),
        (change_dup(sha256=""), "no digest"),
        (change_dup(sha256="ab"), "no digest"),
        (change_dup(sha256="AB" * 32), "no digest"),
        (change_dup(xattrs="ab"), "no digest"),
        (change_dup(path="####"), "base64"),
        (change_dup(path="YQ"), "base64"),
        (change_dup(path="YR=="), "base64"),
        (change_dup(link_count=0), "in its range"),
        (change_dup(size_bytes=-1), "in its range"),
        (change_dup(size_bytes=True), "in its range"),
        (change_dup(inode=2**64), "in its range"),
        (change_dup(root=2), "a root is missing"),
        (change_dup(root=-1), "in its range"),
        (change_dup(mode=stat.S_IFDIR | 0o755), "no regular file"),
        (change_dup(mode=stat.S_IFLNK | 0o777), "no regular file"),
        (change_dup(device=7), "another disk than its root"),
    ],
)
def test_a_value_that_cannot_be_is_refused(change: Callable[[list[Any]], None], words: str) -> None:
    with pytest.raises(Unsafe, match=words):
        read(forged(change))


# ---- what must hold across the plan --------------------------------------------------------------------------------


def one(**changes: Any) -> Plan:
    """A plan of one operation, the same bytes, with fields of it changed."""
    plan = Planning([group(draw_photo(1, K), draw_photo(2, D, K))]).plan
    return replace(plan, operations=(replace(plan.operations[0], **changes),))


def two(**changes: Any) -> Plan:
    """A plan of two operations for one keeper, with fields of the second one changed."""
    keep = draw_photo(1, K)
    plan = Planning([group(keep, draw_photo(2, D), draw_photo(3, E))]).plan
    return replace(plan, operations=(plan.operations[0], replace(plan.operations[1], **changes)))


def operation(plan: Plan, number: int = 0) -> Operation:
    return plan.operations[number]


def broken_plans() -> list[tuple[Plan, str]]:
    plain, pair = one(), two()
    dup, keep = operation(plain).dup, operation(plain).keep
    first, second = pair.operations
    linked = Act.HARDLINK
    sidecar = replace(dup, path=b"d.xmp", inode=50, digest=bytes(32), size_bytes=3)
    beside = replace(sidecar, path=b"k.xmp", inode=51)
    far = Planning([group(draw_photo(1, "/other/k.jpg"), draw_photo(2, D, "/other/k.jpg"))]).plan
    pixels = replace(operation(two()).figures, compared_px=(0, 0))
    never = replace(operation(two()).figures, rms_levels=-1.0)
    return [
        (replace(pair, operations=(first, replace(second, dup=first.dup))), "goes twice"),
        (replace(pair, operations=(first, replace(second, keep=first.dup))), "kept for one file and goes"),
        (
            replace(pair, operations=(first, replace(second, dup=first.keep, keep=second.dup))),
            "kept for one file",
        ),
        (two(keep=replace(first.keep, mtime_ns=1)), "described in two ways"),
        (two(dup=replace(second.dup, inode=first.keep.inode)), "shares an inode"),
        (
            two(
                dup=replace(second.dup, inode=first.keep.inode, digest=first.keep.digest),
                relation=Relation.SAME_BYTES,
            ),
            "kept under another name",
        ),
        (
            two(dup=replace(second.dup, inode=first.dup.inode, digest=first.dup.digest)),
            "one name goes under two",
        ),
        (one(keep=replace(keep, digest=bytes(32))), "contradict"),
        (one(keep=replace(keep, size_bytes=5)), "contradict"),
        (one(relation=Relation.SAME_PIXELS), "contradict"),
        (two(relation=Relation.SAME_BYTES), "contradict"),
        (two(relation=Relation.SIMILAR, decided=True), "never acted on"),
        (two(relation=Relation.EDITED), "nobody decided"),
        (two(figures=pixels), "never compared"),
        (two(figures=never), "never compared"),
        (two(act=linked), "only the same bytes"),
        (two(act=Act.REFLINK), "only the same bytes"),
        (one(act=linked, companions=(Companion(sidecar, beside),)), "leave every name"),
        (replace(far, operations=(replace(operation(far), act=linked),)), "different disks"),
        (one(companions=(Companion(sidecar, None),)), "nobody gave up"),
        (one(companions=(Companion(sidecar, replace(beside, digest=b"\1" * 32)),)), "twin differ"),
        (one(companions=(Companion(sidecar, replace(beside, size_bytes=4)),)), "twin differ"),
        (one(companions=(Companion(replace(sidecar, device=7), beside),)), "another disk"),
        (one(companions=(Companion(replace(sidecar, path=b".dedup/x"), beside),)), "dedup's own"),
        (one(companions=(Companion(sidecar, replace(beside, mode=0)),)), "no regular file"),
        (one(companions=(Companion(dup, replace(dup, path=b"k2.jpg", inode=51)),)), "goes twice"),
        (one(companions=(Companion(keep, replace(keep, path=b"k2.jpg", inode=51)),)), "kept for one file"),
        (one(companions=(Companion(sidecar, replace(sidecar, path=b"k.xmp")),)), "kept under another name"),
        (one(act=linked, dup=replace(dup, link_count=2)), "would be split"),
        (one(dup=replace(dup, digest=b""), keep=replace(keep, digest=b"")), "digest is missing"),
    ]


@pytest.mark.parametrize(
    ("plan", "words"), broken_plans(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_plan_that_would_lose_something_is_refused(plan: Plan, words: str) -> None:
    with pytest.raises(Fault, match=words):
        check_plan(plan)


@pytest.mark.parametrize(
    ("plan", "words"), broken_plans()[:-1], ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_reader_refuses_it_too(plan: Plan, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup.plan.files.check_plan", lambda plan: None)
    data = written(plan)
    monkeypatch.undo()
    with pytest.raises(Unsafe, match=words):
        read(data)


def test_a_folder_protects_what_is_in_it_and_not_what_begins_with_its_name() -> None:
    check_plan(replace(two(), protected=(b"/photos/e", b"/phot", b"/photos/e.jpgs")))


def test_hard_links_that_go_whole_are_no_fault() -> None:
    photos = [draw_photo(number, path, K, inode=9, link_count=2) for number, path in ((2, D), (3, E))]
    plan = Planning([group(draw_photo(1, K), *photos)], Selection(act=Act.HARDLINK)).plan
    assert read(written(plan)) == plan


def test_a_name_is_compared_byte_for_byte_and_never_folded() -> None:
    """Two forms of one name, and two cases, are four files where the disk says so."""
    paths = ["/photos/é.jpg", "/photos/e\u0301.jpg", "/photos/A.jpg", "/photos/a.jpg"]
    photos = [draw_photo(number, path, K) for number, path in enumerate(paths, start=2)]
    plan = Planning([group(draw_photo(1, K), *photos)]).plan
    assert len(read(written(plan)).operations) == 4
