"""The real command, in a process of its own, on real files: words in, words and exit codes out.

A `desk.type` is forked from a process that has imported the program, a `desk.start` begins with Python itself.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

from dedup.cli import SECTIONS, program
from dedup.cli.layers import choose_settings, flag_of
from dedup.cli.talk import Lines
from dedup.cli.words import seconds_words
from dedup.errors import UsageError
from dedup.report.text import printable
from dedup.settings import Settings
from tests.desk import Desk, draw

HEAVY = {"numpy", "scipy", "imagehash", "annoy", "PIL", "sqlite3", "jinja2", "tqdm"}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="module")
def scanned_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scanned library: a photo, its byte copy and its small copy; another photo; a text; half a photo."""
    home = tmp_path_factory.mktemp("home")
    desk = Desk(home)
    draw(1).save(desk.photos / "sea.jpg", quality=92)
    shutil.copy(desk.photos / "sea.jpg", desk.photos / "sea again.jpg")
    draw(1).resize((240, 180), Image.Resampling.LANCZOS).save(desk.photos / "sea small.jpg", quality=80)
    draw(2).save(desk.photos / "wood.png")
    (desk.photos / "notes.txt").write_text("not a photo")
    (desk.photos / "broken.png").write_bytes((desk.photos / "wood.png").read_bytes()[:5000])
    out, err = desk.type("scan", "Pictures", code=3)
    (home / "said").write_text(out)
    (home / "talked").write_text(err)
    return home


@pytest.fixture
def scanned(scanned_home: Path) -> Desk:
    """The home that was scanned once for all tests; they look and leave it as it is."""
    return Desk(scanned_home)


# ---- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["scan", "--help"], ["report", "--help"]])
def test_help_is_at_once_there_because_nothing_heavy_is_imported(words: list[str], desk: Desk) -> None:
    program_text = (
        "import sys; from dedup.cli import program; program.main(sys.argv[1:], standalone_mode=False);"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program_text, *words],
        env=desk.environment,
        cwd=desk.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.partition("MODULES")[2].split())


def test_help_lists_every_command_in_a_section_and_no_other(desk: Desk) -> None:
    listed = [command.name or "" for commands in SECTIONS.values() for command in commands]
    assert sorted(listed) == sorted(program.commands)
    assert len(listed) == len(set(listed))
    out, _ = desk.type("--help")
    assert all(f"\n  {name} " in out for name in listed)


def test_every_setting_is_an_option_of_scan() -> None:
    options = {
        word
        for parameter in program.commands["scan"].params
        for word in (*parameter.opts, *parameter.secondary_opts)
    }
    for field in fields(Settings):
        assert flag_of(field.name) in options
        if field.type == "bool" and field.default is True:
            assert flag_of(field.name, False) in options


# ---- scan and report -----------------------------------------------------------------------------------------------


def test_scan_ends_with_what_was_found_and_the_next_command(scanned: Desk) -> None:
    said = (scanned.home / "said").read_text()
    assert "6 files, 4 photos, 2 other; 3 photos read" in said
    assert "1 group: 1 same bytes" in said
    assert "1 file not examined: 1 damaged; see dedup report --skipped" in said
    talked = (scanned.home / "talked").read_text()
    assert "crawl     6 files" in talked
    assert talked.splitlines()[-1].startswith("next: dedup report --html duplicates.html")


def test_the_next_command_can_be_typed(scanned: Desk) -> None:
    command = (
        (scanned.home / "talked")
        .read_text()
        .splitlines()[-1]
        .removeprefix("next: dedup ")
        .partition("   |")[0]
    )
    scanned.type(*command.split())
    page = (scanned.home / "duplicates.html").read_text()
    assert "sea small.jpg" in page


