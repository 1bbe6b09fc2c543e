"""The records of finding: from a file to the groups of a report, in the order a photo meets them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Relation(StrEnum):
    """How two pictures relate; the strongest one that can be proven holds. Declared strongest first."""

    SAME_BYTES = "same-bytes"
    SAME_PIXELS = "same-pixels"
    SAME_PICTURE = "same-picture"
    EDITED = "edited"
    SIMILAR = "similar"

    @property
    def is_safe(self) -> bool:
        """Whether a duplicate of this relation may be removed in bulk."""
        return self in (Relation.SAME_BYTES, Relation.SAME_PIXELS, Relation.SAME_PICTURE)


class Reason(StrEnum):
    """Why a file was not examined."""

    NOT_A_PHOTO = "not a photo"
    EXCLUDED = "excluded"
    SYMLINK = "symlink"
    SPECIAL_FILE = "special file"
    EMPTY = "empty"
    OTHER_FILE_SYSTEM = "other file system"
    ALIAS = "another path to the same"
    MISSING_EXTRA = "missing extra"
    UNREADABLE = "unreadable"
    DAMAGED = "damaged"
    TOO_LARGE = "too large"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    CHANGED = "changed while it was read"

    @property
    def is_trouble(self) -> bool:
        """Whether a person should know: such a file makes a run end with exit code 3."""
        return self in (
            Reason.UNREADABLE,
            Reason.DAMAGED,
            Reason.TOO_LARGE,
            Reason.TIMEOUT,
            Reason.CRASHED,
            Reason.CHANGED,
        )


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A file on disk as it was when we last looked at it."""

    path: str
    """Absolute path as Python text; undecodable bytes are kept as surrogate escapes, so
    `os.fsencode(path)` is the exact name. Text rather than `Path`: a rescan of 100,000 unchanged
    files may cost three `stat` calls each, and building a `Path` costs as much as one."""
    size_bytes: int
    mtime_ns: int
    """`st_mtime_ns`, unrounded; compared for equality, never for order."""
    ctime_ns: int
    device: int
    inode: int
    """With `device`, tells two paths from two files, within one run."""
    link_count: int

    @property
    def path_bytes(self) -> bytes:
        """The exact name on disk."""
        return os.fsencode(self.path)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not examined, where that was decided, and why."""

    path: str
    stage: Literal["crawl", "decode", "fingerprint", "confirm"]
    reason: Reason
    detail: str = ""
    """One clause a photographer can follow, e.g. `install photo-dedup[raw]`; may be empty."""
    size_bytes: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says about its picture, in text a person reads; empty text means the file does not say."""

    capture_time: str = ""
    """ISO 8601 local time with sub-seconds where given, e.g. `2019-07-04T12:41:07.25`."""
    gps: str = ""
    """`latitude, longitude` in decimal degrees, five decimals."""
    camera: str = ""
    software: str = ""
    rating: str = ""
    keywords: tuple[str, ...] = ()
    caption: str = ""
    content_identifier: str = ""
    """Apple's ContentIdentifier, which ties the halves of a Live Photo."""
    exif_tags: int = 0
    """Number of EXIF tags in the file: a plain measure of how rich its metadata is."""


