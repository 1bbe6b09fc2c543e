"""Two files compared: the verdict that a scan would come to, and every measure that was asked for.

Promises: the verdict is `confirm`'s, from the files as they are, whatever was done to the pictures for the measures; a
file that breaks its decoder costs a worker, not the program. Does not: remember anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dedup.errors import UnreadableInput, UsageError
from dedup.pipeline.places import Progress
from dedup.records import (
    Asked,
    CandidatePair,
    Comparison,
    Hurdle,
    Match,
    Measure,
    Photo,
    PhotoFile,
    Relation,
    Skipped,
    Source,
)
from dedup.settings import Settings

if TYPE_CHECKING:
    from dedup.compare.frames import Frames, Layer, Placing
    from dedup.compare.levels import Answer
    from dedup.confirm.loading import Loader

SCREENSHOT_TILE_PX = 4
SCREENSHOT_LEVELS = 12.0
"""Worst 4 px tile (mean difference, Euclidean in RGB) of two screenshots that count as the same: one word in 14 px type
moves it by 39, saving at quality 90 by at most 10."""

PATIENCE = 8.0
"""Times the limit of one decode that a comparison may take: two decodes, and thirty measures."""
MEMORY = 4
"""Times the memory of one decoding worker: both pictures are held, beside what is made of them."""

DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class _Job:
    path: str
    """Of the left file; the engine names a job by it."""
    left: PhotoFile
    right: PhotoFile
    asked: Asked
    settings: Settings


def compare_files(
    left: str,
    right: str,
    asked: Asked | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two pictures.

    Parameters
    ----------
    left, right
        A and B: paths of any two files that a scan could read. Links are followed.
    asked
        Which measures, after which preparation; all of them, and none, without it.
    progress
        Called with the stage `compare`, once before and once after.

    Raises
    ------
    UsageError
        If a measure does not exist.
    UnreadableInput
        If one of the files gives no picture.
    """
    from dedup.compare import choose_names
    from dedup.engine import Failure, Limits, open_engine

    asked, settings = asked or Asked(), settings or Settings()
    try:
        asked = replace(asked, names=choose_names(asked.names))
    except KeyError as error:
        raise UsageError(
            f"there is no measure {error.args[0]!r}; dedup compare --list names them all"
        ) from error
    files = [look_at(path) for path in (left, right)]
    job = _Job(left, files[0], files[1], asked, settings)
    limits = Limits(
        settings.memory_limit_bytes * MEMORY, settings.decode_timeout_s, settings.decode_timeout_s
    )
    if progress is not None:
        progress("compare", 0, 1)
    with open_engine(1, limits) as engine:
        for _, answer in engine.map(_compare, [job], patience=lambda _: PATIENCE):
            if isinstance(answer, Failure):
                raise UnreadableInput(
                    f"{left} and {right}: they could not be compared ({answer.reason}: {answer.detail})"
                )
            if isinstance(answer, Skipped):
                raise UnreadableInput(
                    f"{answer.path}: no picture could be read ({answer.detail or answer.reason})"
                )
            if progress is not None:
                progress("compare", 1, 1)
            return answer
    raise AssertionError("a job has an answer")


def look_at(path: str) -> PhotoFile:
    """A file that a person named; links are followed.

    Raises
    ------
    UnreadableInput
        If it is no file that could be read.
    """
    real = os.path.realpath(path)
    try:
        status = os.stat(real)
    except OSError as error:
        raise UnreadableInput(f"{path}: this file cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise UnreadableInput(f"{path}: this is {kind}; name a picture")
    return PhotoFile(
        real,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_dev,
        status.st_ino,
        status.st_nlink,
    )


def check_picture_place(path: str, sources: Sequence[str] = ()) -> None:
    """Say now, not after the work, that a picture cannot be put in a place.

    Raises
    ------
    UsageError
        If the place is taken by something that is no earlier picture of ours: a photo for example.
    """
    from dedup.compare.drawing import MARK

    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UsageError(f"{path}: nothing can be written into {folder}; give another place")
    if any(
        os.path.exists(source) and os.path.exists(path) and os.path.samefile(source, path)
        for source in sources
    ):
        raise UsageError(f"{path}: this is one of the pictures that are looked at; give another place")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{path}: this is no file that could be replaced; give another place")
        with open(path, "rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path}: cannot be looked at ({error.strerror}); give another place") from error
    if head and MARK not in head:
        raise UsageError(f"{path}: there is a file that no earlier dedup drew; give another place")


def write_picture(png: bytes, path: str, sources: Sequence[str] = ()) -> None:
    """Write a picture that we drew; an earlier one of ours is replaced, any other file is not.

    Raises
    ------
    UsageError
        As `check_picture_place`, or if it cannot be written.
    """
    check_picture_place(path, sources)
    real = os.path.realpath(path)
    temporary = f"{real}.{os.getpid()}.part"
    is_ours = False
    try:
        with open(temporary, "xb") as out:
            is_ours = True
            out.write(png)
        os.replace(temporary, real)
        is_ours = False
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); give another place") from error
    finally:
        with suppress(OSError):
            if is_ours:
                os.unlink(temporary)


