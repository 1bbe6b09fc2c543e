"""What people decide: kept by content, honoured by groups and keepers at once and for ever, taken elsewhere as JSON."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import dedup
from dedup import pipeline
from dedup.catalogue import Catalogue
from dedup.confirm import CONFIRM_RECIPE
from dedup.errors import UnreadableInput, UsageError
from dedup.pipeline.deciding import MOST_IGNORED
from dedup.pipeline.matching import Confirmer, Wanted
from dedup.records import Cause, Decision, Inspection, Relation, Report, Verdict
from dedup.settings import Settings
from tests.pictures import as_floats, as_image, cropped, jpeg, real_photo, scaled
from tests.test_pipeline import names, plain

A, B, C, X = (bytes([number]) * 32 for number in (1, 2, 3, 9))
WHEN = "2024-05-01T10:00:00+00:00"


def said(verdict: Verdict, left: bytes, right: bytes = b"", **more: Any) -> Decision:
    return Decision(verdict, left, right, WHEN, **more)


# ---- in the catalogue ----------------------------------------------------------------------------------------------


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterable[Catalogue]:
    with Catalogue.open(str(tmp_path / "c.db"), write=True) as opened:
        yield opened


def test_decisions_read_back_in_the_order_in_which_they_were_given(catalogue: Catalogue) -> None:
    given = [
        said(Verdict.REMOVE, C, A, note="a crop, ü"),
        said(Verdict.NOT_DUPLICATES, A, B),
        said(Verdict.KEEP, B, place="/photos/\udcff\n.jpg"),
        said(Verdict.KEEP_BOTH, A, A),
        said(Verdict.LATER, B, C),
    ]
    assert all(catalogue.put_decision(decision) for decision in given)
    assert catalogue.decisions() == given


def test_a_pair_has_one_verdict_the_last_one_and_repeating_it_is_no_news(catalogue: Catalogue) -> None:
    assert catalogue.put_decision(said(Verdict.LATER, A, B))
    assert catalogue.put_decision(said(Verdict.REMOVE, B, A))
    assert catalogue.put_decision(said(Verdict.REMOVE, A, B))
    assert not catalogue.put_decision(
        replace(said(Verdict.REMOVE, A, B), decided="2025-01-01T00:00:00+00:00")
    )
    assert catalogue.decisions() == [said(Verdict.REMOVE, A, B)]


def test_who_keeps_a_photo_no_longer_lets_it_go_and_the_reverse(catalogue: Catalogue) -> None:
    catalogue.put_decision(said(Verdict.REMOVE, A, B))
    catalogue.put_decision(said(Verdict.REMOVE, B, C))
    catalogue.put_decision(said(Verdict.KEEP, B))
    assert catalogue.decisions() == [said(Verdict.REMOVE, B, C), said(Verdict.KEEP, B)]
    catalogue.put_decision(said(Verdict.REMOVE, A, B))
    assert catalogue.decisions() == [said(Verdict.REMOVE, B, C), said(Verdict.REMOVE, A, B)]


def test_a_decision_can_be_taken_back(catalogue: Catalogue) -> None:
    catalogue.put_decision(said(Verdict.NOT_DUPLICATES, A, B))
    assert not catalogue.forget_decision(said(Verdict.NOT_DUPLICATES, A, C))
    assert catalogue.forget_decision(said(Verdict.LATER, A, B))
    assert catalogue.decisions() == []


# ---- in the groups -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos: one with a byte copy, a small copy and a crop that has a copy; one with two copies; one alone."""
    folder = tmp_path_factory.mktemp("drawn")
    for name in ("chelsea", "coffee", "rocket"):
        (folder / f"{name}.jpg").write_bytes(jpeg(real_photo(name, 400), 95))
    shutil.copy(folder / "chelsea.jpg", folder / "chelsea again.jpg")
    (folder / "chelsea small.jpg").write_bytes(jpeg(scaled(real_photo("chelsea", 400), 0.6), 85))
    cut = cropped(real_photo("chelsea", 400), 0.0, 0.0, 0.94, 0.94)
    (folder / "cut.jpg").write_bytes(jpeg(cut, 92))
    (folder / "cut again.jpg").write_bytes(jpeg(cut, 80))
    (folder / "coffee small.jpg").write_bytes(jpeg(scaled(real_photo("coffee", 400), 0.6), 85))
    (folder / "coffee tiny.jpg").write_bytes(jpeg(scaled(real_photo("coffee", 400), 0.4), 85))
    return folder