@dataclass(frozen=True, slots=True)
class PictureInfo:
    """What the header and the decoder say about a picture."""

    format: str
    """Pillow's name: JPEG, PNG, HEIF ..."""
    width_px: int
    height_px: int
    """Upright size, after orientation."""
    mode: str
    """Pillow's mode of the stored samples: RGB, L, I;16, CMYK ..."""
    bits: int
    """Bits per sample of the stored picture: 1, 8, 10, 12, 16 or 32."""
    frames: int
    has_alpha: bool
    orientation: int
    """EXIF orientation as stored, 1 to 8; already applied to the pixels."""
    icc_digest: str
    """Hex digest (16 digits) of the embedded ICC profile, empty without one."""
    icc_name: str
    quality: int
    """JPEG quality 1 to 100 as libjpeg's tables would give it (nearest fit), 0 if not a JPEG."""
    lossless: bool
    """Whether the container stores the pixels without loss."""
    damage: str
    """What is wrong with the file, in a clause; empty for a sound picture."""
    metadata: Metadata

    @property
    def pixels(self) -> int:
        """Number of pixels of the first frame."""
        return self.width_px * self.height_px


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Perceptual hashes and features of one picture, all taken from one reduced upright RGB copy.

    Orientation index `o` (0 to 7) is EXIF orientation minus one: 0 as is, 1 mirrored left-right,
    2 turned 180, 3 mirrored top-bottom, 4 transposed, 5 turned 90 clockwise, 6 transversed,
    7 turned 90 counter-clockwise - the operation that `ImageOps.exif_transpose` would apply.
    """

    recipe: str
    phash64: bytes
    """8 orientations x 8 bytes, each `imagehash.phash(hash_size=8)` packed big-endian, row by row."""
    phash256: bytes
    """8 orientations x 32 bytes, `imagehash.phash(hash_size=16)`."""
    dhash64: bytes
    """8 bytes, `imagehash.dhash(hash_size=8)`, orientation 0 only."""
    histogram: bytes
    """Colour histogram, uint8 per bin (bins documented in `fingerprint`)."""
    texture: float
    """Standard deviation of the mid frequencies of the reduced picture, in levels; below
    `settings.LOW_TEXTURE_LEVELS` a hash says little."""
    grey: bytes
    """64 x 64 uint8 luma, squashed to a square (the input of `phash256`)."""
    colour: bytes
    """8 x 8 x 3 uint8 mean RGB of a grid of cells."""
    trim: tuple[float, float, float, float]
    """Window (x0, y0, x1, y1) in fractions left when uniform borders are removed; (0, 0, 1, 1) if none."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture that was read, decoded and fingerprinted."""

    id: int
    """Catalogue id, never reused; 0 for a photo that is not in a catalogue (yet)."""
    file: PhotoFile
    digest: bytes
    """sha256 of the whole file, 32 bytes."""
    info: PictureInfo
    fingerprint: Fingerprint


class Source(StrEnum):
    """Which search proposed a candidate pair. Declared in the order in which one wins over another."""

    BYTES = "same bytes"
    HASH = "hash radius"
    WINDOW = "window"
    FLAT = "colour of flat pictures"
    NEIGHBOUR = "annoy neighbour"
    DERIVED = "through the group"


@dataclass(frozen=True, slots=True)
class CandidatePair:
    """Two photos that may be alike, with the hypothesis under which they looked alike. Not evidence.

    `left < right` (catalogue ids). The hypothesis: take `right`, apply orientation `orientation`
    (see `Fingerprint`), and the window `right_window` of the result shows what the window `left_window` of
    `left` shows.
    """

    left: int
    right: int
    source: Source
    distance_bits: int
    """Hamming distance of the 64-bit hashes under the hypothesis; 64 where no hash was used."""
    orientation: int = 0
    left_window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    right_window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was done to a picture, as measured on a pair."""

    kind: str
    """resized, recompressed, cropped, border, tilted, mirrored, turned, brightness, contrast, gamma, colour,
    saturation, greyscale, blurred, sharpened, noise, overlay, retouched, profile, metadata, vignette, frames, alpha."""
    words: str
    """The clause for the sentence, e.g. `saved again at about quality 75`."""
    amount: float = 0.0
    """In the unit of the kind (ratio, degrees, levels, share of the area); see `confirm`."""
    box: tuple[float, float, float, float] | None = None
    """Where, as fractions of the left picture; None for everywhere."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The measurements behind a match. Levels are on the 0-255 scale, per channel."""

    phash64_bits: int
    phash256_bits: int
    rms_levels: float
    """Full-pixel RMS over all channels, at the coarser picture's full size, after alignment; 0.0 for equal
    pixels; -1.0 where the pixels were not compared (same bytes)."""
    worst_tile_levels: float
    """Largest mean difference (Euclidean in RGB) of an 8 px tile, of the picture at most 1,024 px; -1.0 as above."""
    worst_tile_box: tuple[float, float, float, float] | None
    correlation: float
    """Correlation of structure over the overlap, -1 to 1."""
    size_ratio: float
    """Side length of the right picture over the left one's, for the same content."""
    orientation: int
    alignment: tuple[float, float, float, float, float, float]
    """Affine map (a, b, c, d, e, f): left fraction (x, y) shows right fraction
    (a x + b y + c, d x + e y + f) of the right picture once `orientation` was applied to it; (1,0,0,0,1,0) for the
    same frame."""
    compared_px: tuple[int, int]
    """Width and height at which the pixels were compared; (0, 0) for same bytes."""


