"""Thumbnails and difference pictures of the HTML report, drawn in workers.

Promises: a photo that is gone, changed or damaged gives an empty picture, never an error; pictures are small enough
that the report of 5,000 groups opens at once. Does not: measure anything; the difference picture shows where a
measured pair differs, in the frame of the kept photo, under the alignment that `confirm` found.
"""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from dedup import decode
from dedup.records import DuplicateGroup, Figures, Match, Photo, PhotoFile, Relation, Report

BUDGET_BYTES = 40_000_000
"""All pictures of one report together, roughly: a browser reads a local file of 60 MB (as base64) in about a second."""
LARGEST_PX, SMALLEST_PX = 320, 176
"""Longer side of a thumbnail: at 320 a face is recognised on a phone's sharp screen, at 176 still on a plain one."""
BYTES_PER_PIXEL = 0.13
"""Of a WebP at `QUALITY`; mean over 400 photos at 176 to 320 px."""
QUALITY = 60
MOST_PHOTOS = 24
"""Photos of one group that are shown as pictures; the rest are listed by name."""
MOST_SIMILAR = 300
"""Similar pairs that are shown as pictures."""
MARGIN_PX = 16
"""Shorter side of the reduced picture at least, however long a panorama is."""

OVERSIZE = 2
"""Times the thumbnail's size at which photos are decoded: formats shrink differently while they decode (a JPEG by its
cosines, others by means), and what is left of that must not glow as a difference."""
SOFTEN_PX = 0.8
"""Radius by which both are softened before they are compared, for the same reason."""

FAINT_LEVELS, FULL_LEVELS = 6.0, 54.0
"""Differences (levels, mean of the channels) where the difference picture begins to glow and where it glows in full.
Below the first lies what saving again does to a thumbnail."""
SMALL_PLACE = 0.02
"""Share of the area up to which a changed place gets a frame in the difference picture."""
_GLOW = np.array((255.0, 106.0, 43.0))
_OUTSIDE = np.array((74.0, 108.0, 168.0))

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sight:
    """A photo to draw."""

    file: PhotoFile
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sights of a job, by place, and how the right one lies in the left one (see `records.Figures`)."""

    left: int
    right: int
    orientation: int
    alignment: tuple[float, float, float, float, float, float]
    places: tuple[tuple[float, float, float, float], ...] = ()
    """Windows of the left picture (fractions) that are framed, because a small change is easily overlooked."""


@dataclass(frozen=True, slots=True)
class PicturesJob:
    """What to draw for one group or one similar pair; goes to a worker."""

    key: str
    """`g` or `s`, and the place of the group or pair in the report."""
    sights: tuple[Sight, ...]
    comparisons: tuple[Comparison, ...]
    side_px: int


@dataclass(frozen=True, slots=True)
class DrawnPictures:
    """WebP files, in the order of the job; empty where there is nothing to show."""

    key: str
    sights: tuple[bytes, ...]
    comparisons: tuple[bytes, ...]


class GroupSights:
    """Which picture stands for which photo of a group: photos of the same bytes or pixels share one."""

    def __init__(self, group: DuplicateGroup) -> None:
        self.sights: list[Photo] = [group.keeper]
        self.comparisons: list[Match] = []
        self.sight_of: dict[int, int] = {group.keeper.id: 0}
        """Photo id to place among the sights; photos beyond `MOST_PHOTOS` are missing."""
        self.comparison_of: dict[int, int] = {}
        by_digest = {group.keeper.digest: 0}
        for member in group.members:
            photo, match = member.photo, member.match
            if match.relation in (Relation.SAME_BYTES, Relation.SAME_PIXELS) and _is_upright(match.figures):
                self.sight_of[photo.id] = 0
                continue
            place = by_digest.get(photo.digest)
            if place is None:
                if len(self.sights) >= MOST_PHOTOS:
                    continue
                place = by_digest[photo.digest] = len(self.sights)
                self.sights.append(photo)
                self.comparisons.append(match)
            self.sight_of[photo.id] = place
            self.comparison_of[photo.id] = place - 1


def _is_upright(figures: Figures) -> bool:
    return figures.orientation == 0


def plan_pictures(report: Report) -> list[PicturesJob]:
    """Everything that the HTML report shows, group by group, at a size that keeps it within `BUDGET_BYTES`."""
    jobs = []
    for place, group in enumerate(report.groups):
        drawn = GroupSights(group)
        sights = tuple(_sight(photo) for photo in drawn.sights)
        comparisons = tuple(
            Comparison(0, at, match.figures.orientation, match.figures.alignment, small_places(match))
            for at, match in enumerate(drawn.comparisons, 1)
        )
        jobs.append(PicturesJob(f"g{place}", sights, comparisons, 0))
    for place, pair in enumerate(report.similar[:MOST_SIMILAR]):
        jobs.append(PicturesJob(f"s{place}", (_sight(pair.left), _sight(pair.right)), (), 0))
    count = sum(len(job.sights) + len(job.comparisons) / 2 for job in jobs)
    side = math.sqrt(BUDGET_BYTES / max(count, 1) / BYTES_PER_PIXEL / 0.75)
    side_px = round(min(max(side, SMALLEST_PX), LARGEST_PX))
    return [PicturesJob(job.key, job.sights, job.comparisons, side_px) for job in jobs]


def small_places(match: Match) -> tuple[tuple[float, float, float, float], ...]:
    """Where the picture was changed in a small place only."""
    boxes = (change.box for change in match.changes if change.kind in ("overlay", "retouched"))
    return tuple(box for box in boxes if box and (box[2] - box[0]) * (box[3] - box[1]) < SMALL_PLACE)


def _sight(photo: Photo) -> Sight:
    return Sight(photo.file, photo.info.width_px, photo.info.height_px)


def draw_pictures(job: PicturesJob) -> DrawnPictures:
    """Draw one job; runs in a worker.

    Each photo is decoded once, small. A photo that cannot be drawn leaves its own pictures empty.
    """
    seen = [_look(sight, job.side_px) for sight in job.sights]
    comparisons = []
    for comparison in job.comparisons:
        left, right = seen[comparison.left], seen[comparison.right]
        glow = (
            None if left is None or right is None else draw_difference(left, right, comparison, job.side_px)
        )
        comparisons.append(b"" if glow is None else _encoded(glow))
    return DrawnPictures(
        job.key,
        tuple(b"" if image is None else _encoded(_fitted(image, job.side_px)) for image in seen),
        tuple(comparisons),
    )


def _look(sight: Sight, side_px: int) -> Image.Image | None:
    """The photo, small but at least of the thumbnail's size, if the file still is the one that was scanned."""
    flags = (
        os.O_RDONLY
        | getattr(os, "O_NOFOLLOW", 0)
        | getattr(os, "O_NONBLOCK", 0)
        | getattr(os, "O_CLOEXEC", 0)
    )
    try:
        descriptor = os.open(sight.file.path_bytes, flags)
    except OSError:
        return None
    longer, shorter = max(sight.width_px, sight.height_px), min(sight.width_px, sight.height_px)
    min_side_px = max(MARGIN_PX, math.ceil(OVERSIZE * side_px * shorter / max(longer, 1)))
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return None
        if (found.st_size, found.st_mtime_ns) != (sight.file.size_bytes, sight.file.mtime_ns):
            return None
        try:
            return Image.fromarray(decode.read_reduced(stream, sight.file.path, min_side_px).rgb)
        except (decode.BadPicture, OSError):
            return None