def test_report_goes_to_stdout_in_every_form(scanned: Desk) -> None:
    text, talk = scanned.type("report")
    assert "sea small.jpg" in text
    assert talk == ""
    data = json.loads(scanned.type("report", "--json")[0])
    assert data["schema"] == 1
    names = {Path(member["path"]).name: member["relation"] for member in data["groups"][0]["members"]}
    assert names["sea small.jpg"] == "same-picture"
    assert sorted(names) == ["sea small.jpg", "sea.jpg"] or sorted(names) == [
        "sea again.jpg",
        "sea small.jpg",
    ]
    rows = list(csv.reader(io.StringIO(scanned.type("report", "--csv")[0])))
    assert len(rows) == 4
    blocks = scanned.type("report", "--format", "fdupes")[0].rstrip("\n").split("\n\n")
    assert [len(block.splitlines()) for block in blocks] == [3]
    ended = scanned.type("report", "-0")[0]
    assert ended.count("\0") >= 3
    assert "\n" not in ended


def test_report_lists_what_was_not_examined_and_why(scanned: Desk) -> None:
    text, _ = scanned.type("report", "--skipped")
    assert "broken.png" in text
    assert "notes.txt" in text
    assert "not a photo" in text
    paths = scanned.type("report", "--skipped", "-0")[0].split("\0")
    assert str(scanned.photos / "notes.txt") in paths
    entries = json.loads(scanned.type("report", "--skipped", "--json")[0])["skipped"]
    assert {entry["reason"] for entry in entries} >= {"not a photo", "damaged"}


def test_two_forms_at_once_are_refused(scanned: Desk) -> None:
    assert "one report at a time" in scanned.type("report", "--json", "--csv", code=2)[1]


def test_report_without_a_scan_says_what_to_do(desk: Desk) -> None:
    assert "dedup scan" in desk.type("report", code=2)[1]


def test_scan_gives_json_on_stdout_and_the_summary_on_stderr(scanned: Desk) -> None:
    out, err = scanned.type("scan", "--json", "Pictures", code=3)
    assert json.loads(out)["groups"]
    assert "1 group: 1 same bytes" in err


def test_quiet_says_nothing_but_the_result(scanned: Desk) -> None:
    for words in (("-q", "scan", "Pictures"), ("scan", "-q", "Pictures")):
        out, err = scanned.type(*words, code=3)
        assert "1 group" in out
        assert err == ""


def test_a_second_scan_reads_nothing(scanned: Desk) -> None:
    assert "nothing had to be read" in scanned.type("scan", "Pictures", code=3)[0]


def test_fail_on_found_exits_with_one(scanned: Desk, desk: Desk) -> None:
    scanned.type("scan", "--fail-on-found", "Pictures", code=1)
    scanned.type("report", "--fail-on-found", code=1)
    draw(5).save(desk.photos / "alone.jpg")
    desk.type("scan", "--fail-on-found", "Pictures")


def test_scan_writes_the_html_report_too(desk: Desk) -> None:
    draw(3).save(desk.photos / "a.jpg")
    draw(3).save(desk.photos / "b.jpg", quality=70)
    _, err = desk.type("scan", "--report", "found.html", "Pictures")
    assert str(desk.home / "found.html") in err
    assert "b.jpg" in (desk.home / "found.html").read_text()


def test_a_report_that_cannot_be_written_is_refused_before_the_work(desk: Desk) -> None:
    draw(3).save(desk.photos / "a.jpg")
    _, err = desk.type("scan", "--report", "no/such/folder/x.html", "Pictures", code=2)
    assert "there is no folder" in err
    assert "crawl" not in err


def test_names_come_out_as_they_are_on_disk(desk: Desk) -> None:
    odd = os.fsencode(desk.photos) + b"/br\xfcck e\n\x1b[31m'\".jpg"
    draw(4).save(desk.photos / "plain.jpg")
    os.link(desk.photos / "plain.jpg", desk.photos / "link.jpg")
    shutil.copy(os.fsencode(desk.photos / "plain.jpg"), odd)
    desk.type("scan", "Pictures")
    with desk.start("report", "-0") as process:
        out, _ = process.communicate()
    assert odd in out.split(b"\0")
    text, _ = desk.type("report")
    assert "\x1b" not in text


def test_stats_counts_what_is_in_the_catalogue(scanned: Desk) -> None:
    out, _ = scanned.type("stats")
    assert "photos       4 in " in out
    assert "1 same bytes" in out
    numbers = json.loads(scanned.type("stats", "--json")[0])
    assert numbers["schema"] == 1
    assert numbers["formats"] == {"JPEG": 3, "PNG": 1}


