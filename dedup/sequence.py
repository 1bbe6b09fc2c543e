"""Frames of a still camera, a burst, or screenshots of a run: what changes, what breaks, what repeats.

    >>> from dedup.sequence import examine_sequence
    >>> report = examine_sequence("/home/me/frames")  # doctest: +SKIP
    >>> [step.path for step in report.corrupt]  # doctest: +SKIP

Consecutive frames are compared by the symmetric Kullback-Leibler distance of their luma histograms; beyond 0.2 the
change is sudden (J. Courbon et al., 2010). A frame that is unlike the one before it and the one after it, while these
two are alike, is corrupt. Where the scene stays, each frame is held against the mean and two sigma of all others.

Promises: frames are decoded in workers; a frame counts as a repeated one only after a look at full pixels, and only a
safe relation makes it one that a plan may drop. Does not: write or change anything.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dedup.compare.background import LEAST_FRAMES, Background, Foreign, are_odd
from dedup.compare.histograms import Counts, distances, luma_counts
from dedup.errors import UsageError
from dedup.records import (
    CandidatePair,
    DuplicateGroup,
    Figures,
    FramesAsked,
    Match,
    Member,
    Motion,
    Photo,
    PhotoFile,
    Reason,
    Relation,
    SequenceReport,
    Skipped,
    Source,
    Step,
)
from dedup.settings import MAX_PIXELS, Settings

if TYPE_CHECKING:
    from dedup.confirm.loading import Loader
    from dedup.engine import Engine

Progress = Callable[[str, int, int | None], None]
Rgb = NDArray[np.uint8]

SIDE_PX = 240
"""Shorter side, at least, at which frames are looked at; a changed place of 1 % of the side is two pixels."""
BUDGET_BYTES = 400_000_000
"""All frames at that size together; a longer series is looked at smaller."""
DISTANCES = ("kl", "js", "chi2", "emd")
RUN_FRAMES = 48
"""Frames of which each is held at full pixels against the one it may repeat, as one piece of work. The first of the
next piece stays in any case."""
LONGEST_BREAK = 2
"""So many frames in a row may be broken; more that are unlike what is around them are a scene of their own."""
LIKE_LEVELS = 6.0
"""Largest mean difference of an 8 px cell at the small size up to which two frames are looked at in full."""
STILL_LEVELS = 2.5
"""Largest mean difference of an 8 px cell at full size that counts as none, beside what noise explains."""
MOST_DRAWN = 10
_WHOLE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def examine_sequence(
    folder: str,
    asked: FramesAsked | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> SequenceReport:
    """Look at the frames in a folder; folders below it are other sequences.

    Parameters
    ----------
    progress
        Called with the stages `hash` (frames read), `confirm` (frames held against the one they repeat), `motion`.

    Raises
    ------
    UsageError
        If there is no such folder, or fewer than two frames in it.
    """
    return _Examination(
        folder, asked or FramesAsked(), settings or Settings(), progress or _say_nothing
    ).run()


def drop_groups(report: SequenceReport) -> list[DuplicateGroup]:
    """The repeated frames that are proven copies, each group around the first of them, for a plan."""
    photos = {step.path: step.photo for step in report.steps if step.photo is not None}
    members: dict[str, list[Member]] = {}
    for step in report.steps:
        if step.repeats and step.match is not None and step.match.relation.is_safe and step.photo is not None:
            member = Member(step.photo, step.match, (), None, None, also_link_of=False)
            members.setdefault(step.repeats, []).append(member)
    found = []
    for kept, repeated in members.items():
        keeper = photos[kept]
        digests = sorted([keeper.digest, *(member.photo.digest for member in repeated)])
        found.append(
            DuplicateGroup(
                id=hashlib.sha256(b"".join(digests)).hexdigest()[:12],
                keeper=keeper,
                keeper_reasons=("it is the first of the frames in which nothing changed",),
                keeper_unit_files=(),
                members=tuple(sorted(repeated, key=lambda member: member.photo.file.path_bytes)),
                also_like=(),
                freed_bytes=sum(member.photo.file.size_bytes for member in repeated),
            )
        )
    return found


def _say_nothing(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody wants to see."""