@dataclass(frozen=True, slots=True)
class Match:
    """A measured pair: `left` against `right`, with relation, reasons and figures.

    The sentence reads from `left` to `right`: what `right` is, seen from `left`.
    """

    left: int
    right: int
    relation: Relation
    sentence: str
    """In words a photographer uses: `the same picture, half the size, saved again at about quality 75`."""
    changes: tuple[Change, ...]
    figures: Figures
    source: Source
    direction: Literal["left-first", "right-first", "unknown"]
    """Which came first, where the evidence allows to say so."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a full decode found about one photo, beyond what the fast one could see."""

    photo_id: int
    damage: str
    """As `PictureInfo.damage`, after a strict decode."""
    effective_scale: float
    """Share of the stored side length that carries detail: 1.0 for a native picture, 0.5 for one enlarged twofold."""


@dataclass(frozen=True, slots=True)
class Member:
    """A photo in a group, confirmed against the keeper itself."""

    photo: Photo
    match: Match
    """Keeper against this photo; the keeper is on the left in the sentence."""
    unit_files: tuple[str, ...]
    """Sidecars, RAW partners and Live Photo halves that go where it goes."""
    copy_of: int | None
    """For an `edited` member: id of another member of which it is a confirmed copy."""
    copy_match: Match | None
    also_link_of: bool
    """Whether it already shares its inode with the keeper, so that nothing is gained."""


@dataclass(frozen=True, slots=True)
class AlsoLike:
    """A photo that matched a member or the keeper but does not belong to the group."""

    photo_id: int
    path: str
    relation: Relation
    sentence: str
    why: str
    """Why it is not a member, e.g. `not confirmed against the keeper`."""


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """A keeper and the photos that were confirmed against it. Members in order of path bytes."""

    id: str
    """First 12 hex digits of a digest over the sorted content digests of the group: the same photos, the same id."""
    keeper: Photo
    keeper_reasons: tuple[str, ...]
    """Sentences of the rules that decided, strongest first."""
    keeper_unit_files: tuple[str, ...]
    members: tuple[Member, ...]
    also_like: tuple[AlsoLike, ...]
    freed_bytes: int
    """Bytes that come back when the safe members go, hard links counted once."""


@dataclass(frozen=True, slots=True)
class SimilarPair:
    """Two photos of the same scene that are not copies: shown if asked, never acted on."""

    left: Photo
    right: Photo
    match: Match


@dataclass(frozen=True, slots=True)
class GroupingResult:
    """Groups as far as the matches go, and what still has to be measured to finish them."""

    groups: tuple[DuplicateGroup, ...]
    """In order of the keepers' path bytes."""
    similar: tuple[SimilarPair, ...]
    hubs: tuple[str, ...]
    wanted: tuple[CandidatePair, ...]
    """Pairs whose measurement could change the groups; each has its keeper at `wanted_keepers` (same place)."""
    wanted_keepers: tuple[int, ...]
    """Photo ids: which one of the wanted pair must be on the left of the match."""


@dataclass(frozen=True, slots=True)
class IndexQuality:
    """How well the approximate index did, measured on a sample of this run."""

    exact_pairs: int
    """Pairs within the hash radius, found exactly."""
    neighbour_pairs: int
    """Further pairs that only annoy proposed."""
    sampled_pairs: int
    found_pairs: int
    """Of the sampled exact pairs, those that annoy finds too."""
    fallback: str
    """Why annoy was not used; empty when it was."""

    @property
    def recall(self) -> float:
        """Share of the sampled exact pairs that annoy finds; 1.0 when none were sampled."""
        return self.found_pairs / self.sampled_pairs if self.sampled_pairs else 1.0


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """What one scan did, in numbers."""

    roots: tuple[str, ...]
    files: int
    photos: int
    read: int
    """Photos decoded in this run; the rest were unchanged."""
    candidates: int
    confirmed: int
    """Pairs measured in this run."""
    seconds: float
    index: IndexQuality
    version: str
    recipe: str
    finished: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a report adds up to, for those who do not want to load it."""

    groups: tuple[tuple[Relation, int, int], ...]
    """Strongest relation of a group, number of such groups, bytes that come back when their safe members go."""
    similar: int
    hubs: int
    not_examined: tuple[tuple[Reason, str, str, int], ...]
    """Reason, extension and remedy (for missing extras, else empty), number of files; in the order of `Reason`."""


@dataclass(frozen=True, slots=True)
class ScanOutcome:
    """The end of a scan in numbers."""

    summary: ScanSummary
    tally: Tally


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report shows."""

    summary: ScanSummary
    groups: tuple[DuplicateGroup, ...]
    similar: tuple[SimilarPair, ...]
    skipped: tuple[Skipped, ...]
    hubs: tuple[str, ...]
    """Paths of photos that resemble so many others that they were split off."""
