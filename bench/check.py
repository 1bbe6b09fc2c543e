"""How long one `dedup check` takes, process start included: `python -m bench.check PHOTOS`.

The library is a catalogue of so many photos, cut from the photos given (all but every tenth, which ask) and searched
as a scan does; the few of them that a question comes near are files of 12 megapixels, the others only fingerprints.
Three questions, each in a process of its own: a picture whose bytes are there, one that nothing is near, and one
that was saved again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from dedup import Settings, scan_library
from dedup.catalogue import Catalogue
from dedup.fingerprint import fingerprint_pixels
from dedup.pipeline.matching import search_pairs
from dedup.records import Metadata, Photo, PhotoFile, PictureInfo

SEED = 2026
SIZE_PX = (4000, 3000)
REAL = 8
"""Files of full size, each of which asks."""
LEAST_PX = 200
BAR_FAR_S, BAR_COMPARED_S = 0.3, 0.6
ABSENT = "/dedup-bench/absent"
"""Below a root that is not there, so that no scan takes these files for gone."""


def is_photo(path: Path) -> bool:
    """Whether it is a sound picture that a piece may be cut from."""
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png") or not path.is_file():
        return False
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if min(image.size) < LEAST_PX:
                return False
            image.load()
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def cut_pieces(photos: list[Path], count: int) -> Iterator[Photo]:
    """Fingerprints of so many pieces of the photos, each of another place and size."""
    chance = np.random.default_rng(SEED)
    each = -(-count // len(photos))
    info = PictureInfo("JPEG", 4000, 3000, "RGB", 8, 1, False, 1, "", "", 90, False, "", Metadata())
    made = 0
    for path in photos:
        with Image.open(path) as opened:
            whole = opened.convert("RGB")
        whole.thumbnail((900, 900))
        for _ in range(min(each, count - made)):
            side = chance.uniform(0.2, 0.6)
            x, y = chance.uniform(0, 1 - side, 2)
            box = [x * whole.width, y * whole.height, (x + side) * whole.width, (y + side) * whole.height]
            piece = whole.resize((170, 128), Image.Resampling.BILINEAR, box=tuple(box))
            file = PhotoFile(f"{ABSENT}/{made:07}.jpg", 3_000_000 + made, 10**18 + made, 0, 1, made + 1, 1)
            made += 1
            digest = chance.bytes(32)
            yield Photo(0, file, digest, info, fingerprint_pixels(np.ascontiguousarray(piece)))


def enlarge(path: Path, target: Path, quality: int = 92) -> None:
    with Image.open(path) as opened:
        image = opened.convert("RGB").resize(SIZE_PX, Image.Resampling.BICUBIC)
    grain = np.random.default_rng(1).normal(0, 4, (SIZE_PX[1], SIZE_PX[0], 1))
    pixels = np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(target, quality=quality)


def make_catalogue(photos: list[Path], work: Path, count: int) -> tuple[Path, list[Path], list[Path]]:
    """The catalogue, files that are in it, and files that are not; made once."""
    folder = work / f"check-{count}"
    db, root, others = folder / "catalogue.db", folder / "library", folder / "others"
    if not (folder / "complete").exists():
        root.mkdir(parents=True, exist_ok=True)
        others.mkdir(exist_ok=True)
        asking, given = photos[::10], [path for number, path in enumerate(photos) if number % 10]
        for number in range(REAL):
            enlarge(given[number], root / f"{number}.jpg")
            enlarge(asking[number], others / f"new-{number}.jpg")
            with Image.open(root / f"{number}.jpg") as stored:
                stored.save(others / f"again-{number}.jpg", quality=75)
        settings = Settings(db=str(db))
        scan_library([root], settings)
        print(f"making a catalogue of {count:,} photos, once ...")
        with Catalogue.open(str(db), write=True) as catalogue:
            pieces: list[Photo] = []
            for photo in cut_pieces(given[REAL:], count):
                pieces.append(photo)
                if len(pieces) == 1000:
                    put(catalogue, pieces)
            put(catalogue, pieces)
            catalogue.commit()
            search_pairs(catalogue, settings, lambda *_: None)
        (folder / "complete").touch()
    return db, sorted(root.glob("*.jpg")), sorted(others.glob("*.jpg"))


def put(catalogue: Catalogue, photos: list[Photo]) -> None:
    """Store photos as a scan would, and empty the list."""
    catalogue.put_files(photo.file for photo in photos)
    number_of = {row[0]: row[8] for row in catalogue.known_files()}
    for photo in photos:
        catalogue.put_photo(number_of[photo.file.path], photo)
    photos.clear()


def ask(db: Path, picture: Path) -> tuple[float, float, str]:
    """Wall and processor seconds of one process, and its answer."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "dedup", "--db", str(db), "check", "--json", str(picture)],
        stdout=subprocess.PIPE,
        check=False,
    )
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_s, used_s, json.loads(done.stdout)["answer"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(".bench"))
    given = parser.parse_args()
    photos = sorted(path for path in given.photos.rglob("*") if is_photo(path))
    if len(photos) < 20 * REAL:
        raise SystemExit(f"{given.photos}: {len(photos)} photos are too few; {20 * REAL} will do")
    db, there, others = make_catalogue(photos, given.work, given.count)
    again = [path for path in others if path.name.startswith("again")]
    new = [path for path in others if path.name.startswith("new")]
    began = time.perf_counter()
    ask(db, there[0])
    ask(db, new[0])
    print(f"the snapshot is there after {time.perf_counter() - began:.1f} s")
    held = True
    for what, files, expected, bar_s in (
        ("same bytes", there, "there", BAR_FAR_S),
        ("nothing near", new, "new", BAR_FAR_S),
        ("saved again, 12 MP", again, "there", BAR_COMPARED_S),
    ):
        found = [ask(db, path) for _ in range(given.rounds) for path in files]
        answers = [answer for _, _, answer in found]
        wall_s = statistics.median(wall for wall, _, _ in found)
        best_s = min(wall for wall, _, _ in found)
        used_s = statistics.median(used for _, used, _ in found)
        right = sum(answer == expected for answer in answers)
        print(
            f"{what:20s} median {wall_s * 1000:4.0f} ms (bar {bar_s * 1000:.0f}), best {best_s * 1000:4.0f} ms, "
            f"{used_s * 1000:4.0f} ms of processor; {right} of {len(answers)} answers are {expected}"
        )
        held &= wall_s <= bar_s and right == len(answers)
    return 0 if held else 1


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