# ---- in workers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _FrameJob:
    path: str
    file: PhotoFile
    side_px: int
    max_pixels: int


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A frame as it is looked at."""

    photo: Photo
    small: Rgb
    counts: Counts


def _read_frame(job: _FrameJob) -> _Seen | Skipped:
    from dedup.compare.frames import to_luma
    from dedup.decode import BadPicture, read_reduced
    from dedup.fingerprint import fingerprint_photo

    photo = fingerprint_photo(job.file, job.max_pixels)
    if isinstance(photo, Skipped):
        return photo
    try:
        with open(job.file.path, "rb") as stream:
            small = read_reduced(stream, job.path, job.side_px, max_pixels=job.max_pixels).rgb
    except BadPicture as error:
        return Skipped(job.path, "decode", error.reason, error.detail)
    except OSError as error:
        return Skipped(job.path, "decode", Reason.UNREADABLE, error.strerror or "cannot be read")
    counts = luma_counts(to_luma(small))
    return _Seen(photo, np.ascontiguousarray(small), counts)


@dataclass(frozen=True, slots=True)
class _RunJob:
    path: str
    photos: tuple[Photo, ...]
    max_pixels: int = MAX_PIXELS


_Repeat = tuple[int, int, Match | None]
"""Id of a frame, id of the one it repeats, and the relation if it is a copy."""


def _find_repeats(job: _RunJob) -> list[_Repeat]:
    """Each frame of a run against the last one that stays."""
    from dedup.confirm.loading import CannotLoad, Loader
    from dedup.confirm.pair import PairMeasurer

    loader = Loader(job.max_pixels)
    measurer = PairMeasurer(loader)
    found: list[_Repeat] = []
    kept = job.photos[0]
    for photo in job.photos[1:]:
        if photo.digest == kept.digest:
            found.append((photo.id, kept.id, _same_bytes(kept, photo)))
            continue
        low, high = sorted((kept.id, photo.id))
        try:
            match = measurer.measure(kept, photo, [CandidatePair(low, high, Source.DERIVED, 64)])
            damaged = loader.damage.get(kept.id) or loader.damage.get(photo.id)
            if damaged:
                kept = photo
            elif match is not None and match.relation.is_safe:
                found.append((photo.id, kept.id, match))
            elif _is_still(loader, kept, photo):
                found.append((photo.id, kept.id, None))
            else:
                kept = photo
        except CannotLoad:
            kept = photo if photo.id not in loader.failed else kept
    return found


def _same_bytes(kept: Photo, photo: Photo) -> Match:
    figures = Figures(0, 0, 0.0, 0.0, None, 1.0, 1.0, 0, _WHOLE, (0, 0))
    return Match(
        kept.id, photo.id, Relation.SAME_BYTES, "the same bytes", (), figures, Source.BYTES, "unknown"
    )


def _is_still(loader: Loader, kept: Photo, photo: Photo) -> bool:
    """Whether nothing but noise differs: no 8 px cell of the full pictures moved beyond what the noise explains."""
    from dedup.compare.frames import noise_sigma, to_luma

    a, b = (loader.load(item, keep=kept.id).full.rgb for item in (kept, photo))
    if a.shape != b.shape:
        return False
    first, second = to_luma(a), to_luma(b)
    noise = max(noise_sigma(first), noise_sigma(second))
    # The mean of 64 pixels of noise varies by an eighth of it, a difference by the root of two more; of a million
    # cells the furthest is five sigma out.
    return _cell_gap(first, second) <= STILL_LEVELS + 5 * noise * 2**0.5 / 8


def _cell_gap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Largest difference of the means of 8 px cells; what does not fill a cell at the edges counts as one."""
    gap = first - second
    down, right = np.arange(0, gap.shape[0], 8), np.arange(0, gap.shape[1], 8)
    sums = np.add.reduceat(np.add.reduceat(gap, down, axis=0), right, axis=1)
    tall = np.diff(np.append(down, gap.shape[0]))[:, None]
    wide = np.diff(np.append(right, gap.shape[1]))[None, :]
    return float(np.abs(sums / (tall * wide)).max(initial=0.0))


@dataclass(frozen=True, slots=True, eq=False)
class _MotionJob:
    path: str
    place: int
    first: Rgb
    second: Rgb


def _find_motion(job: _MotionJob) -> Motion:
    from dedup.compare.frames import to_luma
    from dedup.compare.motion import follow, summarise

    return summarise(*follow(to_luma(job.first), to_luma(job.second)))


# ---- the examination -----------------------------------------------------------------------------------------------