# ---- in a worker ---------------------------------------------------------------------------------------------------


def _compare(job: _Job) -> Comparison | Skipped:
    from dedup.confirm.loading import CannotLoad, Loader
    from dedup.fingerprint import fingerprint_photo

    photos = []
    for number, file in enumerate((job.left, job.right), start=1):
        photo = fingerprint_photo(file, job.settings.max_pixels)
        if isinstance(photo, Skipped):
            return photo
        photos.append(replace(photo, id=number))
    left, right = photos
    loader = Loader(job.settings.max_pixels)
    try:
        if left.digest == right.digest:
            # The relation is settled; what a full decode thinks of the file is asked for only if something needs it.
            relation, match, verdict = Relation.SAME_BYTES.value, None, _same_bytes_words(left)
        else:
            match, swapped = relate(left, right, loader, job.settings)
            relation = match.relation.value if match is not None else DIFFERENT
            verdict = _words(match, swapped)
        return _Worker(job, left, right, loader).finish(relation, match, verdict)
    except CannotLoad as error:
        return error.skipped


def relate(
    left: Photo, right: Photo, loader: Loader, settings: Settings
) -> tuple[Match | None, Match | None]:
    """What a scan would measure of two photos that are not the same bytes.

    Returns
    -------
    match
        A on the left; None if they are not of one scene.
    other_way
        The same pair with B on the left, where B came first.
    """
    from dedup.confirm.pair import PairMeasurer

    measurer = PairMeasurer(loader)
    hypotheses = propose(left, right, settings) or [CandidatePair(left.id, right.id, Source.DERIVED, 64)]
    match = measurer.measure(left, right, hypotheses)
    if match is None or match.direction != "right-first":
        return match, None
    return match, measurer.measure(right, left, hypotheses)


def propose(left: Photo, right: Photo, settings: Settings) -> list[CandidatePair]:
    """The hypotheses under which the index of a scan would propose this pair; none if it would not."""
    from dedup.index import find_candidates, table_from_photos

    both = (left, right)
    greys = np.stack([np.frombuffer(photo.fingerprint.grey, np.uint8).reshape(64, 64) for photo in both])
    # By place, since the two ids may be any.
    table = table_from_photos(enumerate(both))
    pairs = find_candidates(table, lambda places: greys[places], replace(settings, neighbours=False))
    return [replace(pair, left=both[pair.left].id, right=both[pair.right].id) for pair in pairs]


def _same_bytes_words(photo: Photo) -> str:
    damage = f"; both are damaged: {photo.info.damage}" if photo.info.damage else ""
    return f"the same file: A and B are equal byte for byte{damage}"


def _words(match: Match | None, other_way: Match | None) -> str:
    """The verdict in a sentence that names A and B."""
    if match is None:
        return "different pictures: B is not a copy or an edited version of A"
    told, first, second = match, "A", "B"
    if other_way is not None and other_way.relation is match.relation:
        told, first, second = other_way, "B", "A"
    kinds = {change.kind for change in told.changes}
    clauses = [change.words for change in told.changes if change.kind not in ("metadata", "resized")]
    size = [change.words for change in told.changes if change.kind == "resized"]
    lost = [change.words for change in told.changes if change.kind == "metadata"]
    copy = f"{second} is {first}" + (f" at {size[0]}" if size else "")
    if told.relation is Relation.SAME_PIXELS:
        words = "the same pixels: " + (
            ", ".join([copy, *clauses]) if clauses else "A and B differ in metadata or container only"
        )
    elif told.relation is Relation.SAME_PICTURE:
        words = "the same picture: " + (
            ", ".join([copy, *clauses])
            if kinds - {"metadata"}
            else "A and B differ by no more than a save explains"
        )
    elif told.relation is Relation.EDITED:
        rest = ", ".join([*clauses, *size]) or "something changed"
        words = f"an edited version: {second} is {first}, {rest}"
    else:
        words = "the same scene, another moment: neither is a copy of the other"
    return "; ".join([words, *(f"{second} has {item}" for item in lost)])


