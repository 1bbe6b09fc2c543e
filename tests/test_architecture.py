"""Imports point one way, each outside thing has one room, and no room grows past what one can hold in mind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dedup"

DIRECTION = (
    {"__main__"},
    {"cli"},
    {"review", "serve"},
    {"__init__"},
    # `calibrate` runs the pipeline on what it makes; `spark` runs its parts where the photos are
    {"library", "testing", "calibrate", "spark", "listening"},
    {"pipeline", "sequence"},
    {"crawl", "fingerprint", "index", "confirm", "cluster", "keeper", "plan", "apply", "report", "compare"},
    {"decode", "catalogue", "journal", "engine"},
    {"settings"},
    {"errors"},
    {"records"},
)
"""From the top down; a room imports only what stands below it. `__init__` is the public face, which hands out what
`pipeline` and `library` do."""

KNOWS_THE_CATALOGUE = {"__init__", "library", "cli", "review", "serve", "pipeline", "calibrate", "catalogue"}

ROOMS = {
    "PIL.Image.open": {"decode"},
    "PIL": {"decode", "fingerprint", "confirm", "report", "compare", "review", "calibrate"},
    "PIL.features": {"decode", "pipeline"},  # `doctor` says what this Pillow can read
    "pillow_heif": {"decode"},
    "simplejpeg": {"decode"},
    "rawpy": {"decode"},
    "pillow_jxl": {"decode"},
    "imagehash": {"fingerprint"},
    "annoy": {"index"},
    "pyspark": {"spark"},
    "fsspec": {"spark", "pipeline"},
    "pyarrow": {"spark", "pipeline"},
    "sqlite3": {"catalogue"},
    "multiprocessing": {"engine"},
    "concurrent": {"engine"},
    "subprocess": {"engine"},
    "os.fork": {"engine"},
    "pickle": {"engine"},
    "socket": {"engine", "review", "serve"},
    "http": {"review", "serve"},
    "starlette": {"review", "serve", "listening"},
    "uvicorn": {"review", "serve", "listening"},
    "tqdm": {"cli"},
    "click": {"cli"},
    "print": {"cli"},
    "sys.exit": {"cli", "__main__"},
    "shutil.rmtree": set(),
    "shutil.move": set(),
    "os.link": {"apply"},
    "os.symlink": set(),
    "os.rename": {"apply"},
    "os.rmdir": {"apply"},
    "os.utime": {"apply", "catalogue"},
    "os.chmod": {"apply", "catalogue", "index"},
    # Own files - catalogue and its backups, the index, a report - are written beside and moved into place.
    "os.replace": {"apply", "catalogue", "index", "journal", "pipeline", "report", "cli"},
    # `spark` lets go of the copies that it fetched, `review` of the file that led a browser to the page.
    "os.unlink": {"apply", "catalogue", "index", "journal", "pipeline", "report", "cli", "spark", "review"},
    "os.remove": {"apply", "catalogue", "index", "journal", "pipeline", "report", "cli"},
}
"""Outside thing -> rooms that may use it; the longest name that fits counts."""

MOST_LINES = 600
MOST_PARAMETERS = 6

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def storey(room: str) -> int:
    found = [number for number, rooms in enumerate(DIRECTION) if room in rooms]
    assert found, f"{room} has no place in DIRECTION yet: give it one"
    return found[0]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: import absolutely"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of imports and of everything called or read through them, aliases resolved."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                known[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    yield from imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.lineno, known.get(node.id, node.id)
        elif isinstance(node, ast.Attribute):
            parts: list[str] = []
            inner: ast.expr = node
            while isinstance(inner, ast.Attribute):
                parts.append(inner.attr)
                inner = inner.value
            if isinstance(inner, ast.Name) and inner.id in known:
                yield node.lineno, ".".join([known[inner.id], *reversed(parts)])


def wrong_ways(path: Path, text: str) -> list[str]:
    """Imports of a module that go up or sideways."""
    room, faults = room_of(path), []
    for line, target in imports(ast.parse(text)):
        parts = target.split(".")
        if parts[0] != "dedup" or len(parts) < 2:
            continue
        other = (
            parts[1] if (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").exists() else "__init__"
        )
        if other == "__init__" and parts[1] == "__version__":
            continue
        if other != room and storey(other) <= storey(room):
            faults.append(f"{name_of(path)}:{line} imports {target}, which does not stand below it")
        if other == "catalogue" and room not in KNOWS_THE_CATALOGUE:
            faults.append(f"{name_of(path)}:{line}: a stage does not know the catalogue")
    return faults


def strangers(path: Path, text: str) -> list[str]:
    """Uses of an outside thing in a room that is not its own."""
    room, faults = room_of(path), []
    for line, used in uses(ast.parse(text)):
        fitting = [thing for thing in ROOMS if used == thing or used.startswith(f"{thing}.")]
        if fitting and room not in ROOMS[max(fitting, key=len)]:
            owners = sorted(ROOMS[max(fitting, key=len)]) or "nobody"
            faults.append(f"{name_of(path)}:{line} uses {used}; that belongs to {owners}")
    return sorted(set(faults))


def too_wide(path: Path, text: str) -> list[str]:
    """Functions with more parameters than one can keep apart."""
    faults = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([n for n in names if n not in ("self", "cls")])
            if count > MOST_PARAMETERS:
                faults.append(f"{name_of(path)}:{node.lineno} {node.name} takes {count} parameters")
    return faults


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    assert wrong_ways(path, path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_outside_thing_stays_in_its_room(path: Path) -> None:
    assert strangers(path, path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_and_its_functions_can_be_held_in_mind(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= MOST_LINES
    assert too_wide(path, text) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_opens_with_a_sentence(path: Path) -> None:
    opening = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert opening and opening.split("\n\n")[0].rstrip().endswith((".", ":"))


@pytest.mark.parametrize(
    ("module", "text", "words"),
    [
        ("crawl.py", "from dedup.pipeline import scan_library", "does not stand below it"),
        ("crawl.py", "def f():\n    from dedup import pipeline", "does not stand below it"),
        ("confirm/x.py", "import dedup.cluster", "does not stand below it"),
        ("fingerprint.py", "from dedup.catalogue import Catalogue", "does not know the catalogue"),
        ("records.py", "from dedup.errors import Busy", "does not stand below it"),
    ],
)
def test_the_guard_sees_a_wrong_import(module: str, text: str, words: str) -> None:
    assert any(words in fault for fault in wrong_ways(PACKAGE / module, text))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("confirm/x.py", "from PIL import Image\nImage.open('x')"),
        ("confirm/x.py", "import PIL.Image as P\nP.open('x')"),
        ("index/x.py", "import imagehash"),
        ("pipeline.py", "def f():\n    import sqlite3"),
        ("keeper.py", "print('x')"),
        ("crawl.py", "import os\nos.unlink('x')"),
        ("cluster.py", "from os import rename"),
        ("report/x.py", "from tqdm import tqdm"),
        ("confirm/x.py", "import sys\nsys.exit(3)"),
        ("catalogue/x.py", "from shutil import rmtree as clean\nclean('x')"),
    ],
)
def test_the_guard_sees_a_thing_outside_its_room(module: str, text: str) -> None:
    assert strangers(PACKAGE / module, text)


def test_the_guard_sees_a_function_with_too_many_parameters() -> None:
    assert too_wide(PACKAGE / "x.py", "def f(a, b, c, d, e, f, g): ...")
    assert not too_wide(PACKAGE / "x.py", "def f(self, a, b, c, d, e, f): ...")
