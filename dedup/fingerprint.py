"""Pixels to `Fingerprint`: perceptual hashes, colour histogram and the small pictures the index works with.

Promises: every feature comes from one decode and one reduction; the hashes are, bit for bit, what
`imagehash` gives for that reduced picture and its seven turned and mirrored versions; a file that changes
while it is read, or cannot be read, is a `Skipped` and never half a result.
Does not: compare pictures or decide anything. Two equal hashes say little on a picture without texture, and
`Fingerprint.texture` says so.

The reduced picture is 64 x 64 RGB, squashed (`reduce_picture`). Everything but the borders is taken
from it, so a recipe fits in one line, and hashes can be checked later against the stored grey.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
import sys
from collections.abc import Callable, Collection
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from typing import Any

import imagehash
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from dedup import decode
from dedup.records import Fingerprint, Photo, PhotoFile, Reason, Skipped
from dedup.settings import MAX_PIXELS

MIN_SIDE_PX = 128
"""Shorter side asked of the decoder, twice the reduced picture's: at 64 a tenth more hashes move, at 256 a 2
MP JPEG costs a fifth more, for half a bit (346 JPEGs)."""

REDUCED_PX = 64
"""Side of the reduced picture: what `imagehash.phash(hash_size=16)` needs, no more."""

RECIPE = (
    f"phash64+phash256+dhash64 of rgb{REDUCED_PX} lanczos gap 1.5, hsv64, trim 1; "
    f"min side {MIN_SIDE_PX}; {decode.DECODE_RECIPE}; "
    f"Pillow {PIL.__version__}, imagehash {imagehash.__version__}"
)
"""What a fingerprint was made with. Another recipe makes a stored fingerprint stale."""

MAX_HELD_BYTES = 256 << 20
"""Files up to this size are read once, whole; a larger one (a TIFF scan, a panorama) is streamed through
sha256 and opened again by the decoder from the same descriptor."""

Pixels = NDArray[np.uint8]
Window = tuple[float, float, float, float]

WHOLE: Window = (0.0, 0.0, 1.0, 1.0)

# ---- files -------------------------------------------------------------------------------------------------


def fingerprint_photo(file: PhotoFile, max_pixels: int = MAX_PIXELS) -> Photo | Skipped:
    """Read, digest, decode and fingerprint one file.

    Parameters
    ----------
    file
        As the crawl saw it. If the disk has anything else now, before or after reading, the result is
        `Skipped(CHANGED)`: a digest of one state is never joined to the pixels of another.
    max_pixels
        A picture of more is `Skipped(TOO_LARGE)`.

    Returns
    -------
    Photo or Skipped
        `Photo.id` is 0: the catalogue gives ids.
    """
    try:
        descriptor = os.open(file.path_bytes, _OPEN_FLAGS)
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        return _skipped(file, Reason.CHANGED if gone else Reason.UNREADABLE, error.strerror or str(error))
    try:
        if not _is_the_file(os.fstat(descriptor), file):
            return _skipped(file, Reason.CHANGED, "another file than the one that was listed")
        digest, picture = _read_and_decode(descriptor, file, max_pixels)
        if not _is_the_file(os.fstat(descriptor), file):
            return _skipped(file, Reason.CHANGED, "written to while it was read")
    except decode.BadPicture as error:
        # What the decoder refuses it will refuse again; what the disk refuses may pass.
        return Skipped(file.path, "decode", error.reason, error.detail, file.size_bytes, file.mtime_ns)
    except OSError as error:
        return _skipped(file, Reason.UNREADABLE, error.strerror or str(error))
    finally:
        os.close(descriptor)
    return Photo(0, file, digest, picture.info, fingerprint_pixels(picture.rgb))


# A FIFO or a link put in the place of a photo since it was listed must neither stall a worker nor lead it
# elsewhere.
_OPEN_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)


def _read_and_decode(descriptor: int, file: PhotoFile, max_pixels: int) -> tuple[bytes, decode.Picture]:
    if file.size_bytes <= MAX_HELD_BYTES:
        content = _read_whole(descriptor, file.size_bytes)
        picture = decode.read_reduced(content, file.path, MIN_SIDE_PX, max_pixels=max_pixels)
        return hashlib.sha256(content).digest(), picture
    with open(descriptor, "rb", closefd=False) as handle:
        digest = hashlib.file_digest(handle, "sha256").digest()
        handle.seek(0)
        return digest, decode.read_reduced(handle, file.path, MIN_SIDE_PX, max_pixels=max_pixels)


def _skipped(file: PhotoFile, reason: Reason, detail: str) -> Skipped:
    return Skipped(file.path, "fingerprint", reason, detail, file.size_bytes, file.mtime_ns)


def _is_the_file(status: os.stat_result, file: PhotoFile) -> bool:
    found = (status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)
    return stat.S_ISREG(status.st_mode) and found == (file.size_bytes, file.mtime_ns, file.device, file.inode)


def _read_whole(descriptor: int, size_bytes: int) -> bytes:
    """Everything, in one call where the system gives it in one: a buffered reader copies each megabyte once
    more."""
    content = os.read(descriptor, size_bytes + 1)
    while more := os.read(descriptor, 1 << 20) if len(content) <= size_bytes else b"":
        content += more
    return content


# ---- pictures ----------------------------------------------------------------------------------------------


def fingerprint_picture(picture: decode.Picture) -> Fingerprint:
    """All features of a decoded picture; see `fingerprint_pixels`."""
    return fingerprint_pixels(picture.rgb)


def fingerprint_pixels(rgb: Pixels) -> Fingerprint:
    """All features of an upright picture.

    Parameters
    ----------
    rgb : (height, width, 3) uint8
        sRGB, transparency already shown on white, any size from 1 x 1; the shorter side at least
        `MIN_SIDE_PX` where the file has that many.

    Notes
    -----
    About 1 ms on one core for 500 x 375 pixels.
    """
    reduced = reduce_picture(rgb)
    small = np.asarray(reduced)
    grey_image = reduced.convert("L")
    phash64, phash256, texture = _perceptual_hashes(grey_image)
    return Fingerprint(
        recipe=RECIPE,
        phash64=phash64,
        phash256=phash256,
        dhash64=np.packbits(imagehash.dhash(grey_image, 8).hash).tobytes(),
        histogram=colour_histogram(small).tobytes(),
        texture=texture,
        grey=np.asarray(grey_image).tobytes(),
        colour=_colour_grid(small).tobytes(),
        trim=find_trim(rgb),
    )


def reduce_picture(rgb: Pixels) -> Image.Image:
    """The 64 x 64 picture that all hashes are taken from.

    Parameters
    ----------
    rgb : (height, width, 3) uint8

    Returns
    -------
    PIL image, mode RGB
        Squashed to a square, as every pHash does; smaller pictures are enlarged.

    Notes
    -----
    Lanczos as in imagehash, after box reduction to no less than 1.5 times the size: 0.28 ms instead of 1.3
    for 500 x 375 pixels, and no further from imagehash on the full picture (60 photos: 0.4 of 64 bits on
    average, against 0.5).
    """
    return Image.fromarray(rgb).resize((REDUCED_PX, REDUCED_PX), Image.Resampling.LANCZOS, reducing_gap=1.5)


# ---- hashes ------------------------------------------------------------------------------------------------


def _perceptual_hashes(grey: Image.Image) -> tuple[bytes, bytes, float]:
    """pHash of 64 and of 256 bits in all eight orientations, and the texture.

    Same bits as `imagehash.phash` on `grey` transposed in each of the eight ways, at a fifth of the price:
    one call of the DCT for all eight, two reductions to 32 px instead of eight (Lanczos by a whole factor
    commutes with mirroring, but not with transposing, because Pillow rounds to bytes between its two passes).
    """
    turned = grey.transpose(Image.Transpose.TRANSPOSE)
    half = (REDUCED_PX // 2, REDUCED_PX // 2)
    wide = _low_frequencies(_eight_orientations(np.asarray(grey), np.asarray(turned)), 16)
    narrow = _low_frequencies(
        _eight_orientations(
            np.asarray(grey.resize(half, Image.Resampling.LANCZOS)),
            np.asarray(turned.resize(half, Image.Resampling.LANCZOS)),
        ),
        8,
    )
    return _above_median(narrow), _above_median(wide), _texture_levels(wide[0])


def _eight_orientations(upright: Pixels, transposed: Pixels) -> Pixels:
    """(8, n, n): the picture under each EXIF orientation, in the order of `Fingerprint`."""
    stack = np.empty((8, *upright.shape), dtype=np.uint8)
    stack[0], stack[1], stack[2], stack[3] = upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1]
    stack[4], stack[5] = transposed, transposed[:, ::-1]
    stack[6], stack[7] = transposed[::-1, ::-1], transposed[::-1]
    return stack


def _low_frequencies(pictures: Pixels, size: int) -> NDArray[np.float64]:
    """(k, size, size): DCT-II without normalisation, columns first as in imagehash.

    SciPy's FFT on whole columns and rows, not a product with a cosine matrix: on flat pictures coefficients
    that should be equal differ in the last bit, and which one is above the median is then decided by
    rounding.
    """
    dct = _dct()
    columns = dct(pictures.astype(np.float64), 1)[:, :size]
    return np.asarray(dct(columns, 2)[:, :, :size])


@lru_cache(maxsize=1)
def _dct() -> Callable[[NDArray[np.float64], int], NDArray[np.float64]]:
    """SciPy's DCT-II without normalisation, along one axis.

    `scipy.fft` imports half of SciPy, and NumPy's own tests, around it: 0.12 s, of the 0.3 in which `dedup check` is
    to answer. The compiled module behind it does not need them, and is taken by itself where it still is where it was
    and still does what it did; the bits are the same, since the code is.
    """
    found = find_spec("scipy")
    where = "" if found is None or found.origin is None else os.path.dirname(found.origin)
    for suffix in EXTENSION_SUFFIXES:
        path = os.path.join(where, "fft", "_pocketfft", f"pypocketfft{suffix}")
        if "scipy.fft" in sys.modules or not os.path.exists(path):
            continue
        with contextlib.suppress(ImportError, AttributeError, TypeError, ValueError):
            spec = spec_from_file_location("pypocketfft", path)
            assert spec is not None
            assert spec.loader is not None
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            transform = module.dct
            if transform(np.array([[1.0, 2.0], [4.0, 8.0]]), 2, (1,), 0).round(9).tolist() == _DCT_PROOF:
                return lambda pictures, axis: np.asarray(transform(pictures, 2, (axis,), 0))
    from scipy import fft

    return lambda pictures, axis: np.asarray(fft.dct(pictures, axis=axis))


_DCT_PROOF = [[6.0, -1.414213562], [24.0, -5.656854249]]
"""The sums twice, and the differences times the square root of two."""


def _above_median(coefficients: NDArray[np.float64]) -> bytes:
    """Pack `coefficient > median`, orientation by orientation, row by row, first bit highest."""
    flat = coefficients.reshape(len(coefficients), -1)
    return np.packbits(flat > np.median(flat, axis=1, keepdims=True), axis=1).tobytes()


def _texture_levels(coefficients: NDArray[np.float64]) -> float:
    """Standard deviation (levels) of what lies on no axis of the low 16 x 16 frequencies.

    49 of 64 hash bits are taken from coefficients that vary both ways. A sky, a wall or any gradient
    straight across has none of that, whatever its contrast, and its bits are decided by noise.
    """
    both_ways = coefficients[1:, 1:] / (2.0 * REDUCED_PX)
    return float(np.sqrt(np.square(both_ways).sum())) / REDUCED_PX


HASH_KINDS = (
    "ahash",
    "phash",
    "phash-simple",
    "dhash",
    "dhash-vertical",
    "whash",
    "whash-db4",
    "colorhash",
    "crop-hash",
)
"""Every kind of hash that imagehash has."""


def hash_distances(
    a: Pixels, b: Pixels, kinds: Collection[str] = HASH_KINDS
) -> dict[str, tuple[float | None, int]]:
    """How far two pictures are apart for imagehash's own hashes of them.

    Parameters
    ----------
    a, b : (height, width, 3) uint8
        Any sizes.
    kinds
        Of `HASH_KINDS`.

    Returns
    -------
    dict
        Kind to distance in bits and length of the hash in bits; None for a distance of wavelet hashes that are of
        different lengths, as those of pictures under 64 px may be. For `crop-hash`, which has a hash for each segment,
        the sum of the distances of the segments that find a like one, or None if none does, and the number of
        segments that find one.
    """
    functions: dict[str, Callable[[Image.Image], Any]] = {
        "ahash": imagehash.average_hash,
        "phash": imagehash.phash,
        "phash-simple": imagehash.phash_simple,
        "dhash": imagehash.dhash,
        "dhash-vertical": imagehash.dhash_vertical,
        "whash": imagehash.whash,
        "whash-db4": lambda image: imagehash.whash(image, mode="db4"),
        "colorhash": imagehash.colorhash,
        "crop-hash": imagehash.crop_resistant_hash,
    }
    images = [Image.fromarray(pixels) for pixels in (a, b)]
    found: dict[str, tuple[float | None, int]] = {}
    for kind in (kind for kind in HASH_KINDS if kind in kinds):
        first, second = (functions[kind](image) for image in images)
        if kind == "crop-hash":
            segments, distance = first.hash_diff(second)
            found[kind] = (float(distance) if segments else None, int(segments))
        elif first.hash.shape != second.hash.shape:
            found[kind] = (None, int(first.hash.size))
        else:
            found[kind] = (float(first - second), int(first.hash.size))
    return found


# ---- colour ------------------------------------------------------------------------------------------------

HISTOGRAM_BINS = 64
"""See `colour_bin`."""

GREY_BINS = 10
HUE_BINS = 9
_SATURATION_EDGES = (0.12, 0.35, 0.65)
_DARK = 0.16


def colour_bin(rgb: Pixels) -> NDArray[np.uint8]:
    """The histogram bin of each colour; every colour has exactly one.

    Parameters
    ----------
    rgb : (..., 3) uint8

    Returns
    -------
    (...) uint8
        With value V = max / 255, chroma C = (max - min) / 255, saturation S = C / V and hue H in turns [0,
        1) as in HSV:

        - 0 to 9, greys: C < 0.12, or S < 0.12, or V < 0.16. By V, in ten equal parts; white goes to the
          tenth.
        - 10 to 63, colours: 10 + 6 * hue + 2 * saturation + brightness, with
          `hue` = floor(9 H + 0.5) mod 9: nine sectors of 40 degrees, the first centred on red, so the circle
          closes inside a bin (a red that leans to violet and one that leans to orange stay together);
          `saturation` = 0 below 0.35, 1 below 0.65, else 2;
          `brightness` = 0 below V = 0.55, else 1.

    Notes
    -----
    `imagehash.colorhash` has other bins: it takes blue for black and has a gap at a saturation of 170 (of
    255). Greys are told by chroma too, because the hue of a dark grey is noise.
    """
    channels = rgb.astype(np.float64) / 255.0
    red, green, blue = channels[..., 0], channels[..., 1], channels[..., 2]
    value = channels.max(axis=-1)
    chroma = value - channels.min(axis=-1)
    span = np.where(chroma > 0, chroma, 1.0)
    hue = np.where(
        value == red,
        (green - blue) / span,
        np.where(value == green, 2.0 + (blue - red) / span, 4.0 + (red - green) / span),
    )
    sector = np.floor(hue / 6.0 % 1.0 * HUE_BINS + 0.5) % HUE_BINS
    saturation = chroma / np.where(value > 0, value, 1.0)
    low, middle, high = _SATURATION_EDGES
    strength = (saturation >= middle).astype(np.int64) + (saturation >= high)
    colour = GREY_BINS + 6 * sector + 2 * strength + (value >= 0.55)
    grey = np.minimum(np.floor(value * GREY_BINS), GREY_BINS - 1)
    is_grey = (chroma < low) | (saturation < low) | (value < _DARK)
    bins: NDArray[np.uint8] = np.where(is_grey, grey, colour).astype(np.uint8)
    return bins


@lru_cache(maxsize=1)
def _bin_table() -> NDArray[np.uint8]:
    """Bin of each colour with six bits a channel, taken at the middle of its cell of four levels."""
    steps = (np.arange(64, dtype=np.uint8) << 2) + 2
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    return colour_bin(cube).reshape(-1)


def colour_histogram(rgb: Pixels) -> NDArray[np.uint8]:
    """Colour histogram, as square roots.

    Parameters
    ----------
    rgb : (height, width, 3) uint8

    Returns
    -------
    (HISTOGRAM_BINS,) uint8
        round(255 * sqrt(share of the pixels in the bin)). The root turns the Euclidean distance of two
        histograms into Hellinger's, to which a large plain sky is worth no more than it should be.
    """
    cells = (rgb >> 2).astype(np.uint8, copy=False)
    if next(_binned) < FEW_PICTURES:
        bins = colour_bin(((cells << 2) + 2).astype(np.uint8, copy=False))
    else:
        index = (cells[..., 0].astype(np.int32) << 12) | (cells[..., 1].astype(np.int32) << 6) | cells[..., 2]
        bins = _bin_table()[index]
    counts = np.bincount(bins.reshape(-1), minlength=HISTOGRAM_BINS)
    return np.rint(255.0 * np.sqrt(counts / bins.size)).astype(np.uint8)


FEW_PICTURES = 40
"""The table costs as much as so many pictures without it, 40 ms: more than a `dedup check` of one picture may wait."""
_binned = itertools.count()


def _colour_grid(rgb: Pixels) -> Pixels:
    """(8, 8, 3) uint8: mean colour of each 8 x 8 block of the reduced picture."""
    blocks = rgb.reshape(8, 8, 8, 8, 3).sum(axis=(1, 3), dtype=np.uint32)
    grid: Pixels = ((blocks + 32) >> 6).astype(np.uint8)
    return grid


# ---- borders -----------------------------------------------------------------------------------------------

_NEAR_LEVELS = 14
"""How far a pixel of a bar may be from the bar's colour: JPEG at quality 70 rings by up to 12 beside an
edge."""
_FIRST_LINE_SHARE = 0.9
"""Share of the outermost line that must be of one colour for a border to be looked for at all."""
_BAR_LINE_SHARE = 0.7
"""Share of a further line: the status bar of a phone holds a clock, a battery and four icons on up to 25 %
of a line."""
_LINE_SAMPLES = 96
"""Pixels looked at in a line, at least, where it has as many."""
_MOST = 0.35
"""Longest border on one side, as a share of the picture."""
_LEAST_LEFT = 0.4
"""A picture of which less than this remains, in width or height, is all border: not trimmed."""


def find_trim(rgb: Pixels) -> Window:
    """The window that remains when borders of one colour are taken off.

    Parameters
    ----------
    rgb : (height, width, 3) uint8

    Returns
    -------
    (x0, y0, x1, y1)
        In fractions; `(0, 0, 1, 1)` without a border, and where nearly everything is of one colour.

    Notes
    -----
    Each side has its own colour. A bar may hold signs (a clock, buttons): a line belongs to it as long as 70
    % of its pixels have the bar's colour. Photos with an even sky lose some of it: the window is one more
    guess for the index, beside the whole picture, and a copy with a border loses the same sky.
    """
    height, width = rgb.shape[:2]
    top = _bar_lines(rgb)
    bottom = _bar_lines(rgb[::-1])
    if top + bottom > (1.0 - _LEAST_LEFT) * height:
        return WHOLE
    middle = rgb[top : height - bottom].transpose(1, 0, 2)
    left = _bar_lines(middle)
    right = _bar_lines(middle[::-1])
    if left + right > (1.0 - _LEAST_LEFT) * width:
        return WHOLE
    return (left / width, top / height, (width - right) / width, (height - bottom) / height)


def _bar_lines(lines: Pixels) -> int:
    """How many lines from the first on belong to a bar. Most photos are told by their first line alone, in
    20 us."""
    lines = lines[:, :: max(1, lines.shape[1] // _LINE_SAMPLES)]
    first = lines[0]
    colour = np.partition(first, len(first) // 2, axis=0)[len(first) // 2].astype(np.int16)
    if _near_share(lines[:1], colour)[0] < _FIRST_LINE_SHARE:
        return 0
    most = max(1, int(len(lines) * _MOST))
    for at in range(0, most, 16):
        outside = np.flatnonzero(_near_share(lines[at : min(at + 16, most)], colour) < _BAR_LINE_SHARE)
        if len(outside):
            return at + int(outside[0])
    return most


def _near_share(lines: Pixels, colour: NDArray[np.int16]) -> NDArray[np.float64]:
    """Share of each line's pixels that have the colour, within `_NEAR_LEVELS` in every channel."""
    return np.asarray((np.abs(lines - colour) <= _NEAR_LEVELS).all(axis=2).mean(axis=1))
