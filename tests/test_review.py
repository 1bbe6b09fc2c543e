"""`dedup review` as it answers: lists, groups, decisions that hold, rules, plans; and files of decisions."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dedup import Settings, scan_library
from dedup.catalogue import Catalogue
from dedup.pipeline import load_report, make_plan, read_decisions
from dedup.records import Verdict
from tests import review_kills
from tests.desk import Desk
from tests.reviewed import Reviewed, make_library, others


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a scanned library, to be copied."""
    home = tmp_path_factory.mktemp("scanned")
    make_library(home / "Pictures")
    scan_library([str(home / "Pictures")], Settings(db=str(home / "c.db"), jobs=1))
    return home


@pytest.fixture(scope="module")
def served(scanned: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewed]:
    home = tmp_path_factory.mktemp("served")
    shutil.copy(scanned / "c.db", home / "c.db")
    with Reviewed(home, home / "c.db") as review:
        review.enter()
        yield review


@pytest.fixture
def fresh(served: Reviewed) -> Iterator[Reviewed]:
    """The same review, with nothing decided before and after."""

    def clear() -> None:
        for card in served.cards():
            group = served.get(f"/api/group?id={card['id']}").body["group"]
            assert served.decide(group, {}).status == 200

    clear()
    yield served
    clear()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A scanned library of one's own, to be changed."""
    make_library(tmp_path / "Pictures")
    scan_library([str(tmp_path / "Pictures")], Settings(db=str(tmp_path / "c.db"), jobs=1))
    return tmp_path


def decisions_in(db: Path) -> list[Any]:
    with Catalogue.open(str(db), write=False) as catalogue:
        return catalogue.decisions()


# --- lists and groups -----------------------------------------------------------------------------------------------


def test_the_list_says_what_a_person_wants_to_know(fresh: Reviewed) -> None:
    cards = fresh.cards()
    assert [card["name"] for card in cards][:1] == ["coffee.jpg"], "most space first"
    coffee = cards[0]
    assert coffee["relations"] == ["same-bytes", "same-picture", "edited"]
    assert coffee["count"] == 4
    assert coffee["folders"][0] == "Pictures/Albums"
    assert coffee["state"] == "open"


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"relations": ["same-bytes"]}, 1),
        ({"relations": ["edited"]}, 2),
        ({"text": "CHELSEA"}, 1),
        ({"text": "phone/sent"}, 4),
        ({"format": "JPEG"}, 4),
        ({"format": "PNG"}, 4),
        ({"since": "2019-07-04", "until": "2019-07-04"}, 4),
        ({"until": "1999-01-01"}, 0),
        ({"least_bytes": 10_000_000}, 0),
        ({"state": "decided"}, 0),
        ({"state": "open"}, 4),
        ({"order": "doubt"}, 4),
        ({"order": "folders"}, 4),
    ],
)
def test_filters_leave_what_they_say(fresh: Reviewed, query: dict[str, Any], count: int) -> None:
    assert len(fresh.cards(**query)) == count


def test_the_doubtful_come_first_if_asked(fresh: Reviewed) -> None:
    names = [card["relations"][-1] for card in fresh.cards(order="doubt")]
    assert names == ["edited", "edited", "same-picture", "same-picture"]


def test_a_folder_filter_means_what_lies_below_it(fresh: Reviewed) -> None:
    folders = {name: id for id, name, _ in fresh.get("/api/start").body["folders"]}
    camera = next(id for name, id in folders.items() if name.endswith("Phone/Camera"))
    assert {card["name"] for card in fresh.cards(folder=camera)} == {"coffee.jpg", "chelsea.jpg"}


def test_pairs_of_folders_are_counted(fresh: Reviewed) -> None:
    pairs = fresh.get("/api/pairs").body["pairs"]
    best = pairs[0]
    names = {os.path.basename(best["name"]), os.path.basename(best["other_name"])}
    assert names == {"Albums", "Sent"}
    assert (best["shared"], best["pictures"]) == (4, 4)
    camera = next(
        pair
        for pair in pairs
        if {"Camera", "Albums"} == {os.path.basename(pair[k]) for k in ("name", "other_name")}
    )
    assert camera["shared"] == 1, "edited versions are not the same picture"
    assert len(fresh.cards(pair=[best["folder"], best["other"]])) == 4


def test_a_group_has_everything_that_is_shown(fresh: Reviewed) -> None:
    group = fresh.group("chelsea.jpg")
    by_name = {photo["name"]: photo for photo in group["photos"]}
    assert by_name["chelsea crop.jpg"]["relation"] == "edited"
    assert "cropped" in by_name["chelsea crop.jpg"]["sentence"]
    taken = next(row for row in group["table"] if row["name"] == "Taken")
    assert taken["differs"] and taken["better"] == [0]
    assert group["reasons"]
    text = json.dumps(group)
    assert "phash" not in text and str(fresh.home) not in json.dumps(group["table"])


