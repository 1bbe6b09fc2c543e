"""The least that a scan must do: read every file and decode it with libjpeg-turbo at scale 1/8, on two threads."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import simplejpeg
from PIL import Image


def _decode_eighth(path: Path) -> None:
    data = path.read_bytes()
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    simplejpeg.decode_jpeg(
        data, "RGB", min_height=math.ceil(height / 8), min_width=math.ceil(width / 8), min_factor=8
    )


def decode_floor_s(files: Sequence[Path], threads: int = 2) -> float:
    """Wall seconds; simplejpeg leaves Python's lock while it decodes, so two threads are two cores."""
    # Longest first, as a scan does: with one long file left at the end the other thread would idle.
    ordered = sorted(files, key=lambda path: path.stat().st_size, reverse=True)
    begun = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(_decode_eighth, ordered):
            pass
    return time.monotonic() - begun


def full_decode_cpu_s(files: Sequence[str]) -> float:
    """Processor seconds of one full Pillow decode of each file, one after the other."""
    begun = time.process_time()
    for path in files:
        with Image.open(path) as image:
            image.load()
    return time.process_time() - begun
