"""Every number that decides something, with unit, range, reason and what it was measured on; and the user's settings.

Constants are facts of the method and change only with a recipe or a release note. `Settings` is what a user may choose.
"""

from __future__ import annotations

from dataclasses import dataclass

HASH_RADIUS_BITS = 10
"""Hamming radius (of 64) of the exact join. Re-encoded and resized copies stay within 8 on 332 of 346 photos;
pHash distances are even, so 10 adds the tone edits (brightness, contrast, greyscale) that 8 misses."""

LOW_TEXTURE_LEVELS = 3.0
"""Mid-frequency standard deviation (levels) below which a perceptual hash means little and colour and pixels decide."""

MAX_PIXELS = 250_000_000
"""Largest picture that is decoded, in pixels; judged from the header. A 200 MP phone photo passes, a bomb does not."""

MEMORY_LIMIT_BYTES = 1 << 30
"""Address space of one decoding worker (RLIMIT_AS)."""

DECODE_TIMEOUT_S = 30.0
"""Wall time for one file, kept by the parent; the slowest sound file measured (12 MP HEIC) needs 0.7 s."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may choose; every field is a command-line option, a `DEDUP_*` variable and a key in `.dedup.toml`."""

    db: str = ""
    """Catalogue file; empty for the user's data folder."""
    jobs: int = 0
    """Worker processes; 0 for one per core."""
    exclude: tuple[str, ...] = ()
    """gitignore-style patterns, beside the defaults and `.dedupignore` files."""
    default_excludes: bool = True
    one_file_system: bool = False
    prefer: tuple[str, ...] = ()
    """Folders whose photos are kept first, most preferred first."""
    protect: tuple[str, ...] = ()
    """Folders in which nothing is ever proposed for removal."""
    neighbours: bool = True
    """Whether annoy is asked for neighbours beyond the hash radius."""
    hash_radius_bits: int = HASH_RADIUS_BITS
    max_pixels: int = MAX_PIXELS
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES
    decode_timeout_s: float = DECODE_TIMEOUT_S