@pytest.mark.parametrize(
    ("look", "size"), [("photo", "thumb"), ("photo", "view"), ("aligned", "view"), ("difference", "view")]
)
def test_pictures_are_drawn_anew(fresh: Reviewed, look: str, size: str) -> None:
    group = fresh.group("chelsea.jpg")
    crop = next(photo for photo in group["photos"] if photo["name"] == "chelsea crop.jpg")
    against = "" if look == "photo" else f"&against={group['proposed']}"
    reply = fresh.get(f"/api/picture?group={group['id']}&of={crop['id']}&look={look}&size={size}{against}")
    assert reply.status == 200
    media = {"photo": "image/jpeg", "aligned": "image/webp", "difference": "image/jpeg"}
    assert reply.headers["content-type"] in (media[look], "image/jpeg")
    assert len(reply.body) > 2000


# --- deciding -------------------------------------------------------------------------------------------------------


def test_a_decision_is_in_the_catalogue_before_the_answer_is_there(fresh: Reviewed) -> None:
    group = fresh.group("rocket.jpg")
    reply = fresh.decide(group, dict.fromkeys(others(group), "goes"), group["keeper"])
    assert reply.status == 200
    assert reply.body["group"]["state"] == "decided"
    assert {found.verdict for found in decisions_in(fresh.home / "c.db")} == {Verdict.KEEP, Verdict.REMOVE}


@pytest.mark.parametrize("mark", ["goes", "stays", "apart", "later"])
@pytest.mark.parametrize("name", ["coffee.jpg", "rocket.jpg"])
def test_what_is_said_is_read_back(fresh: Reviewed, mark: str, name: str) -> None:
    group = fresh.group(name)
    said = dict.fromkeys(others(group), mark)
    answer = fresh.decide(group, said).body["group"]
    assert answer["marks"] == said
    assert answer["state"] == ("later" if mark == "later" else "decided")
    assert fresh.group(name)["marks"] == said


def test_another_photo_can_be_the_one_to_keep(fresh: Reviewed) -> None:
    group = fresh.group("chelsea.jpg")
    crop = next(photo["id"] for photo in group["photos"] if photo["name"] == "chelsea crop.jpg")
    rest = [photo["id"] for photo in group["photos"] if photo["id"] != crop]
    answer = fresh.decide(group, dict.fromkeys(rest, "goes"), crop).body["group"]
    assert answer["keeper"] == answer["keep"] == crop
    assert set(answer["marks"]) == set(rest)


def test_files_with_the_same_bytes_share_what_is_said(fresh: Reviewed) -> None:
    group = fresh.group("coffee.jpg")
    ids = {photo["name"]: photo["id"] for photo in group["photos"]}
    answer = fresh.decide(group, {ids["coffee.jpg"]: "goes"}, ids["coffee-small.jpg"]).body["group"]
    assert answer["marks"] == {ids["coffee.jpg"]: "goes", ids["coffee copy.jpg"]: "goes"}


def test_each_decision_can_be_taken_back_one_after_the_other(fresh: Reviewed) -> None:
    before = decisions_in(fresh.home / "c.db")
    for name, mark in (("rocket.jpg", "goes"), ("rocket.jpg", "stays"), ("coffee.jpg", "apart")):
        group = fresh.group(name)
        assert fresh.decide(group, dict.fromkeys(others(group), mark)).status == 200
    assert fresh.post("/api/undo", {"change": secrets.token_hex(8)}).body["words"] == "3 no duplicate"
    assert fresh.group("coffee.jpg")["marks"] == {}
    fresh.post("/api/undo", {"change": secrets.token_hex(8)})
    assert set(fresh.group("rocket.jpg")["marks"].values()) == {"goes"}
    fresh.post("/api/undo", {"change": secrets.token_hex(8)})
    assert decisions_in(fresh.home / "c.db") == before


def test_undo_leaves_what_another_command_decided_since(fresh: Reviewed) -> None:
    group = fresh.group("astronaut.jpg")
    assert fresh.decide(group, dict.fromkeys(others(group), "stays")).status == 200
    with Catalogue.open(str(fresh.home / "c.db"), write=True) as catalogue:
        for decision in catalogue.decisions():
            catalogue.forget_decision(decision)
    assert fresh.post("/api/undo", {"change": secrets.token_hex(8)}).status == 409


def test_a_decision_waits_for_another_command_and_then_says_so(fresh: Reviewed) -> None:
    group = fresh.group("rocket.jpg")
    with ThreadPoolExecutor(1) as pool, Catalogue.open(str(fresh.home / "c.db"), write=True):
        waiting = pool.submit(fresh.decide, group, dict.fromkeys(others(group), "later"))
        time.sleep(0.3)
        assert not waiting.done()
    assert waiting.result().status == 200


