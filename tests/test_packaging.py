"""`make run` and `make test` on a machine that has everything, and on one that does not."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="GNU make is not installed")


def make(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=ROOT,
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment that is ready, with a `dedup` that shows what it was given."""
    program = tmp_path / "venv" / "bin" / "dedup"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\nexit "${FAKE_EXIT:-0}"\n')
    program.chmod(0o755)
    ready = tmp_path / "venv" / "ready"
    ready.touch()
    os.utime(ready, (2**31, 2**31))  # newer than pyproject.toml, whenever that was written
    return program.parent.parent


def test_bare_make_lists_the_targets() -> None:
    done = make()
    assert done.returncode == 0
    for target in ("run", "test", "fmt", "check", "bench"):
        assert f"make {target} " in done.stdout


def test_make_run_without_a_folder_says_what_to_give_in_one_line(environment: Path) -> None:
    done = make("run", f"VENV={environment}")
    assert done.returncode != 0
    assert len((done.stdout + done.stderr).splitlines()) == 1
    assert "make run DIR=~/Pictures" in done.stderr


@pytest.mark.parametrize(
    "folder",
    [
        "plain",
        "with space",
        "it's",
        'a "quote"',
        "$HOME",
        "$(shell exit)",
        "half$(open",
        "`id`",
        "a#b",
        "-x",
        "a\\b",
        "~user",
    ],
)
def test_make_run_passes_a_path_as_it_was_typed(environment: Path, folder: str) -> None:
    done = make("run", f"VENV={environment}", f"DIR={folder}")
    assert done.returncode == 0, done.stderr
    assert f"<scan><--report><duplicates.html><--><{folder}>" in done.stdout


def test_make_run_expands_the_home_folder(environment: Path, tmp_path: Path) -> None:
    done = make("run", f"VENV={environment}", "DIR=~/my photos", HOME=str(tmp_path))
    assert f"<--><{tmp_path}/my photos>" in done.stdout
    assert f"<--><{tmp_path}>" in make("run", f"VENV={environment}", "DIR=~", HOME=str(tmp_path)).stdout


def test_make_run_takes_unreadable_photos_for_success_with_a_remark(environment: Path) -> None:
    done = make("run", f"VENV={environment}", "DIR=x", FAKE_EXIT="3")
    assert done.returncode == 0
    assert "could not be read" in done.stdout
    assert make("run", f"VENV={environment}", "DIR=x", FAKE_EXIT="5").returncode != 0


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """A PATH with neither compiler nor root, on Debian."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "basename", "touch", "cat"):
        (folder / name).symlink_to(shutil.which(name) or "")
    fakes = {"id": "echo 1000", "apt-get": f"echo apt-get $* >> {tmp_path}/installed", "c++": "exit 1"}
    for name, body in fakes.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "python3").chmod(0o755)
    return folder


def test_a_missing_compiler_is_named_with_its_package(bare_machine: Path, tmp_path: Path) -> None:
    make_program = shutil.which("make") or ""
    (bare_machine / "make").symlink_to(make_program)
    done = make("machine", PATH=str(bare_machine))
    assert done.returncode != 0
    assert "sudo apt-get install " in done.stderr
    assert "g++" in done.stderr.split("sudo apt-get install ")[1].splitlines()[0].split()
    assert not (tmp_path / "installed").exists()


def test_root_on_debian_gets_it_installed(bare_machine: Path, tmp_path: Path) -> None:
    (bare_machine / "make").symlink_to(shutil.which("make") or "")
    (bare_machine / "id").write_text("#!/bin/sh\necho 0\n")
    done = make("machine", PATH=str(bare_machine))
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "installed").read_text()
    assert "apt-get update" in said
    assert "g++" in said


def test_a_machine_without_venv_or_headers_is_told_both(bare_machine: Path) -> None:
    (bare_machine / "make").symlink_to(shutil.which("make") or "")
    (bare_machine / "c++").write_text("#!/bin/sh\ncat >/dev/null\n")
    (bare_machine / "python3").write_text(
        '#!/bin/sh\ncase "$2" in *venv*|*Python.h*) exit 1 ;; esac\nexit 0\n'
    )
    done = make("machine", PATH=str(bare_machine))
    assert "sudo apt-get install python3-venv python3-dev\n" in done.stderr


def test_the_distribution_has_the_promised_extras_and_groups() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["name"] == "photo-dedup"
    assert set(project["project"]["optional-dependencies"]) == {"jxl", "raw", "parquet", "serve", "spark"}
    assert {"dev", "test", "lint"} <= set(project["dependency-groups"])
    assert (ROOT / "dedup" / "py.typed").exists()


def test_whatever_is_imported_is_asked_for_by_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(entry for extra in project["optional-dependencies"].values() for entry in extra),
    ]
    names = {re.split(r"[^\w-]", entry)[0].lower().replace("-", "_") for entry in asked}
    known_by = {"PIL": "pillow", "pillow_jxl": "pillow_jxl_plugin"}
    for path in (ROOT / "dedup").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for module in (name.partition(".")[0] for name in modules):
                if module not in sys.stdlib_module_names and module != "dedup":
                    assert known_by.get(module, module).lower() in names, f"{path.name} imports {module}"


def test_every_rule_that_is_switched_off_has_its_reason_beside_it() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    inside = False
    for line in lines:
        if line.startswith(("ignore = [", '"tests/**" = [', '"bench/**" = [', '"dedup/')):
            inside = True
        elif line == "]":
            inside = False
        elif inside and line.strip().startswith('"'):
            assert "#" in line, line