class _Examination:
    def __init__(self, folder: str, asked: FramesAsked, settings: Settings, progress: Progress) -> None:
        self.folder = os.path.abspath(os.path.expanduser(folder))
        self.asked = asked
        self.settings = settings
        self.progress = progress
        self.skipped: list[Skipped] = []

    def run(self) -> SequenceReport:
        from dedup.engine import Limits, open_engine

        files = self._find_files()
        settings = self.settings
        limits = Limits(settings.memory_limit_bytes, settings.decode_timeout_s, settings.decode_timeout_s)
        with open_engine(settings.jobs, limits) as engine:
            frames = self._read(engine, files)
            if sum(seen is not None for _, seen, _ in frames) < 2:
                raise UsageError(f"{self.folder}: a sequence needs two frames that can be read")
            frames = self._in_order(frames)
            steps = self._first_look(frames)
            seen = [seen for _, seen, _ in frames]
            scenes = _scenes(steps)
            steps, png = self._hold_against_background(steps, seen, scenes)
            steps = self._note_repeats(engine, steps, seen)
            if self.asked.motion:
                steps = self._note_motion(engine, steps, seen)
        return SequenceReport(
            folder=self.folder,
            steps=tuple(steps),
            threshold=self.asked.threshold,
            calibration=_calibrate(steps, self.asked.threshold),
            skipped=tuple(self.skipped),
            background_png=png,
        )

    def _find_files(self) -> list[PhotoFile | Skipped]:
        """Frames, and what has the name of one and cannot be looked at."""
        from dedup.crawl import find_photos

        if not os.path.isdir(self.folder):
            raise UsageError(f"{self.folder}: there is no such folder; name the one that holds the frames")
        below = 0
        files: list[PhotoFile | Skipped] = []
        for found in find_photos([self.folder], self.settings, lambda *_: ""):
            path = found.path
            if os.path.dirname(path) != self.folder:
                below += isinstance(found, PhotoFile)
            elif isinstance(found, PhotoFile) or found.reason.is_trouble or found.reason is Reason.EMPTY:
                files.append(found)
        if sum(isinstance(found, PhotoFile) for found in files) < 2:
            hint = (
                f"; {below} photos lie in folders below it, each of which is a sequence of its own"
                if below
                else ""
            )
            raise UsageError(f"{self.folder}: a sequence needs two frames or more{hint}")
        return files

    def _read(
        self, engine: Engine, files: Sequence[PhotoFile | Skipped]
    ) -> list[tuple[str, _Seen | None, str]]:
        """Path, what was seen, and why nothing was."""
        from dedup.engine import Failure

        photos = [file for file in files if isinstance(file, PhotoFile)]
        side = SIDE_PX
        # A frame at the small size has at most 2 x 2 times the least area, and is seldom wider than 16 : 9.
        while side > 60 and len(photos) * side * side * 3 * 16 / 9 * 2 > BUDGET_BYTES:
            side = side * 3 // 4
        jobs = [_FrameJob(file.path, file, side, self.settings.max_pixels) for file in photos]
        found: list[tuple[str, _Seen | None, str]] = []
        for done, (job, answer) in enumerate(engine.map(_read_frame, jobs), start=1):
            self.progress("hash", done, len(jobs))
            if isinstance(answer, _Seen):
                found.append((job.path, answer, answer.photo.info.damage))
            else:
                stage = answer.reason
                why = f"{stage}: {answer.detail}" if answer.detail else str(stage)
                found.append((job.path, None, why))
                self.skipped.append(
                    Skipped(job.path, "decode", answer.reason, answer.detail)
                    if isinstance(answer, Failure)
                    else answer
                )
        for file in files:
            if isinstance(file, Skipped):
                found.append(
                    (file.path, None, f"{file.reason}: {file.detail}" if file.detail else file.reason)
                )
                self.skipped.append(file)
        return found

    def _in_order(self, frames: list[tuple[str, _Seen | None, str]]) -> list[tuple[str, _Seen | None, str]]:
        def by_name(frame: tuple[str, _Seen | None, str]) -> tuple[object, ...]:
            return natural_key(os.path.basename(frame[0]))

        def by_time(frame: tuple[str, _Seen | None, str]) -> tuple[object, ...]:
            seen = frame[1]
            captured = seen.photo.info.metadata.capture_time if seen is not None else ""
            changed = seen.photo.file.mtime_ns if seen is not None else 0
            return (captured, changed, by_name(frame))

        ordered = sorted(frames, key=by_time if self.asked.order == "time" else by_name)
        # Ids for this run, in order, so that pairs have one.
        return [
            (path, None if seen is None else replace_id(seen, place), why)
            for place, (path, seen, why) in enumerate(ordered, start=1)
        ]

    # --- histograms -----------------------------------------------------------------------------------------------

    def _first_look(self, frames: Sequence[tuple[str, _Seen | None, str]]) -> list[Step]:
        """Distances, sudden changes and broken frames."""
        threshold = self.asked.threshold
        sound = [place for place, (_, seen, damage) in enumerate(frames) if seen is not None and not damage]
        counts = {place: frames[place][1].counts for place in sound}  # type: ignore[union-attr]
        corrupt = {place: why for place, (_, seen, why) in enumerate(frames) if why or seen is None}
        last: int | None = None
        found: dict[int, dict[str, float]] = {}
        changed: set[int] = set()
        for at, place in enumerate(sound):
            if last is None:
                last = place
                continue
            found[place] = distances(counts[last], counts[place])
            if found[place]["kl"] <= threshold:
                last = place
                continue
            back = next(
                (
                    other
                    for other in sound[at + 1 : at + 1 + LONGEST_BREAK]
                    if distances(counts[last], counts[other])["kl"] <= threshold
                    and distances(counts[place], counts[other])["kl"] > threshold
                ),
                None,
            )
            if back is None:
                changed.add(place)
                last = place
            else:
                corrupt[place] = "alone: unlike the frames before and after it, which are like each other"
        return [
            Step(
                path=path,
                photo=None if seen is None else seen.photo,
                distance=found[place]["kl"] if place in found else None,
                others=tuple(found[place].items())[1:] if place in found else (),
                changed=place in changed,
                corrupt=corrupt.get(place, ""),
                foreign_share=0.0,
                foreign_box=None,
                is_odd=False,
                repeats="",
                match=None,
                motion=None,
            )
            for place, (path, seen, _) in enumerate(frames)
        ]

    # --- background -----------------------------------------------------------------------------------------------

    def _hold_against_background(
        self, steps: list[Step], seen: Sequence[_Seen | None], scenes: Sequence[Sequence[int]]
    ) -> tuple[list[Step], bytes]:
        steps = list(steps)
        drawn: tuple[Background, list[tuple[str, Rgb, NDArray[np.bool_]]]] | None = None
        for scene in scenes:
            pictures = _of_one_size(scene, seen)
            if len(pictures) < LEAST_FRAMES:
                continue
            background = Background(list(pictures.values()))
            foreign: dict[int, Foreign] = {
                place: background.foreign(picture) for place, picture in pictures.items()
            }
            odd = are_odd([found.share for found in foreign.values()])
            shown = []
            for (place, found), is_odd in zip(foreign.items(), odd, strict=True):
                steps[place] = replace(
                    steps[place], foreign_share=found.share, foreign_box=found.box, is_odd=is_odd
                )
                if is_odd:
                    name = os.path.basename(steps[place].path)
                    shown.append((f"{name}: {100 * found.share:.2g} % foreign", pictures[place], found.mask))
            # The longest scene is drawn, or the one with the most to show.
            if drawn is None or (len(shown), background.count) > (len(drawn[1]), drawn[0].count):
                drawn = (background, shown)
        if drawn is None or not self.asked.draw:
            return steps, b""
        from dedup.compare.drawing import draw_background

        background, shown = drawn
        sigma = np.clip(2 * background.sigma() * 4, 0, 255).astype(np.uint8)
        mean = np.rint(background.mean()).astype(np.uint8)
        return steps, draw_background(mean, sigma, shown[:MOST_DRAWN])

    # --- repeats and motion ---------------------------------------------------------------------------------------

    def _note_repeats(self, engine: Engine, steps: list[Step], seen: Sequence[_Seen | None]) -> list[Step]:
        from dedup.engine import Failure

        runs = list(_still_runs(steps, seen))
        total = sum(len(run) - 1 for run in runs)
        jobs = [
            _RunJob(
                steps[run[0]].path,
                tuple(seen[place].photo for place in run),  # type: ignore[union-attr]
                self.settings.max_pixels,
            )
            for run in runs
        ]
        steps, done = list(steps), 0
        for job, answer in engine.map(_find_repeats, jobs, patience=lambda job: 1.0 + len(job.photos)):
            done += len(job.photos) - 1
            self.progress("confirm", done, total)
            if isinstance(answer, Failure):
                self.skipped.append(Skipped(job.path, "confirm", answer.reason, answer.detail))
                continue
            for number, kept, match in answer:
                steps[number - 1] = replace(steps[number - 1], repeats=steps[kept - 1].path, match=match)
        return steps

    def _note_motion(self, engine: Engine, steps: list[Step], seen: Sequence[_Seen | None]) -> list[Step]:
        from dedup.engine import Failure

        jobs = []
        sound = [place for place, step in enumerate(steps) if not step.corrupt]
        for before, place in pairwise(sound):
            first, second = seen[before], seen[place]
            if first is None or second is None or steps[place].changed:
                continue
            if first.small.shape == second.small.shape:
                jobs.append(_MotionJob(steps[place].path, place, first.small, second.small))
        steps = list(steps)
        for done, (job, answer) in enumerate(engine.map(_find_motion, jobs), start=1):
            self.progress("motion", done, len(jobs))
            if isinstance(answer, Failure):
                continue
            photo = steps[job.place].photo
            assert photo is not None
            scale = photo.info.width_px / job.first.shape[1]
            camera = (answer.camera_px[0] * scale, answer.camera_px[1] * scale)
            steps[job.place] = replace(steps[job.place], motion=replace(answer, camera_px=camera))
        return steps