def _fitted(image: Image.Image, side_px: int) -> Image.Image:
    scale = side_px / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=2)
    return out.getvalue()


def draw_difference(
    left: Image.Image, right: Image.Image, comparison: Comparison, side_px: int
) -> Image.Image | None:
    """Where two pictures differ: the left one in dim grey, differences glowing, what the right one lacks in blue.

    Returns
    -------
    image
        In the frame of the left picture, RGB; None where the alignment says nothing (a map onto a line).

    Notes
    -----
    The glow is on a fixed scale (`FAINT_LEVELS` to `FULL_LEVELS`), so that two difference pictures can be compared.
    """
    frame = _fitted(left, side_px)
    right = ImageOps.exif_transpose(as_stored(right, comparison.orientation))
    a, b, c, d, e, f = comparison.alignment
    if abs(a * e - b * d) < 1e-6:
        return None
    w, h = frame.size
    # Bring the right one to the scale of the frame first: a transform does not average what it skips.
    fine = (
        min(max(8, round(w / math.hypot(a, d))), 4 * side_px),
        min(max(8, round(h / math.hypot(b, e))), 4 * side_px),
    )
    if right.width < 0.9 * fine[0]:
        # The coarser picture sets the detail that can be compared.
        coarse = (max(4, round(w * right.width / fine[0])), max(4, round(h * right.width / fine[0])))
        frame = frame.resize(coarse, Image.Resampling.LANCZOS).resize((w, h), Image.Resampling.BICUBIC)
        right = right.resize(fine, Image.Resampling.BICUBIC)
    else:
        right = right.resize(fine, Image.Resampling.LANCZOS, reducing_gap=3.0)
    u, v = right.size
    data = (a * u / w, b * u / h, c * u, d * v / w, e * v / h, f * v)
    seen = right.transform((w, h), Image.Transform.AFFINE, data, resample=Image.Resampling.BILINEAR)
    x, y = (np.arange(w) + 0.5) / w, ((np.arange(h) + 0.5) / h)[:, None]
    across, down = a * x + b * y + c, d * x + e * y + f
    covered = (across > 0) & (across < 1) & (down > 0) & (down < 1)
    kept = np.asarray(frame, dtype=np.float32)
    # Softening must not draw what lies outside into what is compared.
    seen = Image.composite(seen, frame, Image.fromarray(covered))
    levels = np.abs(_softened(frame) - _softened(seen)).mean(axis=2)
    glow = np.clip((levels - FAINT_LEVELS) / (FULL_LEVELS - FAINT_LEVELS), 0.0, 1.0)[..., None] ** 0.7
    grey = np.repeat(28.0 + 0.42 * kept.mean(axis=2, keepdims=True), 3, axis=2)
    drawn = np.where(covered[..., None], grey * (1 - glow) + _GLOW * glow, grey * 0.35 + _OUTSIDE * 0.65)
    picture = Image.fromarray(drawn.round().astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in comparison.places:
        pen.rounded_rectangle(
            (x0 * w - 5, y0 * h - 5, x1 * w + 5, y1 * h + 5), 4, outline=(255, 106, 43), width=2
        )
    return picture


def _softened(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.filter(ImageFilter.GaussianBlur(SOFTEN_PX)), dtype=np.float32)


def as_stored(image: Image.Image, orientation: int) -> Image.Image:
    """A picture that `exif_transpose` will turn by an orientation index."""
    copied = image.copy()
    if orientation:
        copied.getexif()[0x0112] = orientation + 1
    return copied


def in_chunks(
    drawn: Iterator[DrawnPictures] | list[DrawnPictures], most_bytes: int
) -> Iterator[list[DrawnPictures]]:
    """Pictures in portions of about `most_bytes`."""
    portion: list[DrawnPictures] = []
    size = 0
    for pictures in drawn:
        portion.append(pictures)
        size += sum(map(len, pictures.sights)) + sum(map(len, pictures.comparisons))
        if size >= most_bytes:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