@pytest.fixture(scope="module")
def scanned(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of these, scanned once."""
    db = tmp_path_factory.mktemp("books") / "c.db"
    dedup.scan_library([drawn], Settings(db=str(db), jobs=1))
    return db


class Library:
    """A catalogue of its own over the same photos."""

    def __init__(self, folder: Path, db: Path) -> None:
        self.folder = folder
        self.settings = Settings(db=str(db), jobs=1)

    @property
    def report(self) -> Report:
        return dedup.load_report(self.settings)

    @property
    def found(self) -> dict[str, dict[str, str]]:
        return names(self.report)

    def scan(self) -> Report:
        return dedup.scan_library([self.folder], self.settings)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def digest(self, name: str) -> bytes:
        with Catalogue.open(self.settings.db, write=False) as catalogue:
            return catalogue.digests_of([self.path(name)])[self.path(name)]

    def part(self, *photos: str, verdict: Verdict = Verdict.NOT_DUPLICATES) -> list[Decision]:
        decisions = pipeline.part_photos([self.path(name) for name in photos], (), self.settings, verdict)
        pipeline.decide(decisions, self.settings)
        return decisions


@pytest.fixture
def library(drawn: Path, scanned: Path, tmp_path: Path) -> Library:
    shutil.copy(scanned, tmp_path / "c.db")
    return Library(drawn, tmp_path / "c.db")


@pytest.fixture
def own(drawn: Path, scanned: Path, tmp_path: Path) -> Library:
    """As `library`, over a copy of the photos that may be moved about."""
    shutil.copytree(drawn, tmp_path / "photos")
    made = Library(tmp_path / "photos", tmp_path / "c.db")
    made.scan()
    return made


COFFEE = {"coffee small.jpg": "same-picture", "coffee tiny.jpg": "same-picture"}


def test_a_pair_that_was_parted_is_no_group_at_once_and_after_every_scan(own: Library) -> None:
    assert own.found["coffee.jpg"] == COFFEE
    own.part("coffee.jpg", "coffee tiny.jpg")
    assert own.found["coffee.jpg"] == {"coffee small.jpg": "same-picture"}
    assert own.report.summary.photos == 9
    own.scan()
    assert own.found["coffee.jpg"] == {"coffee small.jpg": "same-picture"}
    (own.folder / "sub").mkdir()
    os.rename(own.path("coffee tiny.jpg"), own.path("sub/renamed.jpg"))
    os.rename(own.path("coffee.jpg"), own.path("cup.jpg"))
    own.scan()
    assert own.found["cup.jpg"] == {"coffee small.jpg": "same-picture"}
    shutil.copy(own.path("sub/renamed.jpg"), own.path("another of it.jpg"))
    own.scan()
    assert not any("renamed.jpg" in members for members in own.found.values() if "coffee" in str(members))
    assert "another of it.jpg" not in own.found["cup.jpg"]


def test_an_unchanged_library_is_grouped_anew_only_where_somebody_decided(library: Library) -> None:
    before = library.report
    library.part("coffee.jpg", "coffee tiny.jpg")
    after = library.report
    assert [group for group in after.groups if "chelsea" in group.keeper.file.path] == [
        group for group in before.groups if "chelsea" in group.keeper.file.path
    ]
    assert library.scan().summary.confirmed == 0


def test_a_pair_that_was_parted_is_not_asked_for_again(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Wanted] = []

    def confirm_wanted(_self: Confirmer, wanted: Iterable[Wanted]) -> int:
        asked.extend(wanted)
        return 0

    monkeypatch.setattr(Confirmer, "confirm_wanted", confirm_wanted)
    library.part("chelsea.jpg", "cut again.jpg")  # which is tied to the group by the crop that it copies
    pairs = [(want.pair.left, want.pair.right) for want in asked]
    assert tuple(sorted(_key(library.digest(name)) for name in ("chelsea.jpg", "cut again.jpg"))) not in pairs


def _key(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big") >> 1


def test_a_similar_pair_that_was_parted_is_not_shown_again(tmp_path: Path) -> None:
    library = Library(tmp_path / "photos", tmp_path / "c.db")
    library.folder.mkdir()
    cup = real_photo("coffee", 500)
    moved = 0.5 * as_floats(cup) + 0.5 * as_floats(cup.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    cup.save(library.folder / "1.png")
    as_image(moved).save(library.folder / "2.png")
    assert len(library.scan().similar) == 1
    library.part("1.png", "2.png")
    assert library.report.similar == ()


def test_groups_are_the_same_whether_decided_before_or_after_the_scan(
    library: Library, tmp_path: Path
) -> None:
    decisions = library.part("coffee.jpg", "coffee tiny.jpg", "coffee small.jpg")
    decisions += [said(Verdict.KEEP, library.digest("chelsea small.jpg"))]
    pipeline.decide(decisions, library.settings)
    fresh = Library(library.folder, tmp_path / "fresh.db")
    pipeline.decide(decisions, fresh.settings)
    assert names(fresh.scan()) == library.found
    assert "chelsea small.jpg" in library.found


def test_what_is_taken_back_is_grouped_as_before(library: Library) -> None:
    before = plain(library.report)["groups"]
    decisions = library.part("coffee.jpg", "coffee tiny.jpg")
    assert plain(library.report)["groups"] != before
    assert pipeline.forget_decisions(decisions, library.settings) == 1
    assert plain(library.report)["groups"] == before


def test_two_members_that_were_parted_are_not_in_one_group(library: Library) -> None:
    library.part("coffee small.jpg", "coffee tiny.jpg")
    members = library.found["coffee.jpg"]
    assert members == {"coffee small.jpg": "same-picture"}
    assert library.report.groups[0].freed_bytes


def test_files_of_the_same_bytes_can_be_parted(library: Library) -> None:
    assert "chelsea again.jpg" in str(library.found)
    (decision,) = library.part("chelsea.jpg", "chelsea again.jpg")
    assert decision.left == decision.right
    chelsea = next(group for group in library.report.groups if "chelsea" in group.keeper.file.path)
    inside = {chelsea.keeper.file.path, *(member.photo.file.path for member in chelsea.members)}
    assert {library.path("chelsea.jpg"), library.path("chelsea again.jpg")} - inside
    assert library.path("chelsea small.jpg") in inside


def test_a_group_of_which_all_were_parted_is_none(library: Library) -> None:
    group = next(group for group in library.report.groups if "coffee" in group.keeper.file.path)
    decisions = pipeline.part_photos([], [group.id[:6]], library.settings)
    assert len(decisions) == 3
    pipeline.decide(decisions, library.settings)
    assert "coffee" not in str(library.found)
    with Catalogue.open(library.settings.db, write=False) as catalogue:
        assert catalogue.last_scan() is not None
    assert pipeline.library_stats(library.settings)["groups"].keys() == {"same-bytes"}


def test_the_photo_that_a_person_chose_is_kept_and_all_others_are_compared_with_it(library: Library) -> None:
    chosen = library.digest("coffee small.jpg")
    pipeline.decide([said(Verdict.KEEP, chosen)], library.settings)
    group = next(group for group in library.report.groups if "coffee" in group.keeper.file.path)
    assert group.keeper.file.path == library.path("coffee small.jpg")
    assert group.keeper_reasons == ("you chose it",)
    assert {member.match.left for member in group.members} == {group.keeper.id}
    assert {member.match.relation for member in group.members} == {Relation.SAME_PICTURE}
    library.scan()
    assert library.found["coffee small.jpg"].keys() == {"coffee.jpg", "coffee tiny.jpg"}


def test_of_two_files_with_the_chosen_bytes_the_one_pointed_at_is_kept(library: Library) -> None:
    for name in ("chelsea again.jpg", "chelsea.jpg"):
        choice = said(Verdict.KEEP, library.digest(name), place=library.path(name))
        pipeline.decide([choice], library.settings)
        assert name in library.found


def test_a_decision_that_cannot_be_followed_yet_waits_for_the_next_scan(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = library.found
    monkeypatch.setattr("dedup.pipeline.deciding.program_stamp", lambda: "another program")
    library.part("coffee.jpg", "coffee tiny.jpg")
    assert library.found == before
    # A plan heeds it all the same.
    planned = pipeline.make_plan(settings=library.settings)
    assert library.path("coffee tiny.jpg") not in {
        os.fsdecode(planned.path_of(operation.dup)) for operation in planned.operations
    }
    monkeypatch.undo()
    library.scan()
    assert "coffee tiny.jpg" not in library.found["coffee.jpg"]


def test_a_plan_makes_groups_anew_that_do_not_follow_the_decisions(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedup.pipeline.deciding.program_stamp", lambda: "another program")
    pipeline.decide([said(Verdict.KEEP, library.digest("coffee small.jpg"))], library.settings)
    monkeypatch.undo()
    planned = pipeline.make_plan(settings=library.settings)
    gone = {os.fsdecode(planned.path_of(operation.dup)) for operation in planned.operations}
    assert library.path("coffee.jpg") in gone
    assert library.path("coffee small.jpg") not in gone


def test_a_plan_knows_of_damage_that_only_the_full_decode_found(library: Library) -> None:
    damaged = library.digest("coffee.jpg")
    with Catalogue.open(library.settings.db, write=True) as catalogue:
        content = next(row[9] for row in catalogue.known_files() if row[0] == library.path("coffee.jpg"))
        catalogue.put_inspection(Inspection(content, "the lower third is missing", 1.0), CONFIRM_RECIPE)
        assert catalogue.damages() == {damaged: "the lower third is missing"}
    planned = pipeline.make_plan(settings=library.settings)
    assert {entry.cause for entry in planned.left_out if "coffee" in entry.path} == {Cause.DAMAGED}


def test_what_the_scan_was_told_to_protect_stays_protected_when_a_plan_is_made(own: Library) -> None:
    dedup.scan_library([own.folder], replace(own.settings, protect=(str(own.folder),)))
    planned = pipeline.make_plan(settings=own.settings)
    assert planned.operations == ()
    assert planned.protected == (os.fsencode(own.folder),)


def test_a_plan_goes_by_the_old_groups_while_another_run_holds_the_catalogue(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedup.pipeline.deciding.program_stamp", lambda: "another program")
    pipeline.decide([said(Verdict.KEEP, library.digest("coffee small.jpg"))], library.settings)
    monkeypatch.undo()
    with Path(library.settings.db + ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        planned = pipeline.make_plan(settings=library.settings)
    gone = {os.fsdecode(planned.path_of(operation.dup)) for operation in planned.operations}
    assert not {library.path("coffee.jpg"), library.path("coffee small.jpg")} & gone
    assert library.path("coffee tiny.jpg") in gone


def test_decisions_may_come_before_the_first_scan_and_outlive_the_photos(drawn: Path, tmp_path: Path) -> None:
    library = Library(tmp_path / "photos", tmp_path / "c.db")
    shutil.copytree(drawn, library.folder)
    library.part("coffee.jpg", "coffee tiny.jpg")
    assert "coffee tiny.jpg" not in names(library.scan())["coffee.jpg"]
    os.rename(library.path("coffee tiny.jpg"), tmp_path / "away.jpg")
    library.scan()
    os.rename(tmp_path / "away.jpg", library.path("back.jpg"))
    assert "back.jpg" not in names(library.scan())["coffee.jpg"]


# ---- who is parted -------------------------------------------------------------------------------------------------


def test_all_pairs_of_the_photos_are_parted_once(library: Library) -> None:
    paths = [library.path(name) for name in ("coffee.jpg", "rocket.jpg", "coffee small.jpg", "coffee.jpg")]
    decisions = pipeline.part_photos(paths, (), library.settings)
    assert len(decisions) == 3
    assert all(decision.left < decision.right for decision in decisions)


def test_one_photo_or_too_many_are_refused(library: Library) -> None:
    for paths in ([], [library.path("coffee.jpg")], [library.path("coffee.jpg")] * 2):
        with pytest.raises(UsageError, match="two photos or more"):
            pipeline.decide(pipeline.part_photos(paths, (), library.settings), library.settings)
    many = [library.path("coffee.jpg")] + [f"{library.folder}/./{'./' * n}coffee.jpg" for n in range(3)]
    with pytest.raises(UsageError):
        pipeline.part_photos(many, (), library.settings)


def test_more_photos_than_anyone_means_are_refused(tmp_path: Path) -> None:
    paths = []
    for number in range(MOST_IGNORED + 1):
        (tmp_path / f"{number}").write_text(str(number))
        paths.append(str(tmp_path / f"{number}"))
    with pytest.raises(UsageError, match=str(MOST_IGNORED)):
        pipeline.part_photos(paths)
    assert len(pipeline.part_photos(paths[:3])) == 3


def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("a")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("nowhere.jpg", "pipe.jpg", "."):
        with pytest.raises(UnreadableInput):
            pipeline.part_photos([str(tmp_path / "a.jpg"), str(tmp_path / name)])


# ---- as JSON -------------------------------------------------------------------------------------------------------


def test_decisions_read_back_from_json(tmp_path: Path) -> None:
    given = [
        said(Verdict.REMOVE, C, A, note="ü"),
        said(Verdict.KEEP, B, place="/photos/\udcff\n.jpg"),
        said(Verdict.KEEP_BOTH, A, A),
    ]
    path = tmp_path / "d.json"
    pipeline.write_decisions(given[:1], str(path))
    pipeline.write_decisions(given, str(path))
    assert pipeline.read_decisions(str(path)) == given
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_photo_is_not_replaced_by_decisions(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 a photo")
    os.mkfifo(tmp_path / "pipe")
    for name in ("a.jpg", "pipe"):
        with pytest.raises(UsageError, match="no decisions"):
            pipeline.write_decisions([], str(tmp_path / name))
    assert (tmp_path / "a.jpg").read_bytes() == b"\xff\xd8 a photo"
    with pytest.raises(UsageError, match="no file"):
        pipeline.read_decisions(str(tmp_path / "pipe"))


def test_decisions_may_name_photos_that_were_scanned(library: Library, tmp_path: Path) -> None:
    row = {
        "verdict": "remove",
        "left_path": library.path("coffee.jpg"),
        "right_path": library.path("rocket.jpg"),
    }
    (tmp_path / "d.json").write_text(json.dumps({"schema": 1, "decisions": [row]}))
    (decision,) = pipeline.read_decisions(str(tmp_path / "d.json"), library.settings)
    assert (decision.left, decision.right) == (library.digest("coffee.jpg"), library.digest("rocket.jpg"))
    (tmp_path / "d.json").write_text(json.dumps({"schema": 1, "decisions": [row | {"left": HEX}]}))
    with pytest.raises(UsageError, match="said twice"):
        pipeline.read_decisions(str(tmp_path / "d.json"), library.settings)


HEX = A.hex()
GOOD = {"verdict": "remove", "left": A.hex(), "right": B.hex()}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2, "decisions": []}',
        '{"schema": 1, "decisions": {}}',
        "[" * 100_000,
    ],
)
def test_a_file_that_holds_no_decisions_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(UsageError, match=r"d\.json"):
        pipeline.read_decisions(str(tmp_path / "d.json"))


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "delete"},
        {"verdict": None},
        {"left": ""},
        {"left": "ab"},
        {"left": 5},
        {"right": ""},
        {"right": HEX},
        {"verdict": "keep"},
        {"more": 1},
        {"decided": "yesterday"},
        {"note": 5},
        {"note": "\ud800"},
        {"place": "\ud800"},
        {"place": "a\0b"},
        {"place_bytes": "#"},
        {"left_path": "/nowhere.jpg"},
        {"left_path": "\ud800"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("without", [(), ("left",)])
def test_one_decision_that_makes_no_sense_refuses_them_all(
    library: Library, tmp_path: Path, change: dict[str, Any], without: tuple[str, ...]
) -> None:
    row = {key: value for key, value in GOOD.items() if key not in without} | change
    (tmp_path / "d.json").write_text(json.dumps({"schema": 1, "decisions": [GOOD, row]}))
    with pytest.raises(UsageError, match="decision 2 makes no sense"):
        pipeline.read_decisions(str(tmp_path / "d.json"), library.settings)
    (tmp_path / "d.json").write_text(json.dumps({"schema": 1, "decisions": [GOOD, "x"]}))
    with pytest.raises(UsageError, match="decision 2"):
        pipeline.read_decisions(str(tmp_path / "d.json"), library.settings)