def test_all_pictures_can_be_looked_at_while_a_scan_holds_the_catalogue(fresh: Reviewed) -> None:
    with Catalogue.open(str(fresh.home / "c.db"), write=True):
        assert len(fresh.cards()) == 4


# --- what holds -----------------------------------------------------------------------------------------------------


def test_not_duplicates_holds_through_renaming_moving_and_further_scans(library: Path) -> None:
    settings = Settings(db=str(library / "c.db"), jobs=1)
    with Reviewed(library, library / "c.db") as review:
        review.enter()
        for card in review.cards():
            group = review.get(f"/api/group?id={card['id']}").body["group"]
            assert review.decide(group, dict.fromkeys(others(group), "apart")).status == 200
        assert review.cards(state="open") == []
    moved = library / "Elsewhere"
    moved.mkdir()
    for number, path in enumerate(sorted((library / "Pictures").rglob("*.jpg"))):
        path.rename(moved / f"renamed {number}.jpg")
    scan_library([str(moved)], settings)
    assert load_report(settings).groups == ()
    (library / "again.db").unlink(missing_ok=True)
    fresh = Settings(db=str(library / "again.db"), jobs=1)
    scan_library([str(moved)], fresh)
    assert len(load_report(fresh).groups) == 4, "without the decisions they are groups again"


def test_decisions_hold_over_a_restart_and_are_written_to_a_file_at_the_end(library: Path) -> None:
    with Reviewed(library, library / "c.db") as review:
        review.enter()
        group = review.group("rocket.jpg")
        review.decide(group, dict.fromkeys(others(group), "goes"), group["keeper"])
        said = review.stop()
    assert "decisions 2 in" in said
    written = read_decisions(str(library / "c.db.decisions.json"))
    assert written == decisions_in(library / "c.db")
    with Reviewed(library, library / "c.db") as again:
        again.enter()
        assert [card["name"] for card in again.cards(state="decided")] == ["rocket.jpg"]


def test_decisions_can_be_taken_elsewhere(fresh: Reviewed) -> None:
    group = fresh.group("rocket.jpg")
    fresh.decide(group, dict.fromkeys(others(group), "goes"), group["keeper"])
    exported = fresh.get("/api/export").body
    fresh.decide(fresh.group("rocket.jpg"), {})
    assert fresh.post("/api/import", {"file": exported, "dry": True}).body == {"read": 2, "news": 0}
    assert fresh.group("rocket.jpg")["marks"] == {}
    assert fresh.post("/api/import", {"file": exported}).body == {"read": 2, "news": 2}
    assert set(fresh.group("rocket.jpg")["marks"].values()) == {"goes"}
    assert fresh.post("/api/import", {"file": {"schema": 1, "decisions": [{"verdict": "eat"}]}}).status == 422
    assert fresh.post("/api/import", {"file": [1]}).status == 422


# --- rules ----------------------------------------------------------------------------------------------------------


def view_of(review: Reviewed, **query: Any) -> str:
    return str(review.post("/api/view", {"id": secrets.token_hex(8)} | query).body["view"])


def test_a_rule_shows_what_it_would_do_and_then_does_just_that(fresh: Reviewed) -> None:
    view = view_of(fresh)
    preview = fresh.post("/api/rule", {"rule": "proposed", "view": view}).body
    assert (preview["groups"], preview["goes"]) == (4, 5)
    assert [len(one["goes"]) for one in preview["sample"]] == [2, 1, 1, 1]
    assert not any("retouched" in path for one in preview["sample"] for path in one["goes"])
    assert decisions_in(fresh.home / "c.db") == [], "a preview decides nothing"
    change = {"rule": "proposed", "view": view, "stamp": preview["stamp"], "change": secrets.token_hex(8)}
    assert fresh.post("/api/rule", change).body["groups"] == 4
    coffee = fresh.group("coffee.jpg")
    retouched = next(photo["id"] for photo in coffee["photos"] if photo["name"] == "coffee retouched.jpg")
    assert retouched not in coffee["marks"], "a rule lets no edited version go"
    assert coffee["state"] == "open"
    assert fresh.post("/api/undo", {"change": secrets.token_hex(8)}).body["count"] == 4
    assert decisions_in(fresh.home / "c.db") == []


def test_a_rule_for_a_folder_keeps_what_lies_there(fresh: Reviewed) -> None:
    sent = next(id for id, name, _ in fresh.get("/api/start").body["folders"] if name.endswith("Sent"))
    view = view_of(fresh, text="rocket")
    preview = fresh.post("/api/rule", {"rule": "folder", "folder": sent, "view": view}).body
    change = {"rule": "folder", "folder": sent, "view": view, "stamp": preview["stamp"]}
    assert fresh.post("/api/rule", change | {"change": secrets.token_hex(8)}).status == 200
    group = fresh.group("rocket-small.jpg")
    assert list(group["marks"].values()) == ["goes"]


