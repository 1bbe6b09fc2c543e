"""The records of comparing: the measures of two pictures, and what a series of frames turned out to be."""

from __future__ import annotations

from dataclasses import dataclass

from dedup.records.finding import Match, Photo, Skipped

Value = float | bool | None
Part = float | int | bool | str | None


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done to both pictures before they are measured, in this order; nothing by default."""

    align: bool = False
    """B is moved, turned and scaled into A's frame."""
    resize: bool = False
    """The larger one is reduced to the size of the smaller one."""
    crop_to_overlap: bool = False
    """Only what both show: after `align` the rectangle that B covers, otherwise the common size around the centre."""
    grey: str = ""
    """`average` of the channels, or `luma` (0.299, 0.587, 0.114); empty for colour."""
    denoise: str = ""
    """`gaussian` (sigma from the estimated noise) or `median` (3 x 3); empty for none."""
    normalise: str = ""
    """`percentile` (1 to 99 to the full range) or `min-max` (which one bright pixel decides); empty for none."""
    tolerance_levels: float = 0.0
    """Differences up to this are none to the zero norm and the bounding box."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be found out about two files."""

    names: tuple[str, ...] = ("all",)
    """Measures, families of them, `hashes` or `all`; empty for the verdict alone."""
    preparation: Preparation = Preparation()
    strict: bool = False
    """Only the same bytes are the same."""
    screenshot: bool = False
    """Only the same size counts, and no tile of 4 px may differ by more than a save at high quality explains."""
    explain: bool = False
    """Say what each stage of a scan makes of the pair."""
    draw: bool = False
    """Draw the difference."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One way to tell how far two pictures differ, and what it said."""

    name: str
    value: Value
    """None where there is no such number; `note` says why."""
    unit: str
    meaning: str
    blind_to: str
    parts: tuple[tuple[str, Part], ...] = ()
    """Further numbers, by name."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Hurdle:
    """One stage of a scan, and whether the pair would have come through it."""

    stage: str
    passed: bool
    words: str
    """What was asked, what the pair has, what the limit is."""
    measured: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two files and everything that was found about them."""

    left: Photo
    right: Photo
    relation: str
    """A `Relation`, or `different`."""
    verdict: str
    """One sentence."""
    is_same: bool
    """Whether the relation is safe, under the strictness that was asked for."""
    match: Match | None
    """What a scan would have measured, A on the left; None for pictures of different scenes and for equal bytes."""
    measures: tuple[Measure, ...]
    preparation: tuple[str, ...]
    """What was done to the pictures before measuring, in words."""
    hurdles: tuple[Hurdle, ...]
    """Empty unless asked for."""
    difference_png: bytes = b""
    """Empty unless asked for."""

    def measure(self, name: str) -> Measure:
        """The measure of that name.

        Raises
        ------
        KeyError
            If it was not asked for.
        """
        for found in self.measures:
            if found.name == name:
                return found
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class FramesAsked:
    """What is to be found out about a folder of frames."""

    order: str = "name"
    """`name`, with numbers as numbers, or `time` of capture and then of the file."""
    threshold: float = 0.2
    """Symmetric Kullback-Leibler distance from which a change is sudden."""
    motion: bool = False
    """Tell a moved camera from a moved subject."""
    draw: bool = False
    """Draw the background and the frames that stand out from it."""


@dataclass(frozen=True, slots=True)
class Motion:
    """What moved between two frames."""

    points: int
    """Corners that could be followed."""
    camera_px: tuple[float, float]
    """Right and down: the motion that most of them share, in pixels of the frame."""
    moved_share: float
    """Of the points that move otherwise."""
    words: str


@dataclass(frozen=True, slots=True)
class Step:
    """A frame of a sequence, seen from the one before it."""

    path: str
    photo: Photo | None
    """None for a frame that could not be read."""
    distance: float | None
    """Symmetric Kullback-Leibler distance to the last sound frame before it; None for the first."""
    others: tuple[tuple[str, float], ...]
    """Other distances of the same two histograms."""
    changed: bool
    """A sudden change that stays."""
    corrupt: str
    """Why the frame counts as corrupt; empty for a sound one."""
    foreign_share: float
    """Share of the picture outside of what the other frames have there."""
    foreign_box: tuple[float, float, float, float] | None
    """Where, in fractions; None where nothing stands out."""
    is_odd: bool
    """Whether it has something that the others have not."""
    repeats: str
    """The frame that it repeats, if nothing changed since; else empty."""
    match: Match | None
    """The comparison at full pixels with that frame, if it is a copy of it."""
    motion: Motion | None


@dataclass(frozen=True, slots=True)
class SequenceReport:
    """A folder of frames in order, and what happens in it."""

    folder: str
    steps: tuple[Step, ...]
    threshold: float
    calibration: tuple[tuple[str, float, float, float, float | None], ...]
    """Of each distance: its name, median, 95th percentile and largest between consecutive frames, and the value that
    cuts off as many steps as the threshold does; None where that cuts off none."""
    skipped: tuple[Skipped, ...]
    """Files that are photos by name or content and could not be read."""
    background_png: bytes = b""
    """Empty unless asked for, and where no scene is still for four frames."""

    @property
    def changes(self) -> tuple[Step, ...]:
        """Frames at which the picture suddenly changed."""
        return tuple(step for step in self.steps if step.changed)

    @property
    def corrupt(self) -> tuple[Step, ...]:
        """Frames that are broken, or alone against both neighbours."""
        return tuple(step for step in self.steps if step.corrupt)

    @property
    def odd(self) -> tuple[Step, ...]:
        """Frames that have something the others have not."""
        return tuple(step for step in self.steps if step.is_odd)

    @property
    def repeated(self) -> tuple[Step, ...]:
        """Frames in which nothing changed."""
        return tuple(step for step in self.steps if step.repeats)


__all__ = [
    "Asked",
    "Comparison",
    "FramesAsked",
    "Hurdle",
    "Measure",
    "Motion",
    "Preparation",
    "SequenceReport",
    "Step",
]
