"""Which files belong together and must move together or not at all.

Promises: pure names; two files of one stem in one folder. Does not: look at a file, or take a name for likeness.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable

# fmt: off
RAW_EXTENSIONS = frozenset((
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos",
    ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
))
# fmt: on
SIDECAR_EXTENSIONS = frozenset((".xmp", ".aae", ".pp3", ".thm", ".dop"))
_MOVIE_EXTENSIONS = frozenset((".mov", ".mp4"))
_LIVE_EXTENSIONS = frozenset((".heic", ".heif", ".jpg", ".jpeg"))
_RAW_PARTNERS = frozenset((".jpg", ".jpeg", ".heic", ".heif", ".hif"))


def find_units(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Files that belong together and must move together or not at all.

    A photo's unit: its sidecars (`x.jpg.xmp`, `x.xmp`, `.aae`, `.pp3`, `.thm`), the RAW beside its JPEG or HEIC of the
    same stem and the reverse, and the movie beside a Live Photo.

    Parameters
    ----------
    paths
        All files of the folders, photos or not; names compare without regard to case, within one folder.

    Returns
    -------
    dict
        From photo path to the sorted paths of the other files; photos that stand alone are left out. Names are
        evidence of belonging together only, never of likeness.
    """
    by_stem: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for path in set(paths):
        folder, name = os.path.split(path)
        stem, extension = os.path.splitext(name.casefold())
        by_stem[folder, stem].append((extension, path))
        if extension in SIDECAR_EXTENSIONS and (inner := os.path.splitext(stem))[1]:
            by_stem[folder, inner[0]].append((inner[1] + extension, path))
    units: dict[str, tuple[str, ...]] = {}
    for family in by_stem.values():
        if len(family) < 2:
            continue
        for extension, path in family:
            if extension in SIDECAR_EXTENSIONS or extension in _MOVIE_EXTENSIONS or extension.count(".") > 1:
                continue
            partners = {other for kind, other in family if other != path and _goes_with(extension, kind)}
            if partners:
                units[path] = tuple(sorted(partners, key=os.fsencode))
    return units


def _goes_with(photo: str, other: str) -> bool:
    """Whether a file with extension `other` belongs to a photo with extension `photo` of the same stem."""
    if other in SIDECAR_EXTENSIONS:
        return True
    if other.count(".") == 2:
        return other.rpartition(".")[0] == photo
    if other in _MOVIE_EXTENSIONS:
        return photo in _LIVE_EXTENSIONS
    return (photo in RAW_EXTENSIONS and other in _RAW_PARTNERS) or (
        photo in _RAW_PARTNERS and other in RAW_EXTENSIONS
    )