def test_doctor_finds_a_sound_installation_and_a_torn_catalogue(scanned: Desk) -> None:
    out, _ = scanned.type("doctor")
    assert "annoy" in out
    assert "HEIC" in out
    (scanned.home / "torn.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    findings = json.loads(scanned.type("--db", "torn.db", "doctor", "--json", code=3)[0])["findings"]
    assert [finding["name"] for finding in findings if finding["state"] == "wrong"] == ["catalogue"]


def test_export_writes_a_row_for_each_photo(scanned: Desk, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(scanned.type("export")[0])))
    assert {Path(row["path"]).name for row in rows} == {
        "sea.jpg",
        "sea again.jpg",
        "sea small.jpg",
        "wood.png",
    }
    lines = scanned.type("export", "--format", "jsonl")[0].splitlines()
    assert [json.loads(line)["path"] for line in lines] == [row["path"] for row in rows]
    _, err = scanned.type("export", "-o", str(tmp_path / "photos.jsonl"))
    assert "4 photos written to" in err
    assert (tmp_path / "photos.jsonl").read_text().splitlines() == lines
    assert "there is no folder" in scanned.type("export", "-o", "no/such/x.csv", code=2)[1]


# ---- trouble -------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_a_usage_error(desk: Desk) -> None:
    assert "no/such" in desk.type("scan", "no/such", code=2)[1]


@pytest.mark.parametrize(
    "words", [["frobnicate"], ["scan"], ["scan", "--jobs", "many", "."], ["report", "--nonsense"]]
)
def test_words_that_make_no_sense_exit_with_two(desk: Desk, words: list[str]) -> None:
    desk.type(*words, code=2)


def test_a_second_scan_at_once_says_so(desk: Desk) -> None:
    slow_photos(desk)
    with desk.start("scan", "Pictures") as first:
        wait_for_line(first, b"crawl")
        assert "another" in desk.type("scan", "Pictures", code=4)[1]
        first.terminate()
        first.communicate(timeout=30)


def test_a_catalogue_in_doubt_stops_the_run(desk: Desk) -> None:
    (desk.home / "torn.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    draw(1).save(desk.photos / "a.jpg")
    desk.type("--db", "torn.db", "scan", "Pictures", code=5)


def test_a_fault_of_ours_is_not_mistaken_for_an_answer(desk: Desk) -> None:
    (desk.home / "sitecustomize.py").write_text(
        "import sys\n"
        "class Fault:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'dedup.pipeline': raise RuntimeError('made to fail')\n"
        "sys.meta_path.insert(0, Fault())\n"
    )
    desk.environment["PYTHONPATH"] += f":{desk.home}"
    _, err = desk.type_cold("scan", "Pictures", code=5)
    assert "a fault in dedup" in err
    assert "made to fail" in err


def slow_photos(desk: Desk) -> None:
    """Photos that take some seconds to decode: one of noise, told apart by a few bytes after its end."""
    desk.environment["DEDUP_JOBS"] = "1"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), np.uint8))
    noise.save(desk.photos / "0.png", compress_level=1)
    data = (desk.photos / "0.png").read_bytes()
    for number in range(1, 24):
        (desk.photos / f"{number}.png").write_bytes(data + bytes([number]))


def wait_for_line(process: subprocess.Popen[bytes], start: bytes) -> None:
    assert process.stderr
    for line in process.stderr:
        if line.startswith(start):
            return
    raise AssertionError(f"no line starts with {start!r}")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_scan_with_its_code_and_a_sound_catalogue(
    desk: Desk, number: signal.Signals, code: int
) -> None:
    slow_photos(desk)
    with desk.start("scan", "Pictures") as process:
        wait_for_line(process, b"crawl")
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert b"goes on from there" in err
    assert b"Traceback" not in err
    for path in desk.photos.glob("?*[0-9].png"):
        path.unlink()
    draw(1).save(desk.photos / "a.jpg")
    desk.type("scan", "Pictures")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_after_the_end_changes_no_exit_code(number: signal.Signals, desk: Desk) -> None:
    """Python puts the default actions back before it lets go of what a module holds."""
    program = (
        "import os, sys\nfrom dedup.cli import main\n"
        f"class Late:\n    def __del__(self, kill=os.kill, me=os.getpid()): kill(me, {int(number)})\n"
        "class Loud:\n"
        "    def __getattr__(self, name): return getattr(sys.__stderr__, name)\n"
        "    def write(self, words):\n"
        "        sys.__stderr__.write(words)\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "late = Late()\n"
        "if len(sys.argv) > 2: sys.stderr = Loud()\n"
        "sys.exit(main())\n"
    )
    for words, code in (["config"], 0), (["config", "--nonsense"], 128 + number):
        run = [sys.executable, "-c", program, *words]
        ended = subprocess.run(run, check=False, env=desk.environment, capture_output=True, timeout=60)
        assert ended.returncode == code, ended.stderr
        assert b"Traceback" not in ended.stderr


