"""Pictures held for confirmation: decoded in full once, with the reductions that registration asks for.

Promises: a file is opened without following links, and is the file that was scanned; memory stays within a budget.
Does not: keep anything between jobs.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from functools import cached_property

import numpy as np
from PIL import Image

from dedup.confirm.evidence import turn
from dedup.confirm.pixels import Pixels
from dedup.decode import BadPicture, FullPicture, read_full
from dedup.records import Photo, PhotoFile, Reason, Skipped
from dedup.settings import MAX_PIXELS

BUDGET_BYTES = 360_000_000
"""Decoded pictures held at once, beside the two being compared: within the 1 GiB of a worker, a dozen of 12 MP."""
REGISTERED_PX = 512


class Loaded:
    """One picture, decoded in full."""

    def __init__(self, photo: Photo, full: FullPicture) -> None:
        self.photo = photo
        self.full = full

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        return self.full.rgb.shape[1], self.full.rgb.shape[0]

    @cached_property
    def small(self) -> Image.Image:
        """Upright RGB, at most 512 px."""
        return _shrink(self.full.rgb)

    @cached_property
    def small_stored(self) -> Image.Image | None:
        """As `small`, of the samples as stored, without colour management; None where that is the same or makes no
        picture."""
        samples = self.full.samples
        if samples.dtype != np.uint8 or self.full.meaning != "RGB" or samples is self.full.rgb:
            return None
        return _shrink(samples.astype(np.uint8, copy=False))

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        return int(
            self.full.rgb.nbytes + (0 if self.full.samples is self.full.rgb else self.full.samples.nbytes)
        )


def grey64(photo: Photo, orientation: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The squashed grey of a photo, (64, 64) float32, under an EXIF orientation (1 to 8)."""
    stored: Pixels = np.frombuffer(photo.fingerprint.grey, np.uint8).reshape(64, 64)
    return np.ascontiguousarray(turn(stored, orientation)).astype(np.float32)


def _shrink(pixels: Pixels) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    longer = max(image.size)
    if longer > 4 * REGISTERED_PX:
        image = image.reduce(longer // (2 * REGISTERED_PX))
    scale = REGISTERED_PX / max(image.size)
    if scale >= 1:
        return image
    size = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    return image.resize(size, Image.Resampling.HAMMING)


class CannotLoad(Exception):
    """A photo that could not be decoded in full; carries its `Skipped`."""

    def __init__(self, skipped: Skipped) -> None:
        super().__init__(skipped.detail)
        self.skipped = skipped


class Loader:
    """Decodes photos in full, each one once while the budget lasts."""

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        self._max_pixels = max_pixels
        self._held: OrderedDict[int, Loaded] = OrderedDict()
        self.failed: dict[int, Skipped] = {}
        self.damage: dict[int, str] = {}

    def load(self, photo: Photo, keep: int = 0) -> Loaded:
        """The decoded photo; `keep` is the id of another that must stay in memory.

        Raises
        ------
        CannotLoad
            If the file is gone, changed or does not decode; asked again, it says so at once.
        """
        if photo.id in self.failed:
            raise CannotLoad(self.failed[photo.id])
        if photo.id in self._held:
            self._held.move_to_end(photo.id)
            return self._held[photo.id]
        try:
            loaded = Loaded(photo, read_photo(photo.file, self._max_pixels))
        except BadPicture as error:
            skipped = Skipped(
                photo.file.path,
                "confirm",
                error.reason,
                error.detail,
                photo.file.size_bytes,
                photo.file.mtime_ns,
            )
            self.failed[photo.id] = skipped
            raise CannotLoad(skipped) from error
        self.damage[photo.id] = loaded.full.info.damage
        self._held[photo.id] = loaded
        total = sum(item.bytes for item in self._held.values())
        for other in list(self._held):
            if total <= BUDGET_BYTES:
                break
            if other not in (photo.id, keep):
                total -= self._held.pop(other).bytes
        return loaded


def read_photo(file: PhotoFile, max_pixels: int = MAX_PIXELS) -> FullPicture:
    """Decode a file in full, if it still is the one that was scanned.

    Raises
    ------
    BadPicture
        If it is gone, changed, or gives no picture.
    """
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadPicture(Reason.UNREADABLE, error.strerror or "cannot be opened") from error
    found = os.fstat(descriptor)
    # A folder has a size and a time like any file, but no stream can be made of it.
    is_same = (found.st_size, found.st_mtime_ns) == (file.size_bytes, file.mtime_ns)
    if not (is_same and stat.S_ISREG(found.st_mode)):
        os.close(descriptor)
        raise BadPicture(Reason.CHANGED, "changed since it was fingerprinted; scan again")
    with os.fdopen(descriptor, "rb") as stream:
        try:
            return read_full(stream, file.path, max_pixels=max_pixels)
        except OSError as error:
            raise BadPicture(Reason.UNREADABLE, error.strerror or "cannot be read") from error