def natural_key(name: str) -> tuple[object, ...]:
    """Numbers in a name count as numbers: frame2 before frame10; the exact name decides between equals."""
    parts = re.split(r"(\d+)", name.casefold())
    return (
        *((1, int(part), "") if part.isdigit() and part.isascii() else (0, 0, part) for part in parts),
        (0, 0, name),
    )


def replace_id(seen: _Seen, number: int) -> _Seen:
    """The same frame under its number in the sequence."""
    return _Seen(replace(seen.photo, id=number), seen.small, seen.counts)


def _scenes(steps: Sequence[Step]) -> list[list[int]]:
    """Sound frames between sudden changes."""
    found: list[list[int]] = [[]]
    for place, step in enumerate(steps):
        if step.corrupt:
            continue
        if step.changed:
            found.append([])
        found[-1].append(place)
    return [scene for scene in found if scene]


def _of_one_size(scene: Sequence[int], seen: Sequence[_Seen | None]) -> dict[int, Rgb]:
    """The frames of a scene that have the size most of them have."""
    by_size: dict[tuple[int, ...], dict[int, Rgb]] = {}
    for place in scene:
        frame = seen[place]
        if frame is not None:
            by_size.setdefault(frame.small.shape, {})[place] = frame.small
    return max(by_size.values(), key=len) if by_size else {}