def test_a_reader_that_has_had_enough_ends_it_quietly(scanned: Desk) -> None:
    with scanned.start("report", "--json") as process:
        assert process.stdout
        process.stdout.close()
        process.wait(timeout=60)
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_terminal_gets_bars_with_rate_and_a_log_gets_lines(desk: Desk) -> None:
    for seed in range(6):
        draw(seed, (64, 48)).save(desk.photos / f"{seed}.jpg")
    shown = b"".join(on_a_terminal(desk, "scan", "Pictures")).decode()
    assert "hash" in shown
    assert "6/6 [" in shown
    assert "photos/s]" in shown
    again = b"".join(on_a_terminal(desk, "--no-progress", "scan", "Pictures")).decode()
    assert "crawl" not in again


def test_rounds_of_a_stage_are_added_up_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines() as progress:
        for stage, steps in (
            ("crawl", 9),
            ("confirm", 5),
            ("group", 2),
            ("confirm", 3),
            ("group", 2),
            ("confirm", 1),
        ):
            progress(stage, 0, steps)
            progress(stage, steps, steps)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(",")[0] for line in lines] == [
        "crawl     9 files",
        "confirm   5 pairs",
        "confirm   4 more pairs",
    ]


def on_a_terminal(desk: Desk, *words: str) -> Iterator[bytes]:
    """What appears on a terminal."""
    ours, theirs = pty.openpty()
    with desk.start(*words, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        try:
            while data := os.read(ours, 65536):
                yield data
        except OSError:  # how Linux says that the other side is closed
            pass
    os.close(ours)
    assert process.returncode == 0


# ---- settings ------------------------------------------------------------------------------------------------------


def test_a_flag_wins_over_a_variable_over_the_folder_over_the_user(desk: Desk) -> None:
    def origin() -> tuple[Any, str]:
        setting = json.loads(desk.type("config", "--json")[0])["settings"]["jobs"]
        return setting["value"], setting["from"]

    assert origin() == (0, "default")
    user_file = desk.home / ".config" / "dedup" / "config.toml"
    user_file.parent.mkdir(parents=True)
    user_file.write_text("jobs = 1\n")
    assert origin() == (1, str(user_file))
    (desk.home / ".dedup.toml").write_text("jobs = 2\n")
    assert origin() == (2, ".dedup.toml")
    desk.environment["DEDUP_JOBS"] = "3"
    assert origin() == (3, "DEDUP_JOBS")
    chosen = choose_settings({"jobs": 4}, None, {"DEDUP_JOBS": "3"})
    assert (chosen.settings.jobs, chosen.origins["jobs"]) == (4, "--jobs")


def test_a_file_that_is_named_is_read_instead_of_both(desk: Desk) -> None:
    (desk.home / ".dedup.toml").write_text("jobs = 2\n")
    (desk.home / "mine.toml").write_text("max_pixels = 1000000\n")
    settings = json.loads(desk.type("--config", "mine.toml", "config", "--json")[0])["settings"]
    assert settings["jobs"]["value"] == 0
    assert settings["max_pixels"] == {"value": 1000000, "from": "mine.toml"}
    (desk.home / "other.toml").write_text("max_pixels = 2000000\n")
    desk.environment["DEDUP_CONFIG"] = "other.toml"
    for words, pixels in (((), 2000000), (("--config", "mine.toml"), 1000000)):
        settings = json.loads(desk.type(*words, "config", "--json")[0])["settings"]
        assert settings["max_pixels"]["value"] == pixels
    assert "no such settings file" in desk.type("--config", "none.toml", "config", code=2)[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("job = 2", "did you mean jobs"),
        ("jobs = '2'", "a whole number"),
        ("jobs = true", "a whole number"),
        ("jobs = -1", "at least 0"),
        ("hash_radius_bits = 60", "at most 31"),
        ("exclude = 'x'", "a list of texts"),
        ("neighbours = 1", "true or false"),
        ("jobs = = 2", "not TOML"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        choose_settings({}, str(tmp_path / "s.toml"), {})
    assert "s.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"), [("JOBS", "x"), ("NEIGHBOURS", "perhaps"), ("DECODE_TIMEOUT_S", "soon"), ("JOBS", "-2")]
)
def test_a_variable_that_makes_no_sense_is_named(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"DEDUP_{name}"):
        choose_settings({}, None, {f"DEDUP_{name}": text})


def test_variables_of_every_kind_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = choose_settings(
        {},
        None,
        {
            "DEDUP_EXCLUDE": "*.gif:tmp/",
            "DEDUP_NEIGHBOURS": "no",
            "DEDUP_DECODE_TIMEOUT_S": "5",
            "DEDUP_DB": "x.db",
            "DEDUP_PREFER": "~/best:second",
            "DEDUP_JOBS": "",
        },
    ).settings
    assert settings.exclude == ("*.gif", "tmp/")
    assert settings.neighbours is False
    assert settings.decode_timeout_s == 5.0
    assert settings.db == str(tmp_path / "x.db")
    assert settings.prefer == (str(tmp_path / "best"), str(tmp_path / "second"))
    assert settings.jobs == 0


def test_a_folder_in_a_file_starts_where_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('prefer = ["best", "/abs"]\ndb = "cat.db"\n')
    settings = choose_settings({}, str(tmp_path / "s.toml"), {}).settings
    assert settings.prefer == (str(tmp_path / "best"), "/abs")
    assert settings.db == str(tmp_path / "cat.db")


def test_config_shows_every_setting_and_where_it_came_from(desk: Desk) -> None:
    out, _ = desk.type("config")
    for field in fields(Settings):
        assert f"\n{field.name} " in f"\n{out}"
    assert str(desk.home) in out


def test_the_catalogue_can_be_named_before_and_after_the_command(desk: Desk) -> None:
    draw(1).save(desk.photos / "a.jpg")
    desk.type("--db", "one.db", "scan", "Pictures")
    desk.type("scan", "--db", "two.db", "Pictures")
    desk.environment["DEDUP_DB"] = "three.db"
    desk.type("scan", "Pictures")
    assert all((desk.home / f"{name}.db").exists() for name in ("one", "two", "three"))


@pytest.mark.parametrize("words", [["report", "--html"], ["export", "-o"], ["scan", "Pictures", "--report"]])
def test_a_report_overwrites_no_photo_and_nothing_that_is_no_file(scanned: Desk, words: list[str]) -> None:
    photo = scanned.photos / "sea.jpg"
    before = photo.read_bytes()
    assert "this is a photo" in scanned.type(*words, str(photo), code=2)[1]
    assert photo.read_bytes() == before
    pipe = scanned.home / "pipe"
    if not pipe.exists():
        os.mkfifo(pipe)
    assert "no file" in scanned.type(*words, "pipe", code=2)[1]
    assert pipe.is_fifo()


# ---- words ---------------------------------------------------------------------------------------------------------


def test_a_sentence_is_safe_on_a_terminal() -> None:
    assert printable("a\x1b[2Jb\u202e\udcffc") == "a\\x1b[2Jb\\u202e\\xffc"
    assert printable("Größe 写真") == "Größe 写真"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (281, "4 min 41 s"), (7322, "2 h 2 min")]
)
def test_a_duration_is_said_as_one_says_it(seconds: float, words: str) -> None:
    assert seconds_words(seconds) == words


def test_commands_are_click_commands_with_a_help_text() -> None:
    for name, command in program.commands.items():
        assert isinstance(command, click.Command)
        assert command.help, name
