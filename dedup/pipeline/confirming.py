"""Confirmation repeated in the moment of acting: the two open files are decoded again in a worker and compared.

Promises: what is compared are the very files that are about to be acted on, whatever their names stand for by now; a
worker that dies of a picture costs that operation.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from dedup.records import CandidatePair, Operation, Photo, PhotoFile, PlannedFile, Relation, Source
from dedup.settings import Settings

if TYPE_CHECKING:
    from dedup.engine import ProcessEngine

_STRENGTH = list(Relation)


@dataclass(frozen=True, slots=True)
class HeldPair:
    """Two open files, and what they were found to be to each other."""

    keep: HeldFile
    dup: HeldFile
    relation: Relation
    hypothesis: CandidatePair
    max_pixels: int


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file that the parent process holds open."""

    path: str
    """Where a worker opens it: through the parent's descriptor where the system allows, else by name."""
    name: str
    device: int
    inode: int
    size_bytes: int
    mtime_ns: int


class HeldConfirmer:
    """Confirms open pairs, with workers that start when the first one comes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: ProcessEngine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._engine is not None:
            self._engine.close()

    def confirm(self, dup_fd: int, keep_fd: int, operation: Operation) -> str:
        """Why the pair is not what was planned; empty if it is."""
        from dedup.engine import Failure, Limits, open_engine

        if self._engine is None:
            seconds = self._settings.decode_timeout_s
            # One at a time: each operation waits for its answer.
            self._engine = open_engine(1, Limits(self._settings.memory_limit_bytes, seconds, seconds))
        pair = HeldPair(
            keep=_held(keep_fd, operation.keep),
            dup=_held(dup_fd, operation.dup),
            relation=operation.relation,
            hypothesis=_hypothesis(operation),
            max_pixels=self._settings.max_pixels,
        )
        for _, answer in self._engine.map(confirm_held, [pair], patience=lambda _: 4.0):
            if isinstance(answer, Failure):
                return f"the pictures could not be compared again ({answer.reason}: {answer.detail})"
            return answer
        return "the pictures could not be compared again"


def _held(fd: int, file: PlannedFile) -> HeldFile:
    path = f"/proc/{os.getpid()}/fd/{fd}"
    if not os.path.exists(path):
        path = f"/dev/fd/{fd}"
    name = os.fsdecode(os.path.basename(file.path))
    return HeldFile(path, name, file.device, file.inode, file.size_bytes, file.mtime_ns)


def _hypothesis(operation: Operation) -> CandidatePair:
    """What was measured before, as a place to start from: the keeper is 1, the duplicate 2."""
    figures = operation.figures
    a, _, c, _, e, f = figures.alignment
    return CandidatePair(
        1,
        2,
        Source.HASH,
        max(0, figures.phash64_bits),
        figures.orientation,
        (0.0, 0.0, 1.0, 1.0),
        (c, f, a + c, e + f),
    )


def confirm_held(pair: HeldPair) -> str:
    """In a worker: decode both in full, measure, and say why the relation does not hold; empty if it does."""
    from dedup.confirm.loading import CannotLoad, Loaded, Loader
    from dedup.confirm.pair import PairMeasurer
    from dedup.decode import BadPicture, read_full, read_reduced
    from dedup.fingerprint import MIN_SIDE_PX, fingerprint_picture

    class HeldLoader(Loader):
        """Takes pictures from the open files."""

        def load(self, photo: Photo, keep: int = 0) -> Loaded:  # noqa: ARG002 - two pictures always fit
            if photo.id not in self._held:
                with open(photo.file.path, "rb") as stream:
                    full = read_full(stream, files[photo.id].name, max_pixels=pair.max_pixels)
                self.damage[photo.id] = full.info.damage
                self._held[photo.id] = Loaded(photo, full)
            return self._held[photo.id]

    files = {1: pair.keep, 2: pair.dup}
    try:
        photos = {}
        for number, file in files.items():
            with open(file.path, "rb") as stream:
                found = os.fstat(stream.fileno())
                if (found.st_dev, found.st_ino) != (file.device, file.inode):
                    return "it is another file than the one that was planned"
                picture = read_reduced(stream, file.name, MIN_SIDE_PX, max_pixels=pair.max_pixels)
            seen = PhotoFile(file.path, file.size_bytes, file.mtime_ns, 0, file.device, file.inode, 1)
            photos[number] = Photo(number, seen, b"", picture.info, fingerprint_picture(picture))
        loader = HeldLoader(pair.max_pixels)
        measurer = PairMeasurer(loader)
        match = measurer.measure(photos[1], photos[2], [pair.hypothesis])
        if match is None and pair.hypothesis.orientation == 0:
            match = measurer.measure(photos[1], photos[2], [replace(pair.hypothesis, source=Source.DERIVED)])
    except BadPicture as error:
        return f"a picture could not be decoded again ({error.detail or error.reason})"
    except (CannotLoad, OSError) as error:
        return f"a picture could not be read again ({error})"
    if loader.damage.get(1):
        return f"the photo that is kept is damaged ({loader.damage[1]})"
    if match is None or _STRENGTH.index(match.relation) > _STRENGTH.index(pair.relation):
        found_words = "no likeness" if match is None else match.relation.replace("-", " ")
        return f"compared again, it is not {pair.relation.replace('-', ' ')} but {found_words}"
    return ""