def test_a_rule_can_name_a_folder_above(fresh: Reviewed) -> None:
    folders = {
        os.path.basename(name): (id, count) for id, name, count in fresh.get("/api/start").body["folders"]
    }
    assert folders["Phone"][1] == folders["Camera"][1] + folders["Sent"][1] == 7
    assert len(fresh.cards(folder=folders["Phone"][0])) == 4
    preview = fresh.post(
        "/api/rule", {"rule": "folder", "folder": folders["Phone"][0], "view": view_of(fresh)}
    ).body
    assert all("/Phone/" in one["keep"] for one in preview["sample"])
    assert not any("/Phone/" in path for one in preview["sample"] for path in one["goes"])


def test_a_rule_that_would_do_something_else_by_now_is_refused(fresh: Reviewed) -> None:
    view = view_of(fresh)
    preview = fresh.post("/api/rule", {"rule": "largest", "view": view}).body
    group = fresh.group("rocket.jpg")
    fresh.decide(group, dict.fromkeys(others(group), "stays"))
    change = {"rule": "largest", "view": view, "stamp": preview["stamp"], "change": secrets.token_hex(8)}
    assert fresh.post("/api/rule", change).status == 409


# --- the plan -------------------------------------------------------------------------------------------------------


def plan_of(review: Reviewed, decided_only: bool = True) -> dict[str, Any]:
    review.post("/api/plan", {"decided_only": decided_only})
    while (status := review.get("/api/plan").body)["state"] == "working":
        time.sleep(0.05)
    return dict(status)


def test_the_plan_holds_what_was_decided_and_can_be_carried_out_and_taken_back(library: Path) -> None:
    desk = Desk(library)
    with Reviewed(library, library / "c.db", "--plan", "mine.plan") as review:
        review.enter()
        group = review.group("chelsea.jpg")
        review.decide(group, dict.fromkeys(others(group), "goes"), group["keeper"])
        status = plan_of(review)
        assert status["state"] == "made"
        assert sorted(os.path.basename(one["goes"]) for one in status["operations"]) == [
            "chelsea crop.jpg",
            "chelsea-small.jpg",
        ], "edited versions, too, since a person said so; nothing of other groups"
        assert len(plan_of(review, decided_only=False)["operations"]) > 2
        plan_of(review)
        written = review.post("/api/plan/write", {}).body
    assert written["file"] == str(library / "mine.plan")
    before = sorted((library / "Pictures").rglob("*.jpg"))
    desk.type("--db", "c.db", "apply", "mine.plan", "--yes")
    assert not (library / "Pictures/Phone/Camera/chelsea crop.jpg").exists()
    desk.type("--db", "c.db", "undo", "1")
    assert sorted((library / "Pictures").rglob("*.jpg")) == before


def test_the_command_on_the_page_makes_the_same_plan(library: Path) -> None:
    with Reviewed(library, library / "c.db") as review:
        review.enter()
        group = review.group("coffee.jpg")
        copies = [photo["id"] for photo in group["photos"] if photo["relation"] == "same-bytes"]
        review.decide(group, dict.fromkeys(copies, "goes"))
        on_page = plan_of(review)["operations"]
    settings = Settings(db=str(library / "c.db"), jobs=1)
    typed = make_plan(settings=settings, decided_only=True)
    assert [os.path.basename(one["goes"]) for one in on_page] == ["coffee copy.jpg"]
    assert [os.path.basename(os.fsdecode(op.dup.path)) for op in typed.operations] == ["coffee copy.jpg"]


def test_the_page_follows_what_a_scan_made_anew(library: Path) -> None:
    with Reviewed(library, library / "c.db") as review:
        review.enter()
        assert len(review.cards()) == 4
        card = review.cards()[0]
        for path in (library / "Pictures").rglob("coffee*.jpg"):
            path.unlink()
        scan_library([str(library / "Pictures")], Settings(db=str(library / "c.db"), jobs=1))
        assert len(review.cards()) == 3
        assert review.get(f"/api/group?id={card['id']}").status == 409


def test_without_a_scan_the_command_says_what_to_do(tmp_path: Path) -> None:
    _, said = Desk(tmp_path).type("--db", "none.db", "review", "--no-browser", code=2)
    assert "dedup scan" in said


def test_no_kill_of_the_server_loses_what_was_said_to_be_saved(tmp_path: Path) -> None:
    told, lost = review_kills.run(tmp_path, 2)
    assert told > 0
    assert lost == 0