class _Worker:
    """Everything beyond the verdict."""

    def __init__(self, job: _Job, left: Photo, right: Photo, loader: Loader) -> None:
        self.job = job
        self.left = left
        self.right = right
        self.loader = loader

    def finish(self, relation: str, match: Match | None, verdict: str) -> Comparison:
        asked = self.job.asked
        same = relation in {kind.value for kind in Relation if kind.is_safe}
        if asked.strict and relation != Relation.SAME_BYTES:
            same = False
            verdict += "; not the same bytes, which is what --strict asks for"
        if asked.screenshot and same and relation != Relation.SAME_BYTES:
            why = self._screenshot_fault()
            if why:
                same, verdict = False, f"{verdict}; as screenshots they differ: {why}"
        measures: tuple[Measure, ...] = ()
        done: tuple[str, ...] = ()
        png = b""
        if asked.names or asked.draw:
            placing = _placing(match)
            layers = self._layers()
            frames = self._prepared(layers, placing)
            done = frames.done
            measures = tuple(self._measures(frames))
            if asked.draw:
                png = self._draw(frames, layers, placing)
        hurdles: tuple[Hurdle, ...] = ()
        if asked.explain:
            from dedup.pipeline.explaining import explain

            hurdles = explain(self.left, self.right, match, self.loader, self.job.settings)
        damage = [
            f"{name} is damaged: {why}"
            for name, photo in (("A", self.left), ("B", self.right))
            if (why := self.loader.damage.get(photo.id) or photo.info.damage)
        ]
        if relation != Relation.SAME_BYTES:
            verdict = "; ".join([verdict, *damage])
        return Comparison(self.left, self.right, relation, verdict, same, match, measures, done, hurdles, png)

    def _layers(self) -> tuple[Layer, Layer]:
        from dedup.compare.files import as_layer

        a = self.loader.load(self.left)
        b = self.loader.load(self.right, keep=self.left.id)
        return as_layer(a.full, b.full), as_layer(b.full, a.full)

    def _prepared(self, layers: tuple[Layer, Layer], placing: Placing | None) -> Frames:
        from dedup.compare.frames import prepare

        return prepare(*layers, self.job.asked.preparation, placing)

    def _screenshot_fault(self) -> str:
        from dedup.compare.frames import prepare
        from dedup.compare.levels import Sums
        from dedup.records import Preparation

        frames = prepare(*self._layers(), Preparation(), None)
        if frames.trouble:
            return "their sizes differ"
        worst = Sums(frames, SCREENSHOT_TILE_PX)
        if worst.worst_tile <= SCREENSHOT_LEVELS:
            return ""
        x, y, *_ = worst.worst_tile_px
        return f"by {worst.worst_tile:.0f} levels in a tile of {SCREENSHOT_TILE_PX} px at ({x}, {y})"

    def _draw(self, frames: Frames, layers: tuple[Layer, Layer], placing: Placing | None) -> bytes:
        from dedup.compare.drawing import draw_difference
        from dedup.compare.frames import prepare

        if frames.trouble:
            # A drawing needs one frame: aligned where a place was found, else at one size.
            preparation = replace(self.job.asked.preparation, align=placing is not None, resize=True)
            frames = prepare(*layers, preparation, placing)
        names = tuple(os.path.basename(photo.file.path) for photo in (self.left, self.right))
        return draw_difference(frames, (names[0], names[1]))

    # --- measures -------------------------------------------------------------------------------------------------

    def _measures(self, frames: Frames) -> list[Measure]:
        from dedup.compare import KINDS, as_measure, measure_frames

        names = self.job.asked.names
        found = {measure.name: measure for measure in measure_frames(frames, names)}
        for name in names:
            if KINDS[name].family == "files":
                found[name] = as_measure(name, self._of_files(name, frames))
        if any(KINDS[name].family == "features" for name in names):
            for name, answer in self._features(frames).items():
                if name in names:
                    found[name] = as_measure(name, answer)
        return [found[name] for name in names]

    def _of_files(self, name: str, frames: Frames) -> Answer:
        from dedup.compare import files

        if name == "digest":
            return files.digest(self.left, self.right)
        if name == "bytes":
            with open(self.left.file.path, "rb") as one, open(self.right.file.path, "rb") as other:
                count, first = files.differing_bytes(one, other)
            return (
                count,
                {"first": first, "a": self.left.file.size_bytes, "b": self.right.file.size_bytes},
                "",
            )
        if name == "shape":
            return files.shape(self.left.info, self.right.info)
        if name == "shot":
            return files.shot(self.left.info.metadata, self.right.info.metadata)
        if name == "canonical":
            if frames.trouble:
                return None, {}, frames.trouble
            return files.canonical(frames.a, frames.b)
        a = self.loader.load(self.left).full
        b = self.loader.load(self.right, keep=self.left.id).full
        return files.same_pixels(a, b) if name == "same-pixels" else files.resave(a, b)

    def _features(self, frames: Frames) -> dict[str, Answer]:
        """What a scan looks at; taken from the pictures as they were prepared, but for the scan's own fingerprints."""
        from dedup.compare.kinds import KINDS
        from dedup.fingerprint import HASH_KINDS, hash_distances
        from dedup.index import feature_vectors, table_from_photos
        from dedup.settings import LOW_TEXTURE_LEVELS

        names = self.job.asked.names
        found: dict[str, Answer] = {}
        a, b = (_as_bytes(picture) for picture in (frames.a, frames.b))
        wanted = [name for name in names if name in HASH_KINDS]
        note = ""
        if min(photo.fingerprint.texture for photo in (self.left, self.right)) < LOW_TEXTURE_LEVELS:
            note = "a picture with so little texture has a hash that means little"
        for name, (distance, bits) in hash_distances(a, b, wanted).items():
            if name == "crop-hash":
                text = note or ("" if distance is not None else "no segment of one is like one of the other")
                found[name] = distance, {"segments": bits}, text
            else:
                share = None if distance is None else distance / bits
                text = (
                    note
                    if distance is not None
                    else "a picture is too small: the hashes have different lengths"
                )
                found[name] = distance, {"bits": bits, "share": share}, text
        prints = [photo.fingerprint for photo in (self.left, self.right)]
        words = [int.from_bytes(fingerprint.phash256[:32], "big") for fingerprint in prints]
        found["phash256"] = (words[0] ^ words[1]).bit_count(), {"bits": 256}, note
        table = table_from_photos([(photo.id, photo) for photo in (self.left, self.right)])
        vectors = feature_vectors(table, np.arange(2)).astype(np.float64)
        equal = np.array_equal(vectors[0], vectors[1])
        found["vector"] = 0.0 if equal else max(0.0, 1 - float(vectors[0] @ vectors[1])), {}, note
        roots = [np.frombuffer(fingerprint.histogram, np.uint8).astype(np.float64) for fingerprint in prints]
        roots = [root / max(float(np.linalg.norm(root)), 1e-9) for root in roots]
        gap = float(np.linalg.norm(roots[0] - roots[1])) / 2**0.5
        found["colours"] = gap, {}, ""
        assert set(found) <= set(KINDS)
        return found


def _placing(match: Match | None) -> Placing | None:
    """Where B lies in A's frame; None where nothing was found."""
    if match is None:
        return None
    from dedup.compare.frames import Placing

    return Placing(match.figures.orientation + 1, np.array(match.figures.alignment).reshape(2, 3))


def _as_bytes(picture: NDArray[Any]) -> NDArray[np.uint8]:
    colours = picture[..., :3] if picture.shape[2] >= 3 else np.repeat(picture[..., :1], 3, axis=2)
    if colours.dtype != np.uint8:
        colours = np.rint(np.clip(colours, 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(colours)