def _still_runs(steps: Sequence[Step], seen: Sequence[_Seen | None]) -> Iterator[list[int]]:
    """Runs of sound frames of which each looks like the one before it, `RUN_FRAMES` at most."""
    from dedup.compare.frames import to_luma

    run: list[int] = []
    for place, step in enumerate(steps):
        frame = seen[place]
        if step.corrupt or frame is None:
            continue
        before = seen[run[-1]] if run else None
        is_like = (
            before is not None
            and not step.changed
            and before.small.shape == frame.small.shape
            and before.photo.info.pixels == frame.photo.info.pixels
            and _cell_gap(to_luma(before.small), to_luma(frame.small)) <= LIKE_LEVELS
        )
        if is_like and len(run) < RUN_FRAMES:
            run.append(place)
            continue
        if len(run) > 1:
            yield run
        run = [run[-1], place] if is_like else [place]
    if len(run) > 1:
        yield run


def _calibrate(
    steps: Sequence[Step], threshold: float
) -> tuple[tuple[str, float, float, float, float | None], ...]:
    """See `SequenceReport.calibration`."""
    rows = [{"kl": step.distance, **dict(step.others)} for step in steps if step.distance is not None]
    if not rows:
        return ()
    beyond = sum(row["kl"] > threshold for row in rows)
    found = []
    for name in DISTANCES:
        values = sorted((row[name] for row in rows), reverse=True)
        cut: float | None = None
        if name == "kl":
            cut = threshold
        elif 0 < beyond < len(values):
            cut = (values[beyond - 1] + values[beyond]) / 2
        found.append(
            (name, float(np.median(values)), float(np.percentile(values, 95)), float(values[0]), cut)
        )
    return tuple(found)
