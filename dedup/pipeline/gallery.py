"""Pictures for the review page: drawn by workers with limits, each once, and kept as long as there is room.

Promises: a picture that kills, hangs or balloons a worker costs itself and nothing else; no more than `MOST_WAITING`
wait, and the next one is told so; what is kept is bounded in bytes. Does not: keep anything on the disk.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from dedup.engine import Failure, Limits, open_engine
from dedup.errors import Busy, InternalFault, UsageError
from dedup.pipeline.judging import photos_of
from dedup.records import DuplicateGroup, Photo
from dedup.report.pictures import Comparison, small_places
from dedup.report.sights import DrawnSight, Look, SightJob, View, draw_sight
from dedup.settings import Settings

if TYPE_CHECKING:
    from dedup.pipeline.reviewing import Review

MOST_WAITING = 24
"""Pictures under work or waiting. A page shows about ten at a time, and asks again for those it still wants."""
CACHE_BYTES = 192 << 20
"""About 5,000 thumbnails and 300 large pictures."""


class Gallery:
    """Draws pictures; from any number of threads. Close it, or use it as a context manager."""

    def __init__(self, settings: Settings, cache_bytes: int = CACHE_BYTES) -> None:
        self.max_pixels = settings.max_pixels
        limits = Limits(settings.memory_limit_bytes, settings.decode_timeout_s, settings.decode_timeout_s)
        self._engine = open_engine(settings.jobs, limits)
        # Workers before the program has threads: then they are forked, in 5 ms each.
        for worker in [self._engine.hire() for _ in range(self._engine.jobs)]:
            self._engine.dismiss(worker)
        self._room = threading.BoundedSemaphore(self._engine.jobs)
        self._lock = threading.Lock()
        self._waiting = 0
        self._cache_bytes = cache_bytes
        self._kept: OrderedDict[SightJob, DrawnSight] = OrderedDict()
        self._kept_bytes = 0
        self._under_work: dict[SightJob, threading.Event] = {}

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        self._engine.close()

    @property
    def kept_bytes(self) -> int:
        """Size of all pictures that are kept."""
        return self._kept_bytes

    def draw(self, job: SightJob) -> DrawnSight:
        """The picture, now or when a worker has drawn it.

        Raises
        ------
        Busy
            If too many wait already.
        """
        while True:
            with self._lock:
                kept = self._kept.get(job)
                if kept is not None:
                    self._kept.move_to_end(job)
                    return kept
                other = self._under_work.get(job)
                if other is None:
                    if self._waiting >= MOST_WAITING:
                        raise Busy("too many pictures are waiting; ask again at once")
                    self._waiting += 1
                    mine = self._under_work[job] = threading.Event()
                    break
            other.wait()
        try:
            drawn = self._draw(job)
            self._keep(job, drawn)
            return drawn
        finally:
            with self._lock:
                self._waiting -= 1
                del self._under_work[job]
            mine.set()

    def _draw(self, job: SightJob) -> DrawnSight:
        with self._room:
            try:
                ((_, answer),) = self._engine.map(draw_sight, [job])
            except InternalFault as error:
                # Ours, but one picture must not bring the page down.
                words = str(error).strip().splitlines()[-1][:200]
                return DrawnSight(b"", why=f"a fault in dedup: {words}")
        if isinstance(answer, Failure):
            return DrawnSight(b"", why=answer.detail)
        return answer

    def _keep(self, job: SightJob, drawn: DrawnSight) -> None:
        if drawn.changed or len(drawn.content) > self._cache_bytes:
            return  # a file that was away may come back
        with self._lock:
            self._kept[job] = drawn
            self._kept_bytes += len(drawn.content)
            while self._kept_bytes > self._cache_bytes:
                _, old = self._kept.popitem(last=False)
                self._kept_bytes -= len(old.content)


def sight_job(
    review: Review,
    group: DuplicateGroup,
    look: Look,
    photos: tuple[int, int | None],
    side_px: int,
    max_pixels: int,
) -> SightJob:
    """What to draw of a group.

    Parameters
    ----------
    photos
        The photo that is asked for, and the one it is compared with: one of the two is the keeper that the rules
        chose, since every member was measured against it.

    Raises
    ------
    UsageError
        If they are not in the group, or were not measured against each other.
    """
    known = {photo.id: photo for photo in photos_of(group)}
    wanted, against = photos
    if wanted not in known or (against is not None and against not in known):
        raise UsageError("this photo is not in the group")
    if look is Look.PHOTO:
        return SightJob(look, _view(review, known[wanted]), None, None, side_px, max_pixels)
    member = next((m for m in group.members if m.photo.id == wanted), None)
    if member is None or against != group.keeper.id:
        raise UsageError("these two were not compared with each other; look at them side by side")
    figures = member.match.figures
    comparison = Comparison(0, 1, figures.orientation, figures.alignment, small_places(member.match))
    left, right = _view(review, group.keeper), _view(review, member.photo)
    return SightJob(look, left, right, comparison, side_px, max_pixels)


def _view(review: Review, photo: Photo) -> View:
    root = os.fsencode(review.root_of(photo.file.path))
    return View(photo.file, root, photo.info.width_px, photo.info.height_px)
