"""A catalogue of as many groups as one likes, made up but for the photos of the first ones; for measuring the page.

python -m tests.browser.many FOLDER COUNT
"""

from __future__ import annotations

import os
import random
import sys
from dataclasses import replace
from pathlib import Path

from dedup.catalogue import Catalogue, pack_group
from dedup.pipeline.places import program_stamp
from dedup.pipeline.results import deciding_settings, summary_to_plain
from dedup.records import (
    DuplicateGroup,
    Figures,
    Fingerprint,
    IndexQuality,
    Match,
    Member,
    Metadata,
    Photo,
    PhotoFile,
    PictureInfo,
    Relation,
    ScanSummary,
    Source,
)
from dedup.settings import Settings
from tests.pictures import PHOTOS, jpeg, real_photo

RECIPE = "made up"
REAL = 300
"""Groups, the largest ones, of which the photos exist."""
_FIGURES = Figures(
    2, 6, 2.4, 7.5, (0.4, 0.4, 0.5, 0.5), 0.99, 0.5, 0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (640, 480)
)


def make_many(folder: Path, count: int, db: Path) -> None:
    """Write a catalogue with `count` groups of two to four photos."""
    chance = random.Random(count)
    photos = folder / "Pictures"
    files: list[PhotoFile] = []
    groups: list[list[int]] = []
    for number in range(count):
        places = []
        for copy in range(chance.choice((2, 2, 2, 3, 4))):
            name = (
                f"{2000 + number % 24}/{('Albums', 'Phone', 'Sent', 'Old disk')[copy]}/IMG_{number:06d}.jpg"
            )
            path = photos / name
            size, mtime = 9_000_000 - 50 * number - copy, 1_500_000_000 + number
            if number < REAL:
                path.parent.mkdir(parents=True, exist_ok=True)
                content = jpeg(real_photo(PHOTOS[number % len(PHOTOS)], 1200), 90 - copy)
                path.write_bytes(content + number.to_bytes(4, "big"))
                os.utime(path, ns=(mtime * 10**9, mtime * 10**9))
                size = path.stat().st_size
            places.append(len(files))
            files.append(PhotoFile(str(path), size, mtime * 10**9, mtime * 10**9, 1, len(files) + 1, 1))
        groups.append(places)
    blank = Fingerprint(
        RECIPE, bytes(64), bytes(256), bytes(8), bytes(64), 9.0, b"", bytes(192), (0, 0, 1, 1)
    )
    with Catalogue.open(str(db), write=True) as catalogue, catalogue.all_or_nothing():
        catalogue.put_files(files)
        ids = {row[0]: row[8] for row in catalogue.known_files()}
        made: list[Photo] = []
        for file in files:
            info = PictureInfo(
                "JPEG", 1200, 900, "RGB", 8, 1, False, 1, "", "", 90, False, "",
                Metadata(capture_time=f"20{len(made) % 24:02d}-07-04T12:41:07", camera="Canon"),
            )  # fmt: skip
            photo = Photo(ids[file.path], file, chance.randbytes(32), info, blank)
            catalogue.put_photo(photo.id, photo)
            made.append(photo)
        for number, places in enumerate(groups):
            catalogue.put_group(0, pack_group(_group(number, [made[at] for at in places]), lambda id: id))
        catalogue.put_scope_files(0, ids.values())
        summary = ScanSummary(
            (str(photos),), len(files), len(files), 0, 0, 0, 1.0, IndexQuality(0, 0, 0, 0, ""), "0", RECIPE,
            "2026-01-01T00:00:00+00:00",
        )  # fmt: skip
        basis = {
            "roots": [str(photos)], "settings": deciding_settings(Settings()), "stamp": program_stamp(), "seen": "",
            "unsettled": False, "unfinished": False,
        }  # fmt: skip
        tally = {"groups": [], "similar": 0, "hubs": 0, "not_examined": []}
        catalogue.put_scan(basis, summary_to_plain(summary) | {"late": [], "wider": False, "tally": tally})
        catalogue.put_roots([str(photos)])


def _group(number: int, photos: list[Photo]) -> DuplicateGroup:
    keeper = photos[0]
    relation = (Relation.SAME_PICTURE, Relation.SAME_PICTURE, Relation.EDITED)[number % 3]
    members = []
    for photo in photos[1:]:
        figures = replace(_FIGURES, worst_tile_levels=5.0 + number % 90)
        match = Match(
            keeper.id, photo.id, relation, "the same picture, saved again at about quality 75", (), figures,
            Source.HASH, "left-first",
        )  # fmt: skip
        members.append(Member(photo, match, (), None, None, False))
    freed = sum(member.photo.file.size_bytes for member in members) if relation.is_safe else 0
    return DuplicateGroup(
        f"{number:012x}",
        keeper,
        ("it is the earlier one",),
        (),
        tuple(members),
        (),
        freed + (count_bonus(number)),
    )


def count_bonus(number: int) -> int:
    """So that the groups of which the photos exist stand first."""
    return 10**9 - number if number < REAL else 0


if __name__ == "__main__":
    make_many(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[1]) / "catalogue.db")
