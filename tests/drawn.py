"""Records drawn by hand for tests of the stages that never open a file: photos, matches and the figures between."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from dedup.records import (
    Change,
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

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def draw_photo(number: int, path: str = "", content: str = "", **changes: Any) -> Photo:
    """A 1600 x 1200 JPEG. `changes` go to the file, the info, the metadata or the fingerprint, whoever has the name."""
    path = path or f"/photos/{number:04d}.jpg"
    digest = hashlib.sha256((content or path).encode("utf-8", "surrogateescape")).digest()
    photo = Photo(
        id=number,
        file=PhotoFile(path, 1_000_000, 1_500_000_000 * 10**9, 0, 1, number, 1),
        digest=digest,
        info=PictureInfo(
            "JPEG", 1600, 1200, "RGB", 8, 1, False, 1, "", "", 90, False, "", Metadata(exif_tags=0)
        ),
        fingerprint=Fingerprint(
            "test",
            # A pHash of its own for each content, far from every other.
            b"".join(hashlib.sha256(digest + bytes([o])).digest()[:8] for o in range(8)),
            bytes(256),
            bytes(8),
            b"",
            20.0,
            b"",
            digest * 6,
            (0.0, 0.0, 1.0, 1.0),
        ),
    )
    for name, value in changes.items():
        part = next(
            part
            for part in ("file", "info", "fingerprint", "metadata")
            if hasattr(photo.info.metadata if part == "metadata" else getattr(photo, part), name)
        )
        if part == "metadata":
            info = replace(photo.info, metadata=replace(photo.info.metadata, **{name: value}))
            photo = replace(photo, info=info)
        else:
            photo = replace(photo, **{part: replace(getattr(photo, part), **{name: value})})
    return photo


def draw_figures(**changes: Any) -> Figures:
    figures = Figures(2, 10, 1.5, 3.0, (0.25, 0.25, 0.5, 0.5), 0.99, 1.0, 0, IDENTITY, (1600, 1200))
    return replace(figures, **changes)


def draw_match(
    left: Photo, right: Photo, relation: Relation = Relation.SAME_PICTURE, **changes: Any
) -> Match:
    """`left` against `right`; further fields of the match, or of its figures, by name."""
    own = {name: changes.pop(name) for name in list(changes) if name in ("sentence", "changes", "direction")}
    match = Match(
        left.id,
        right.id,
        relation,
        f"{relation} of {left.id} and {right.id}",
        (),
        draw_figures(**changes),
        Source.HASH,
        "unknown",
    )
    return replace(match, **own)


def draw_change(kind: str, words: str = "", **fields: Any) -> Change:
    return Change(kind, words or kind, **fields)
