"""A million photos on one machine, stage by stage, in time and memory: `make bench-million` (`bench.million`).

The catalogue is made up: fingerprints of pictures that are blended from parts of real photos, so that hashes, textures
and colours are spread as those of photos are, and a tenth of the photos have a copy. Behind them stand files of the
right size and time without content, so that a scan walks and compares what it would. The thousand new photos of the
rescan are real files.

Each stage runs in a process of its own; its peak memory is that process's and its workers' largest. What is measured
for each size goes to `--out` as JSON, one line a stage, and is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dedup.catalogue import Catalogue
from dedup.confirm import CONFIRM_RECIPE
from dedup.engine import Limits, open_engine
from dedup.fingerprint import RECIPE
from dedup.pipeline.matching import search_recipe
from dedup.records import (
    Figures,
    Fingerprint,
    Match,
    Metadata,
    Photo,
    PhotoFile,
    PictureInfo,
    Relation,
    Source,
)
from dedup.settings import Settings

SIZES = (10_000, 100_000, 1_000_000)
BATCH = 2000
FOLDER_FILES = 1000
NEW = 1000
FAMILY = 10
"""Each so many photos hold one copy."""
SAMPLED_PX = 160


# --- made-up photos -----------------------------------------------------------------------------------------------


@cache
def real_pictures(folder: str) -> NDArray[np.uint8]:
    """(n, 160, 160, 3): photos to blend, those of a folder or those that scikit-image brings."""
    found: list[Image.Image] = []
    for path in sorted(Path(folder).rglob("*")) if folder else ():
        with suppress(OSError, ValueError):
            if path.suffix.lower() in (".jpg", ".jpeg", ".png") and len(found) < 200:
                image: Image.Image = Image.open(path)
                image.draft("RGB", (SAMPLED_PX, SAMPLED_PX))
                found.append(image.convert("RGB"))
    if not found:
        from skimage import data

        names = (
            "astronaut",
            "chelsea",
            "coffee",
            "rocket",
            "camera",
            "coins",
            "moon",
            "page",
            "text",
            "clock",
        )
        found = [Image.fromarray(np.asarray(getattr(data, name)())).convert("RGB") for name in names]
    return np.stack([np.asarray(image.resize((SAMPLED_PX, SAMPLED_PX))) for image in found])


def _blends(random: np.random.Generator, pictures: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """(count, 64, 64, 3): each of parts of three real pictures, one over the other, in other tones."""
    mixed = np.zeros((count, 64, 64, 3), np.float32)
    weights = random.dirichlet((1.5, 1.0, 0.7), count).astype(np.float32)
    for layer in range(3):
        side = random.uniform(0.3, 0.9, count)
        start = random.uniform(0, 1, (count, 2)) * (1 - side)[:, None]
        steps = (np.arange(64) + 0.5) / 64
        rows = ((start[:, :1] + side[:, None] * steps) * SAMPLED_PX).astype(np.intp)
        columns = ((start[:, 1:] + side[:, None] * steps) * SAMPLED_PX).astype(np.intp)
        mirrored = random.random(count) < 0.5
        columns[mirrored] = columns[mirrored, ::-1]
        chosen = random.integers(0, len(pictures), count)
        part = pictures[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        mixed += weights[:, layer, None, None, None] * part
    gain, lift = random.uniform(0.7, 1.4, count), random.uniform(-30, 30, count)
    return np.asarray(
        (mixed - 128) * gain[:, None, None, None].astype(np.float32) + 128 + lift[:, None, None, None]
    )


_MIRRORS = ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0))
"""Of each orientation: transposed, then mirrored down and across."""


def _hashes(greys: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(n, 8, side * side / 8): pHash in eight orientations, from one transform: to mirror a picture is to change the
    sign of every second frequency."""
    basis = cosines_of(side)
    low = np.matmul(basis, np.matmul(greys.astype(np.float32), basis.T))
    signs = np.where(np.arange(side) % 2, -1.0, 1.0).astype(np.float32)
    found = np.empty((len(greys), 8, side * side // 8), np.uint8)
    for number, (transposed, down, across) in enumerate(_MIRRORS):
        turned = low.transpose(0, 2, 1) if transposed else low
        turned = turned * (signs[:, None] if down else 1.0) * (signs if across else 1.0)
        flat = turned.reshape(len(greys), -1)
        found[:, number] = np.packbits(flat > np.median(flat, axis=1, keepdims=True), axis=1)
    return found


def cosines_of(side: int) -> NDArray[np.float32]:
    """(side, 64): the lowest cosines."""
    place = (np.arange(64) + 0.5) * np.pi / 64
    return np.cos(np.arange(side)[:, None] * place).astype(np.float32)


def make_batch(number: int, root: str, photos: str) -> list[Photo]:
    """`BATCH` photos; the files are made by the caller."""
    random = np.random.default_rng([7, number])
    rgb = _blends(random, real_pictures(photos), BATCH)
    copied = np.arange(1, BATCH, FAMILY)
    rgb[copied] = rgb[copied - 1] + random.normal(0, 1.5, (len(copied), 64, 64, 3))
    rgb = rgb.clip(0, 255).astype(np.uint8)
    greys = (rgb @ np.array([0.299, 0.587, 0.114], np.float32)).round().astype(np.uint8)
    narrow, wide = _hashes(greys, 8), _hashes(greys, 16)
    grid = rgb.reshape(BATCH, 8, 8, 8, 8, 3).mean(axis=(2, 4)).astype(np.uint8)
    tones = (rgb[:, ::2, ::2] // 64).astype(np.intp) @ np.array([16, 4, 1])
    texture = greys.astype(np.float32).std(axis=(1, 2)) / 3
    made = []
    for at in range(BATCH):
        name = number * BATCH + at
        path = f"{root}/{name // FOLDER_FILES:06}/IMG_{name:08}.JPG"
        file = PhotoFile(path, 2_000_000 + name, 1_500_000_000_000_000_000 + name * 1_000_000_000, 0, 0, 0, 1)
        info = PictureInfo(
            "JPEG", 4000, 3000, "RGB", 8, 1, False, 1, "", "", 90, False, "", Metadata(exif_tags=30)
        )
        histogram = np.sqrt(np.bincount(tones[at].ravel(), minlength=64) / 1024) * 255
        prints = Fingerprint(
            RECIPE,
            narrow[at].tobytes(),
            wide[at].tobytes(),
            np.packbits(greys[at, ::8, :-8:8] < greys[at, ::8, 8::8]).tobytes()[:7] + b"\0",
            histogram.astype(np.uint8).tobytes(),
            float(texture[at]),
            greys[at].tobytes(),
            grid[at].tobytes(),
            (0.0, 0.0, 1.0, 1.0),
        )
        made.append(Photo(0, file, random.bytes(32), info, prints))
    return made


def _drawing(number: int) -> Image.Image:
    """A picture that resembles none: clouds of colour."""
    clouds = np.random.default_rng([11, number]).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(clouds).resize((800, 600), Image.Resampling.BICUBIC)


def make_files(root: Path, first: int, count: int) -> None:
    """Files of the right size and time, without content."""
    for at in range(first, first + count):
        path = root / f"{at // FOLDER_FILES:06}" / f"IMG_{at:08}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(2_000_000 + at)
        os.utime(path, ns=(0, 1_500_000_000_000_000_000 + at * 1_000_000_000))


def make(place: Path, count: int, photos: str, jobs: int) -> dict[str, Any]:
    """Catalogue and files."""
    root = place / "photos"
    db = place / "catalogue.db"
    done = 0
    with Catalogue.open(str(db), write=True) as catalogue, open_engine(jobs, Limits()) as engine:
        known = {row[0] for row in catalogue.known_files()}
        todo = [
            n
            for n in range(count // BATCH)
            if f"{root}/{n * BATCH // FOLDER_FILES:06}/IMG_{n * BATCH:08}.JPG" not in known
        ]
        for number, batch in engine.map(partial(make_batch, root=str(root), photos=photos), todo):
            assert isinstance(batch, list)
            make_files(root, number * BATCH, BATCH)
            made = [replace(photo, file=_as_on_disk(photo.file)) for photo in batch]
            with catalogue.all_or_nothing():
                catalogue.put_files(photo.file for photo in made)
                ids = {photo.file.path: id for photo, id in zip(made, _ids(catalogue, made), strict=True)}
                contents = [catalogue.put_photo(ids[photo.file.path], photo) for photo in made]
                for at in range(0, BATCH, FAMILY):
                    catalogue.put_match(_match(contents[at], contents[at + 1]), CONFIRM_RECIPE)
            done += BATCH
            print(f"\r{done:,} photos made", end="", file=sys.stderr)
        settings = Settings(db=str(db), neighbours=False)
        with catalogue.all_or_nothing():
            every = [content for content, _, _ in catalogue.contents_by_digest(RECIPE)]
            catalogue.mark_indexed(every, search_recipe(settings))
    return {"photos": count}


def _as_on_disk(file: PhotoFile) -> PhotoFile:
    status = os.stat(file.path)
    return PhotoFile(
        file.path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino, 1
    )


def _ids(catalogue: Catalogue, batch: list[Photo]) -> Iterator[int]:
    """The ids of the files that were just put; to ask for all known files each time would take an hour."""
    last = catalogue.last_file()
    yield from range(last - len(batch) + 1, last + 1)


def _match(left: int, right: int) -> Match:
    figures = Figures(1, 6, 1.6, 4.0, None, 0.99, 1.0, 1, (1.0, 0, 0, 0, 1.0, 0), (4000, 3000))
    words = "the same picture, saved again at about quality 90"
    return Match(left, right, Relation.SAME_PICTURE, words, (), figures, Source.HASH, "unknown")


# --- stages -------------------------------------------------------------------------------------------------------


def _table(catalogue: Catalogue) -> Any:
    from dedup.index import table_from_rows

    _, keys, _ = catalogue.contents_in_columns(RECIPE)
    return table_from_rows(keys, catalogue.fingerprint_columns(RECIPE))


def _greys(catalogue: Catalogue) -> Any:
    from dedup.pipeline.known import greys_of

    contents, keys, _ = catalogue.contents_in_columns(RECIPE)
    return greys_of(catalogue, lambda key: contents[bisect_left(keys, key)])


def radius(place: Path) -> dict[str, Any]:
    """All pairs of upright hashes within 8 bits: the bar; and the whole hash search, eight orientations at 10."""
    from dedup.index import radius_pairs
    from dedup.index.by_hash import HashSearch
    from dedup.index.pairs import Library

    with Catalogue.open(str(place / "catalogue.db"), write=False) as catalogue:
        table = _table(catalogue)
        upright = np.ascontiguousarray(table.phash64[:, 0])
        began = time.process_time()
        pairs = sum(len(rows) for rows, _, _ in radius_pairs(upright, upright, 8))
        join_s = time.process_time() - began
        library = Library(table, _greys(catalogue), np.ones(len(table), dtype=bool), 10)
        began = time.process_time()
        proposed = sum(len(found) for found in HashSearch(library, 2000).pairs())
        return {
            "join_s": join_s,
            "pairs": pairs,
            "search_s": time.process_time() - began,
            "proposed": proposed,
        }


def windows(place: Path, share: int = 1) -> dict[str, Any]:
    """All pairs through windows at 10 bits; with `share`, one of so many parts of the questions."""
    from dedup.index import by_window
    from dedup.index.pairs import Library, SeenPairs
    from dedup.index.window_store import WindowStore

    with Catalogue.open(str(place / "catalogue.db"), write=False) as catalogue:
        table = _table(catalogue)
        greys = _greys(catalogue)
        asked = np.ones(len(table), dtype=bool)
        library = Library(table, greys, asked, 10)
        store = WindowStore(library, Path(f"{place}/catalogue.db.index"))
        if share > 1:
            # The others show themselves, and do not ask.
            by_window._questions = partial(_some_questions, by_window._questions, share)
        deep = by_window.asks_deep(len(library.textured))
        began = time.process_time()
        proposed = sum(len(found) for found in by_window.window_pairs(library, SeenPairs(), store, deep=deep))
        return {
            "search_s": (time.process_time() - began) * share,
            "share": share,
            "proposed": proposed * share,
        }


def _some_questions(questions: Any, share: int, *given: Any, **further: Any) -> Iterator[Any]:
    for number, asking in enumerate(questions(*given, **further)):
        if number == 0 or number % share == 1 % share:
            yield asking
        if number // share >= max(1, 16 // share) and number:
            return


def neighbours(place: Path) -> dict[str, Any]:
    """annoy's index built and asked about a thousand pictures."""
    from dedup.index.neighbours import NeighbourProgress, nearest_rows

    with Catalogue.open(str(place / "catalogue.db"), write=False) as catalogue:
        table = _table(catalogue)
    asked = np.zeros(len(table), dtype=bool)
    asked[:1000] = True
    folder = Path(f"{place}/catalogue.db.index")
    folder.mkdir(exist_ok=True)
    began = time.process_time()
    found = sum(len(first) for first, _ in nearest_rows(table, asked, folder, NeighbourProgress()))
    return {"build_and_1000_s": time.process_time() - began, "near": found}


def renew(place: Path) -> dict[str, Any]:
    """After a change of the program: note all as searched, and what was confirmed as confirmed by the program as it is,
    so that neither is done again in the midst of a stage that measures something else."""
    settings = Settings(db=str(place / "catalogue.db"), neighbours=False)
    with Catalogue.open(settings.db, write=True) as catalogue, catalogue.all_or_nothing():
        content_of = {path.rpartition("/")[2]: content for path, *_, content in catalogue.known_files()}
        for at in range(0, len(content_of), FAMILY):
            one, other = content_of.get(f"IMG_{at:08}.JPG"), content_of.get(f"IMG_{at + 1:08}.JPG")
            if one and other:
                catalogue.put_match(_match(one, other), CONFIRM_RECIPE)
        del content_of
        catalogue.forget_matches_except(CONFIRM_RECIPE)
        recipe = search_recipe(settings)
        number = catalogue.recipe_id(recipe)
        contents, _, searched = catalogue.contents_in_columns(RECIPE)
        stale = [content for content, was in zip(contents, searched, strict=True) if was != number]
        catalogue.mark_indexed(stale, recipe)
    return {"renewed": len(stale)}


def group(place: Path) -> dict[str, Any]:
    """A scan of what is all known: the walk, grouping and storing."""
    from dedup import pipeline

    began = time.monotonic()
    outcome = pipeline.scan_folders(
        [place / "photos"], Settings(db=str(place / "catalogue.db"), neighbours=False)
    )
    return {"scan_s": time.monotonic() - began, "groups": sum(count for _, count, _ in outcome.tally.groups)}


def quiet(place: Path) -> dict[str, Any]:
    """A scan that finds nothing changed."""
    return group(place)


def report(place: Path) -> dict[str, Any]:
    """The report as text and JSON."""
    from dedup import pipeline
    from dedup.report import to_json, to_text

    began = time.monotonic()
    found = pipeline.load_report(Settings(db=str(place / "catalogue.db")))
    load_s = time.monotonic() - began
    text = to_text(found, 100, False)
    text_s = time.monotonic() - began - load_s
    whole = json.dumps(to_json(found))
    return {
        "load_s": load_s,
        "text_s": text_s,
        "json_s": time.monotonic() - began - load_s - text_s,
        "groups": len(found.groups),
        "bytes": [len(text), len(whole)],
    }


def rescan(place: Path) -> dict[str, Any]:
    """A scan with a thousand new photos, real files."""
    from dedup import pipeline

    folder = place / "photos" / "new"
    folder.mkdir(exist_ok=True)
    for number in range(NEW):
        path = folder / f"{number:04}.jpg"
        if not path.exists():
            _drawing(number).save(path, quality=90)
    began = time.monotonic()
    stages: dict[str, float] = {}
    seen = [("", began)]

    def told(stage: str, _done: int, _total: int | None) -> None:
        if stage != seen[0][0]:
            now = time.monotonic()
            stages[seen[0][0] or "start"] = round(
                stages.get(seen[0][0] or "start", 0.0) + now - seen[0][1], 2
            )
            seen[0] = (stage, now)

    outcome = pipeline.scan_folders(
        [place / "photos"], Settings(db=str(place / "catalogue.db"), neighbours=False), told
    )
    told("", 0, None)
    return {"scan_s": time.monotonic() - began, "read": outcome.summary.read, "stages": stages}


def check(place: Path) -> dict[str, Any]:
    """Whether one picture is in the library: the snapshot made, and a question after that."""
    from dedup import pipeline

    path = place / "asked.jpg"
    if not path.exists():
        _drawing(NEW).save(path)
    settings = Settings(db=str(place / "catalogue.db"), neighbours=False)
    began = time.monotonic()
    list(pipeline.check_pictures([str(path)], settings))
    first_s = time.monotonic() - began
    began = time.monotonic()
    list(pipeline.check_pictures([str(path)], settings))
    return {"first_s": first_s, "next_s": time.monotonic() - began}


STAGES: dict[str, Callable[..., dict[str, Any]]] = {
    "radius": radius,
    "windows": windows,
    "neighbours": neighbours,
    "renew": renew,
    "group": group,
    "quiet": quiet,
    "report": report,
    "rescan": rescan,
    "check": check,
}


# --- the run ------------------------------------------------------------------------------------------------------


def run_stage(name: str, place: Path, further: list[str]) -> dict[str, Any]:
    """A stage in a process of its own."""
    command = [sys.executable, "-m", "bench.million", "--place", str(place), "--stage", name, *further]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        return {"failed": done.returncode}
    return dict(json.loads(done.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--place", default=".bench/million", help="where catalogues and files go")
    parser.add_argument("--photos", default="", help="real photos to blend; else scikit-image's")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--stages", default="radius,group,quiet,report,windows,rescan,check")
    parser.add_argument(
        "--window-share", type=int, default=0, help="measure one of so many parts (0: 16 from 1,000,000)"
    )
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    given = parser.parse_args()
    place = Path(given.place).absolute()
    if given.stage:
        began, cpu = time.monotonic(), time.process_time()
        more = {"share": given.window_share} if given.stage == "windows" and given.window_share else {}
        found = STAGES[given.stage](place, **more)
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        found |= {"wall_s": time.monotonic() - began, "cpu_s": time.process_time() - cpu}
        found |= {"peak_mb": round(own / 1024), "worker_mb": round(workers / 1024)}
        print(json.dumps(found))
        return 0
    for size in map(int, given.sizes.split(",")):
        here = place / str(size)
        here.mkdir(parents=True, exist_ok=True)
        results = here / "results.jsonl"
        known = [json.loads(line)["stage"] for line in results.open()] if results.exists() else []
        if "make" not in known:
            began = time.monotonic()
            found = make(here, size, given.photos, given.jobs) | {"wall_s": time.monotonic() - began}
            _note(results, "make", size, found)
        for name in given.stages.split(","):
            if name in known:
                continue
            if name in ("group", "quiet", "rescan", "check"):
                run_stage("renew", here, [])
            share = given.window_share or (16 if size >= 1_000_000 else 1)
            _note(results, name, size, run_stage(name, here, ["--window-share", str(share)]))
    return 0


def _note(results: Path, name: str, size: int, found: dict[str, Any]) -> None:
    rounded = {key: round(value, 2) if isinstance(value, float) else value for key, value in found.items()}
    line = json.dumps({"stage": name, "photos": size, **rounded})
    with results.open("a") as file:
        file.write(line + "\n")
    print(f"\r{line}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
