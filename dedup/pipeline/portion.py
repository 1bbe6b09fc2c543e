"""A portion of a library confirmed and grouped by itself: photos, and all candidate pairs that touch any of them.

Promises: the groups are those of a scan of the whole library, as long as no candidate pair leads out of the portion;
it is the same code, over a catalogue that lives as long as the call. Does not: search.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from dedup.catalogue import Catalogue, pack_group, pack_pair, rows
from dedup.engine import Engine
from dedup.errors import InternalFault
from dedup.fingerprint import RECIPE
from dedup.pipeline.dataset import key_of
from dedup.pipeline.grouping import Grouper, preferences_of
from dedup.pipeline.matching import Confirmer, Contents
from dedup.pipeline.places import Progress
from dedup.records import CandidatePair, Inspection, Match, Photo, Skipped
from dedup.settings import Settings

LAST_ROOTS = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured pair, by keys; no match if the two have nothing to do with each other."""

    low: int
    high: int
    match: Match | None


@dataclass(frozen=True, slots=True)
class PortionResult:
    """What came of a portion. Photos and files are named by `Photo.id` as it was given."""

    groups: tuple[tuple[str, int, str], ...]
    """Strongest relation, bytes that come back, and the group as `catalogue.rows` writes it."""
    similar: tuple[tuple[int, int, str], ...]
    hubs: tuple[int, ...]
    measured: tuple[Measured, ...]
    inspections: tuple[tuple[Inspection, str, str], ...]
    """By key, with reason and detail where a photo could not be decoded in full."""
    spared: tuple[tuple[int, int, int], ...]
    """Pairs, by keys, that need no measurement as long as the third of the three is around."""
    late: tuple[Skipped, ...]
    """Photos that could not be read this time, and may be next time."""
    confirmed: int
    """Pairs that were compared."""


def settle_portion(
    photos: Collection[Photo],
    pairs: Iterable[CandidatePair],
    units: Mapping[str, tuple[str, ...]],
    settings: Settings,
    engine: Engine,
    progress: Progress | None = None,
) -> PortionResult:
    """Confirm and group.

    Parameters
    ----------
    photos
        Every file of every content of the portion, with greys; ids are the caller's.
    pairs
        By keys of contents (`dataset.key_of`).
    units
        By path, what goes with a photo.

    Raises
    ------
    InternalFault
        If a photo was fingerprinted under another recipe than this program's.
    """
    with (
        tempfile.TemporaryDirectory(prefix="dedup-portion-") as place,
        Catalogue.open(os.path.join(place, "portion.db"), write=True) as catalogue,
    ):
        return _Portion(catalogue, photos, units, settings, progress).settle(pairs, engine)


class _Portion:
    def __init__(
        self,
        catalogue: Catalogue,
        photos: Collection[Photo],
        units: Mapping[str, tuple[str, ...]],
        settings: Settings,
        progress: Progress | None,
    ) -> None:
        self.catalogue = catalogue
        self.settings = settings
        self.progress = progress or (lambda *_: None)
        self.preferences = preferences_of(settings, units, ())
        strange = next((photo for photo in photos if photo.fingerprint.recipe != RECIPE), None)
        if strange is not None:
            raise InternalFault(
                f"{strange.file.path}: fingerprinted by another version of dedup or of what it decodes with than the"
                " one that confirms; install the same on every machine, and scan into a new folder"
            )
        self.given: dict[int, int] = {}
        """File id of the private catalogue to the caller's id."""
        self.files_of: dict[int, list[int]] = defaultdict(list)
        """By content, the file that stands for it first."""
        self.key_of: dict[int, int] = {}
        self._fill(photos)

    def _fill(self, photos: Collection[Photo]) -> None:
        ordered = sorted(photos, key=lambda photo: (photo.digest, photo.file.path_bytes))
        catalogue = self.catalogue
        catalogue.put_files(photo.file for photo in ordered)
        ids = {row[0]: row[8] for row in catalogue.known_files()}
        last, content = b"", 0
        for photo in ordered:
            file = ids[photo.file.path]
            if photo.digest != last:
                last, content = photo.digest, catalogue.put_photo(file, photo)
                self.key_of[content] = key_of(photo.digest)
            else:
                catalogue.attach(file, content)
            self.given[file] = photo.id
            self.files_of[content].append(file)
        catalogue.commit()

    def settle(self, pairs: Iterable[CandidatePair], engine: Engine) -> PortionResult:
        catalogue = self.catalogue
        content_of = {key: content for content, key in self.key_of.items()}
        catalogue.put_candidates(
            replace(pair, left=content_of[pair.left], right=content_of[pair.right]) for pair in pairs
        )
        catalogue.commit()
        first = {content: files[0] for content, files in self.files_of.items()}
        contents = Contents(
            (list(self.key_of), list(self.key_of.values())),
            (list(first), list(first.values())),
            self.settings.max_pixels,
        )
        confirmer = Confirmer(
            catalogue, engine, contents, self.preferences.order, self.preferences.chosen, self.progress
        )
        confirmer.confirm_candidates()
        pairs_of = [(content, file) for content, files in self.files_of.items() for file in files]
        carriers = [content for content, _ in pairs_of], [file for _, file in pairs_of]
        grouped = Grouper(catalogue, confirmer, carriers, self.preferences).run(None, self.progress)
        for group in grouped.groups:
            catalogue.put_group(LAST_ROOTS, group)
        for pair in grouped.similar:
            catalogue.put_similar(LAST_ROOTS, pair)
        packed = [pack_group(group, self.given.__getitem__) for group in catalogue.groups(LAST_ROOTS)]
        alike = [
            pack_pair(pair.match, self.given.__getitem__) for pair in catalogue.similar_pairs(LAST_ROOTS)
        ]
        return PortionResult(
            groups=tuple((group.relation, group.freed_bytes, group.body) for group in packed),
            similar=tuple(alike),
            hubs=tuple(self.given[hub] for hub in grouped.hubs),
            measured=tuple(self._measured()),
            inspections=tuple(
                (replace(entry, photo_id=self.key_of[content]), reason, detail)
                for content, (entry, reason, detail) in sorted(catalogue.inspections().items())
            ),
            spared=tuple(
                sorted(
                    (self.key_of[left], self.key_of[right], self.key_of[hub])
                    for _, left, right, hub in catalogue.candidate_ends()
                    if hub is not None
                )
            ),
            late=tuple(confirmer.late[content] for content in sorted(confirmer.late)),
            confirmed=confirmer.measured,
        )

    def _measured(self) -> Iterable[Measured]:
        key = self.key_of
        ends = sorted(self.catalogue.match_ends())
        related = [(low, high) for low, high, _, relation in ends if relation]
        for match in self.catalogue.matches(related):
            left, right = key[match.left], key[match.right]
            yield Measured(min(left, right), max(left, right), replace(match, left=left, right=right))
        for low, high, _, relation in ends:
            if not relation:
                yield Measured(min(key[low], key[high]), max(key[low], key[high]), None)


def match_row(measured: Measured) -> dict[str, object]:
    """A row of the table `matches`: as the catalogue has it, by keys. `turned`: the high one is the left one."""
    match = measured.match
    return {
        "low": measured.low,
        "high": measured.high,
        "turned": match is not None and match.left == measured.high,
        "relation": "" if match is None else match.relation.value,
        "body": None if match is None else rows.match_to_text(match),
    }
