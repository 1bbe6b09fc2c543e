"""Two pictures measured in every way the field knows, each measure named, with what it means and is blind to.

    kinds.py       every measure: unit, meaning, blindness    frames.py     preparation: align, crop, grey, denoise ...
    files.py       bytes, stored pixels, saves                levels.py     norms, RMS, CIELAB, PSNR, SSIM, worst tile
    histograms.py  distances of histograms                    structure.py  edges, whitening, shift, exposure, noise
    motion.py      sparse optical flow                        drawing.py    the difference as a picture

Promises: arrays in, records out; exact zeros for equal pictures; where there is no number, the reason. Does not: judge
(that is `confirm`), open files, or know perceptual hashes (that is `fingerprint`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from dedup.compare.kinds import FAMILIES, KINDS, choose_names
from dedup.records import Measure

if TYPE_CHECKING:
    from dedup.compare.frames import Frames
    from dedup.compare.histograms import Histograms
    from dedup.compare.levels import Answer, Sums

__all__ = ["FAMILIES", "KINDS", "as_measure", "choose_names", "measure_frames"]

NEEDS_SHAPE = frozenset(
    name
    for name, kind in KINDS.items()
    if kind.family in ("levels", "structure") and name not in ("phase", "noise")
)
"""Measures that hold pixels against pixels."""


def as_measure(name: str, answer: Answer) -> Measure:
    """An answer with what is known of its kind."""
    kind = KINDS[name]
    value, parts, note = answer
    return Measure(name, value, kind.unit, kind.meaning, kind.blind_to, tuple(parts.items()), note)


class _Taker:
    """What several measures share, made when the first of them asks."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    @cached_property
    def sums(self) -> Sums:
        from dedup.compare.levels import Sums

        return Sums(self.frames)

    @cached_property
    def histograms(self) -> Histograms:
        from dedup.compare.histograms import Histograms

        return Histograms(self.frames)

    def take(self, name: str) -> Answer:
        from dedup.compare import levels, structure

        frames = self.frames
        if frames.trouble and name in NEEDS_SHAPE:
            return None, {}, frames.trouble
        if name in ("sobel", "prewitt"):
            return structure.edges(frames, name)
        if KINDS[name].family == "histograms":
            found: Answer = getattr(self.histograms, name.replace("-", "_"))()
            return found
        summed = {
            "box": levels.box,
            "l1": levels.l1,
            "l0": levels.l0,
            "sad": levels.sad,
            "rms": levels.rms,
            "psnr": levels.psnr,
            "tile": levels.tile,
        }
        if name in summed:
            return summed[name](frames, self.sums)
        others: dict[str, Callable[[Frames], Answer]] = {
            "rms-lab": levels.rms_lab,
            "ssim": levels.ssim,
            "whiten": structure.whiten,
            "phase": structure.phase,
            "exposure": structure.exposure,
            "noise": structure.noise,
            "flow": structure.flow,
        }
        return others[name](frames)


def measure_frames(frames: Frames, names: Collection[str]) -> Iterator[Measure]:
    """The measures of these names that look at pixels, in the order of `KINDS`; others are passed over.

    A picture so large that a measure needs more memory than there is costs that measure.
    """
    taker = _Taker(frames)
    for name, kind in KINDS.items():
        if name not in names or kind.family not in ("levels", "histograms", "structure"):
            continue
        try:
            answer = taker.take(name)
        except MemoryError:
            answer = (None, {}, "needs more memory than there is; --resize or a smaller picture")
        yield as_measure(name, answer)
