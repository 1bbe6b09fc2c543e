"""One picture for the review page: a photo at some size, another one laid into its frame, or where the two differ.

Promises: only pixels that were decoded here leave, encoded anew - whatever else a file holds does not; the file is
opened step by step below its root without following a link, and only if it still is the one that was scanned; what
cannot be shown comes back with the reason in words. Runs in a worker. Does not: measure or decide anything.
"""

from __future__ import annotations

import io
import math
import os
import stat
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image, ImageOps

from dedup import decode
from dedup.records import PhotoFile
from dedup.report.pictures import MARGIN_PX, Comparison, as_stored, draw_difference

JPEG_QUALITY = 86
"""Of what is shown. Below 80 a person sees blocks when zooming in, and takes them for the photo's own."""
_DIFFERENCE_PX = 1200
"""Longer side at which difference pictures are drawn: beyond it they take a second, and show nothing new."""


class Look(StrEnum):
    """What is to be seen."""

    PHOTO = "photo"
    ALIGNED = "aligned"
    """The right photo, turned and laid into the frame of the left one: what both show lies at the same place."""
    DIFFERENCE = "difference"


@dataclass(frozen=True, slots=True)
class View:
    """A photo to be opened."""

    file: PhotoFile
    root: bytes
    """The folder that was scanned, in which the file lies."""
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class SightJob:
    """What to draw."""

    look: Look
    left: View
    right: View | None
    comparison: Comparison | None
    side_px: int
    """Longer side at most."""
    max_pixels: int

    @property
    def path(self) -> str:
        """What it is called in messages."""
        return (self.right or self.left).file.path


@dataclass(frozen=True, slots=True)
class DrawnSight:
    """A JPEG or WebP file, or why there is none."""

    content: bytes
    media: str = ""
    changed: bool = False
    """The file is not the one that was scanned."""
    why: str = ""


class _Unseen(Exception):
    """Why there is nothing to show."""

    def __init__(self, why: str, changed: bool = False) -> None:
        super().__init__(why)
        self.drawn = DrawnSight(b"", changed=changed, why=why)


def open_below(root: bytes, path: bytes) -> int:
    """A descriptor of a regular file, reached from its root without following any link.

    Raises
    ------
    OSError
        If it is not there, a link stands on the way, or it is no regular file.
    """
    if not path.startswith(root.rstrip(b"/") + b"/"):
        raise FileNotFoundError("outside its root")
    parts = path[len(root.rstrip(b"/")) + 1 :].split(b"/")
    if any(part in (b"", b".", b"..") for part in parts):
        raise FileNotFoundError("no plain path")
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = inner
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError("no regular file")
    return descriptor


def is_as_scanned(file: PhotoFile, root: bytes) -> bool:
    """Whether the file is still there, with the size and time that it had."""
    try:
        descriptor = open_below(root, file.path_bytes)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return (found.st_size, found.st_mtime_ns) == (file.size_bytes, file.mtime_ns)


def draw_sight(job: SightJob) -> DrawnSight:
    """Draw one picture; runs in a worker."""
    try:
        if job.look is Look.PHOTO or job.right is None or job.comparison is None:
            return _encoded(*_look(job.left, job.side_px, job.max_pixels), job.side_px)
        side_px = min(job.side_px, _DIFFERENCE_PX) if job.look is Look.DIFFERENCE else job.side_px
        left, _ = _look(job.left, side_px, job.max_pixels)
        right, alpha = _look(job.right, side_px, job.max_pixels)
        if job.look is Look.ALIGNED:
            return _encoded(*_laid_in(left.size, right, alpha, job.comparison), side_px)
        drawn = draw_difference(left, right, job.comparison, side_px)
    except _Unseen as unseen:
        return unseen.drawn
    if drawn is None:
        return DrawnSight(b"", why="the two cannot be laid over each other")
    return _encoded(drawn, None, side_px)


def _look(view: View, side_px: int, max_pixels: int) -> tuple[Image.Image, Image.Image | None]:
    """The photo and its alpha, at least as large as asked unless it is smaller itself."""
    try:
        descriptor = open_below(view.root, view.file.path_bytes)
    except OSError as error:
        raise _Unseen("the file is not there any more", changed=True) from error
    longer, shorter = max(view.width_px, view.height_px), min(view.width_px, view.height_px)
    least_px = max(MARGIN_PX, math.ceil(side_px * shorter / max(longer, 1)))
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if (found.st_size, found.st_mtime_ns) != (view.file.size_bytes, view.file.mtime_ns):
            raise _Unseen("the file has changed since the scan", changed=True)
        try:
            picture = decode.read_reduced(stream, view.file.path, least_px, max_pixels=max_pixels)
        except decode.BadPicture as bad:
            raise _Unseen(bad.detail or bad.reason.value) from bad
        except OSError as error:
            raise _Unseen(f"it cannot be read ({error.strerror or error})") from error
    if picture.alpha is None:
        return _fitted(Image.fromarray(picture.rgb), side_px), None
    # The decoder shows transparency on white; the page has a ground of its own, so take the white out again.
    alpha = picture.alpha.astype(np.float32)[..., None]
    colours = 255.0 - (255.0 - picture.rgb) * 255.0 / np.maximum(alpha, 1.0)
    image = Image.fromarray(colours.clip(0, 255).round().astype(np.uint8))
    return _fitted(image, side_px), _fitted(Image.fromarray(picture.alpha), side_px)


def _fitted(image: Image.Image, side_px: int) -> Image.Image:
    scale = side_px / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _laid_in(
    size: tuple[int, int], right: Image.Image, alpha: Image.Image | None, comparison: Comparison
) -> tuple[Image.Image, Image.Image]:
    """The right photo in the frame of the left one; clear where it shows nothing."""
    a, b, c, d, e, f = comparison.alignment
    if abs(a * e - b * d) < 1e-6:
        raise _Unseen("the two cannot be laid over each other")
    covering = Image.new("L", right.size, 255) if alpha is None else alpha
    right = ImageOps.exif_transpose(as_stored(right, comparison.orientation))
    covering = ImageOps.exif_transpose(as_stored(covering, comparison.orientation))
    w, h = size
    # A transform does not average what it skips: come down to the scale of the frame first.
    fine = (
        min(right.width, max(8, round(w / max(math.hypot(a, d), 1e-6)))),
        min(right.height, max(8, round(h / max(math.hypot(b, e), 1e-6)))),
    )
    right = right.resize(fine, Image.Resampling.LANCZOS, reducing_gap=3.0)
    covering = covering.resize(fine, Image.Resampling.BOX)
    u, v = fine
    data = (a * u / w, b * u / h, c * u, d * v / w, e * v / h, f * v)
    how = Image.Transform.AFFINE
    return (
        right.transform(size, how, data, resample=Image.Resampling.BICUBIC),
        covering.transform(size, how, data, resample=Image.Resampling.BILINEAR),
    )


def _encoded(image: Image.Image, alpha: Image.Image | None, side_px: int) -> DrawnSight:
    out = io.BytesIO()
    image = _fitted(image, side_px)
    if alpha is None or alpha.getextrema()[0] == 255:
        image.save(out, "JPEG", quality=JPEG_QUALITY)
        return DrawnSight(out.getvalue(), "image/jpeg")
    image.putalpha(_fitted(alpha, side_px))
    image.save(out, "WEBP", quality=JPEG_QUALITY, method=1)
    return DrawnSight(out.getvalue(), "image/webp")
