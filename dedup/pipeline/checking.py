"""`check`: is this picture in the library? Candidates as in a scan that includes it, and the same confirmation.

Promises: what is said to be there was compared with a photo that is there now, at full pixels or byte for byte; a
photo of the library that has changed or is gone since the scan proves nothing; a picture that cannot be read is an
answer, never an exception. Does not: change the catalogue or a photo.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from dedup.catalogue import Catalogue
from dedup.engine import Later
from dedup.errors import UsageError
from dedup.pipeline.early import Early, open_workers, read_upload
from dedup.pipeline.known import Known, greys_of, key_of
from dedup.pipeline.places import absolute_folder, below
from dedup.pipeline.reading import digest_photo
from dedup.records import (
    Answer,
    CandidatePair,
    Checked,
    Likeness,
    Match,
    Photo,
    PhotoFile,
    Relation,
    Skipped,
    Source,
)
from dedup.settings import Settings

if TYPE_CHECKING:
    from dedup.engine import Failure, ProcessEngine

T = TypeVar("T")
R = TypeVar("R")

MOST_AT_ONCE = 64
"""Files that are under work together: enough to keep workers busy, few enough that answers come as one watches."""
MOST_COMPARED = 200
"""Photos that one picture is compared with at full pixels, nearest first. Only burst families have so many."""
_STRENGTH = list(Relation)
_SOURCES = list(Source)


@dataclass(frozen=True, slots=True)
class Opponent:
    """A photo of the library that a picture is to be compared with."""

    photo: Photo
    pairs: tuple[CandidatePair, ...]
    library_first: bool
    """Whether it would be kept rather than the picture: then it stands on the left."""
    family: int
    """Content that it was confirmed to be a copy or a version of, or its own."""
    is_best: bool
    """Whether it is that content itself."""
    is_version: bool
    """Whether it is an edited version of it."""


@dataclass(frozen=True, slots=True)
class CheckJob:
    """A picture and what it is compared with: families, nearest first, and in each the best photo first."""

    photo: Photo
    against: tuple[Opponent, ...]
    max_pixels: int
    to_the_end: bool
    """Go on after a copy was found."""

    @property
    def path(self) -> str:
        """What a message calls it."""
        return self.photo.file.path


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """What came of a job."""

    matches: tuple[tuple[int, Match], ...]
    """(place in `against`, match)."""
    damage: str
    """What a full decode found wrong with the picture."""
    skipped: Skipped | None
    """Why the picture could not be decoded in full."""
    lost: tuple[int, ...]
    """Places in `against` of photos that could not be read any more."""


def compare_with_library(job: CheckJob) -> CheckFinding:
    """In a worker: measure a picture against photos of the library, until one is a copy.

    As in a scan, the best of a family speaks for its copies: a picture that is an edited version of it is not compared
    with those, only with the family's other edited versions.
    """
    from dedup.confirm.loading import CannotLoad, Loader
    from dedup.confirm.pair import PairMeasurer

    loader = Loader(job.max_pixels)
    measurer = PairMeasurer(loader)
    matches: list[tuple[int, Match]] = []
    lost: list[int] = []
    settled: dict[int, Relation] = {}
    for place, other in enumerate(job.against):
        known = None if job.to_the_end else settled.get(other.family)
        if known is not None and (known.is_safe or not other.is_version):
            continue
        left, right = (other.photo, job.photo) if other.library_first else (job.photo, other.photo)
        try:
            match = measurer.measure(left, right, other.pairs)
        except CannotLoad:
            if job.photo.id in loader.failed:
                break
            lost.append(place)
            continue
        if match is None:
            continue
        matches.append((place, match))
        if match.relation.is_safe and not job.to_the_end:
            break
        if other.is_best and other.library_first and match.relation is not Relation.SIMILAR:
            settled[other.family] = match.relation
    return CheckFinding(
        tuple(matches),
        loader.damage.get(job.photo.id, ""),
        loader.failed.get(job.photo.id),
        tuple(lost),
    )


class Checker:
    """Answers about pictures, from one catalogue. Safe to use from several threads; close it when it is done with."""

    def __init__(
        self,
        settings: Settings,
        folders: Sequence[str | os.PathLike[str]] = (),
        *,
        to_the_end: bool = False,
        early: Early | None = None,
    ) -> None:
        """Open the catalogue.

        Parameters
        ----------
        folders
            Only photos below these count.
        to_the_end
            Compare with all candidates, after a copy was found, too.
        early
            A file that is being read already; its workers become this one's.
        """
        self.settings = settings
        self.known = Known(settings)
        self.to_the_end = to_the_end
        self._folders = tuple(absolute_folder(os.fspath(folder)) for folder in folders)
        self._is_ours = below(self._folders) if self._folders else None
        self._early = early
        self._engine: ProcessEngine = open_workers(settings) if early is None else early.engine
        self.jobs = self._engine.jobs
        with self.known.open() as catalogue:
            self._look_at_folders(catalogue)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        self._engine.close()
        self.known.close()

    def hire(self, count: int = 1) -> None:
        """Have workers ready, before this process has threads and fills its memory."""
        for worker in [self._engine.hire() for _ in range(count)]:
            self._engine.dismiss(worker)

    def _look_at_folders(self, catalogue: Catalogue) -> None:
        for folder in self._folders:
            if not catalogue.has_photo_below(folder):
                raise UsageError(
                    f"{folder}: the catalogue {self.known.path} knows no photo there; "
                    "run `dedup scan` on it first"
                )

    # --- one, and many ------------------------------------------------------------------------------------------------

    def check_file(self, file: PhotoFile, name: str = "") -> Checked:
        """The answer about one file, as fast as it can be had."""
        name = name or file.path
        digest = digest_photo(file)
        if isinstance(digest, Skipped):
            return Checked(name, Answer.UNREADABLE, skipped=digest)
        with self.known.open() as catalogue:
            same = self._same_bytes(catalogue, digest)
        if same.likenesses and not self.to_the_end:
            return replace(same, name=name)
        # While a worker decodes, which it does in its own process, the library is laid out in this one.
        if self._early is not None and self._early.file == file:
            reading = self._early.photo
        else:
            self.hire()
            reading = Later(lambda: self._run_one(self._reader(), file))
        try:
            asker = self.known.asker()
            if not reading.is_done:
                asker.warm()
        finally:
            photo = reading.result()
        job, answer = self._plan(file, name, same, photo)
        if job is None:
            return answer
        return self._conclude(job, answer, self._run_one(compare_with_library, job, _patience))

    def check_files(self, files: Iterable[PhotoFile]) -> Iterator[Checked]:
        """The answers about many files, in their order."""
        batch: list[PhotoFile] = []
        for file in files:
            batch.append(file)
            if len(batch) == MOST_AT_ONCE:
                yield from self._check_batch(batch)
                batch = []
        if len(batch) == 1:
            yield self.check_file(batch[0])
        elif batch:
            yield from self._check_batch(batch)

    def _check_batch(self, files: Sequence[PhotoFile]) -> Iterator[Checked]:
        answers: dict[PhotoFile, Checked] = {}
        waiting: dict[PhotoFile, Checked] = {}
        with self.known.open() as catalogue:
            for file, digest in self._engine.map(digest_photo, files):
                if not isinstance(digest, bytes):
                    answers[file] = Checked(file.path, Answer.UNREADABLE, skipped=_as_skipped(file, digest))
                    continue
                same = replace(self._same_bytes(catalogue, digest), name=file.path)
                if same.likenesses and not self.to_the_end:
                    answers[file] = same
                else:
                    waiting[file] = same
        jobs: dict[PhotoFile, tuple[CheckJob, Checked]] = {}
        if waiting:
            for file, photo in self._engine.map(self._reader(), list(waiting)):
                job, answer = self._plan(file, file.path, waiting[file], photo)
                if job is None:
                    answers[file] = answer
                else:
                    jobs[file] = job, answer
        for job, finding in self._engine.map(
            compare_with_library, [job for job, _ in jobs.values()], patience=_patience
        ):
            file = job.photo.file
            answers[file] = self._conclude(job, jobs[file][1], finding)
        for file in files:
            yield answers[file]

    def _reader(self) -> Callable[[PhotoFile], Photo | Skipped]:
        return partial(read_upload, max_pixels=self.settings.max_pixels)

    def _run_one(
        self, function: Callable[[T], R], item: T, patience: Callable[[T], float] | None = None
    ) -> R | Failure:
        ((_, answer),) = self._engine.map(function, [item], patience=patience)
        return answer

    # --- the steps ----------------------------------------------------------------------------------------------------

    def _same_bytes(self, catalogue: Catalogue, digest: bytes) -> Checked:
        """The answer by bytes alone: `there` with every such photo, or `new` with what is not there any more."""
        likenesses, notes = [], []
        for file in catalogue.files_with_digest(digest):
            if self._is_ours is not None and not self._is_ours(file.path):
                continue
            if is_as_scanned(file):
                likenesses.append(
                    Likeness(file.path, Relation.SAME_BYTES, "the same bytes", library_first=True, match=None)
                )
            else:
                notes.append(f"{file.path} had the same bytes when it was scanned, and is changed or gone")
        answer = Answer.THERE if likenesses else Answer.NEW
        return Checked("", answer, tuple(likenesses), notes=tuple(notes), digest=digest)

    def _plan(
        self, file: PhotoFile, name: str, same: Checked, photo: Photo | Skipped | Failure
    ) -> tuple[CheckJob | None, Checked]:
        """What is left to compare, and the answer if that comes to nothing."""
        same = replace(same, name=name)
        if not isinstance(photo, Photo):
            if same.likenesses:  # the same bytes are the same, whatever they are
                return None, same
            return None, replace(same, answer=Answer.UNREADABLE, skipped=_as_skipped(file, photo))
        photo = replace(photo, id=key_of(photo.digest))
        if photo.info.damage:
            same = replace(same, notes=(*same.notes, f"it is damaged: {photo.info.damage}"))
        if self.known.stale:
            note = (
                f"{self.known.stale:,} photos were scanned by another version of dedup and are told by their bytes "
                "alone; run `dedup scan`"
            )
            same = replace(same, notes=(*same.notes, note))
        against, gone = self._opponents(photo)
        if gone:
            words = f"{gone:,} photos that may be alike are changed or gone since they were scanned"
            same = replace(same, notes=(*same.notes, words))
        if not against:
            return None, same
        return CheckJob(photo, tuple(against), self.settings.max_pixels, self.to_the_end), same

    def _opponents(self, photo: Photo) -> tuple[list[Opponent], int]:
        """What to compare a picture with, nearest first; and how many cannot be compared any more."""
        from dedup.index import table_from_photos

        asker = self.known.asker()
        with self.known.open() as catalogue:
            pairs = asker.ask(
                table_from_photos([(photo.id, photo)]),
                photo.fingerprint.grey,
                greys_of(catalogue, asker.content_of),
            )
            by_content: dict[int, list[CandidatePair]] = {}
            for pair in pairs:
                key = pair.right if pair.left == photo.id else pair.left
                by_content.setdefault(asker.content_of(key), []).append(pair)
            families = _families(catalogue, by_content)
            order: list[int] = []
            for content in sorted(by_content, key=lambda content: _nearness(by_content[content])):
                best, _ = families[content]
                order += [best, content]
            order = list(dict.fromkeys(order))
            rank = {best: place for place, best in enumerate(dict.fromkeys(families[c][0] for c in order))}
            # A family stands together, in the place of its nearest photo, and the best of it first.
            order.sort(key=lambda content: (rank[families[content][0]], families[content][0] != content))
            return self._photos(catalogue, photo, by_content, order, families)

    def _photos(
        self,
        catalogue: Catalogue,
        photo: Photo,
        by_content: dict[int, list[CandidatePair]],
        order: Sequence[int],
        families: Mapping[int, tuple[int, bool]],
    ) -> tuple[list[Opponent], int]:
        files = catalogue.files_of(order)
        chosen: list[tuple[int, int]] = []
        gone = 0
        for content in order:
            ours = [
                (number, file)
                for number, file in files.get(content, ())
                if self._is_ours is None or self._is_ours(file.path)
            ]
            number = next((number for number, file in ours if is_as_scanned(file)), None)
            if number is not None:
                chosen.append((content, number))
            elif ours:
                gone += 1
            if len(chosen) == MOST_COMPARED:
                break
        content_of = {number: content for content, number in chosen}
        against = []
        for number, found in catalogue.photos_of_files(list(content_of), grey=True):
            other = replace(found, id=key_of(found.digest))
            if other.digest == photo.digest or other.fingerprint.recipe != photo.fingerprint.recipe:
                continue
            low, high = sorted((other.id, photo.id))
            content = content_of[number]
            pairs = by_content.get(content) or [CandidatePair(low, high, Source.DERIVED, 64)]
            family, is_version = families[content]
            first = self._is_kept_rather(other, photo)
            against.append(
                Opponent(other, tuple(pairs), first, family, is_best=family == content, is_version=is_version)
            )
        return against, gone

    def _is_kept_rather(self, other: Photo, photo: Photo) -> bool:
        """Whether the rules for keepers put the library's photo before the picture."""
        from dedup.keeper import gather_facts, keeper_key

        facts = gather_facts((other, photo), prefer=self.settings.prefer, protect=self.settings.protect)
        return keeper_key(other, facts) <= keeper_key(photo, facts)

    def _conclude(self, job: CheckJob, so_far: Checked, finding: CheckFinding | Failure) -> Checked:
        if not isinstance(finding, CheckFinding):
            return replace(
                so_far, answer=Answer.UNREADABLE, skipped=_as_skipped(job.photo.file, finding, "confirm")
            )
        notes = list(so_far.notes)
        if finding.damage and not job.photo.info.damage:
            notes.append(f"it is damaged: {finding.damage}")
        if finding.lost:
            paths = ", ".join(job.against[place].photo.file.path for place in finding.lost[:3])
            notes.append(f"{len(finding.lost):,} photos that may be alike could not be read: {paths}")
        found = [
            Likeness(
                job.against[place].photo.file.path,
                match.relation,
                match.sentence,
                job.against[place].library_first,
                match,
            )
            for place, match in finding.matches
        ]
        # Stable: of equal relations the nearest family stays first.
        found.sort(key=lambda likeness: _STRENGTH.index(likeness.relation))
        likenesses = (*so_far.likenesses, *found)
        if finding.skipped is not None and not likenesses:
            return replace(so_far, answer=Answer.UNREADABLE, skipped=finding.skipped, notes=tuple(notes))
        relations = Counter(likeness.relation for likeness in likenesses)
        if any(relation.is_safe for relation in relations):
            answer = Answer.THERE
        else:
            answer = Answer.EDITED if relations[Relation.EDITED] else Answer.NEW
        return replace(so_far, answer=answer, likenesses=likenesses, notes=tuple(notes))


def _families(catalogue: Catalogue, contents: Collection[int]) -> dict[int, tuple[int, bool]]:
    """For each content, and for the best of its family, that best one, and whether it is an edited version of it."""
    found = {content: (content, False) for content in contents}
    for content in contents:
        way, edited = [content], False
        while better := catalogue.better_of(way[-1]):
            further, relation = better
            if further in way:
                break
            way.append(further)
            edited = edited or relation is Relation.EDITED
        found[content] = way[-1], edited
        found.setdefault(way[-1], (way[-1], False))
    return found


def is_as_scanned(file: PhotoFile) -> bool:
    """Whether a photo of the catalogue is there, with the size and time that it had."""
    try:
        status = os.lstat(file.path_bytes)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == (
        file.size_bytes,
        file.mtime_ns,
    )


def _nearness(pairs: Collection[CandidatePair]) -> tuple[int, int]:
    best = min(pairs, key=lambda pair: (_SOURCES.index(pair.source), pair.distance_bits))
    return _SOURCES.index(best.source), best.distance_bits


def _patience(job: CheckJob) -> float:
    """Factor on the time limit of one photo: every photo decoded, every pair aligned and compared."""
    return 2.0 * (1 + len(job.against))


def _as_skipped(
    file: PhotoFile, answer: Skipped | Failure, stage: Literal["fingerprint", "confirm"] = "fingerprint"
) -> Skipped:
    if isinstance(answer, Skipped):
        return answer
    return Skipped(file.path, stage, answer.reason, answer.detail, file.size_bytes, file.mtime_ns)
