"""How far to trust the program on one's own photos: labelled edits of a sample, and what the pipeline makes of them.

Promises: photos are only read; everything is made in a temporary folder and goes with it; the same folder and seed give
the same edits. Photos of the sample that are duplicates of each other to begin with are left out, so that what is found
between two sources is false. Does not: change a setting.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps
from scipy.special import betaincinv

from dedup import decode
from dedup.crawl import find_photos
from dedup.engine import Failure, Limits, open_engine
from dedup.errors import UsageError
from dedup.pipeline.places import Progress, absolute_folder
from dedup.pipeline.scan import say_nothing, scan_library
from dedup.records import PhotoFile, Relation, Report
from dedup.settings import MAX_PIXELS, Settings

SAMPLE_PHOTOS = 24
"""Enough that an edit found in all of them is found in 88 % and more of such photos (95 % confidence); one minute."""
SPARE_PHOTOS = 8
"""Drawn beyond that, for those that have to be left out; at least half as many as the sample."""
LONGER_PX = 1024
"""Photos are reduced to this before anything is done to them, so that the time does not depend on the camera."""
QUALITY = 92
CONFIDENCE = 0.95

Kind = Literal["copy", "edit"]
Edit = Callable[[Image.Image, random.Random], tuple[Image.Image | bytes, str]]


@dataclass(frozen=True, slots=True)
class EditScore:
    """What became of one kind of edit."""

    name: str
    kind: Kind
    made: int
    found: int
    """In the group of the photo that they were made from."""
    safe: int
    """Of these, as a duplicate that may go in bulk: all copies should be, no edit may be."""
    named: int
    """Of these, with the edit among the changes that the sentence names; for copies the same as `found`."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the pipeline made of a sample."""

    folder: str
    photos: int
    left_out: int
    """Photos that did not decode, are too small to be edited, or have a duplicate in the sample."""
    scores: tuple[EditScore, ...]
    false_pairs: int
    """Pairs of pictures made from two different photos that were put into one group."""
    pairs: int
    """All pairs of pictures made from two different photos."""

    @property
    def false_bound(self) -> float:
        """Upper end of the 95 % interval (Clopper and Pearson 1934, one-sided) of the share of false pairs."""
        if self.pairs <= self.false_pairs:
            return 1.0
        return float(betaincinv(self.false_pairs + 1, self.pairs - self.false_pairs, CONFIDENCE))


def calibrate(
    folder: str | os.PathLike[str],
    settings: Settings | None = None,
    photos: int = SAMPLE_PHOTOS,
    seed: int = 1,
    progress: Progress | None = None,
) -> Calibration:
    """Make labelled edits of a sample of the photos below a folder, scan them, and count.

    Parameters
    ----------
    folder
        Where the photos are; they are read and nothing else.
    settings
        As for a scan; the catalogue is a temporary one.
    photos
        Size of the sample.
    seed
        Another one draws another sample and other places and amounts.
    progress
        As for a scan, with the stages `sample` and `edit` before it.

    Raises
    ------
    UsageError
        If there are not at least two photos to work with.
    """
    settings, tell = settings or Settings(), progress or say_nothing
    root = absolute_folder(os.fspath(folder))
    if not os.path.isdir(root):
        raise UsageError(f"{root}: there is no such folder; name one that exists")
    with tempfile.TemporaryDirectory(prefix="dedup-bench-") as place:
        chosen, left_out = _draw(root, settings, photos, seed, Path(place), tell)
        if len(chosen) < 2:
            raise UsageError(f"{root}: at least two different photos are needed, {len(chosen)} found")
        library = Path(place) / "edited"
        _make(chosen, library, settings, seed, tell)
        report = scan_library([library], _once(settings, Path(place) / "edited.db"), tell)
        return _count(root, report, library, len(chosen), left_out)


def _once(settings: Settings, db: Path) -> Settings:
    return replace(settings, db=str(db), prefer=(), protect=(), exclude=())


# --- the sample -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Job:
    """One photo to reduce and store (`edits` empty), or a stored one to make edits of."""

    source: str
    target: str
    seed: int
    edits: tuple[str, ...] = ()


def _draw(
    root: str, settings: Settings, photos: int, seed: int, place: Path, tell: Progress
) -> tuple[list[Path], int]:
    """Reduced photos of the sample, none of them a duplicate of another, and how many had to be left out."""
    tell("sample", 0, None)
    # By a digest of name and seed: as good as chance, and the same on every run.
    ranked = sorted(
        (file for file in find_photos([root], settings, lambda *_: "") if isinstance(file, PhotoFile)),
        key=lambda file: hashlib.sha256(f"{seed} ".encode() + file.path_bytes).digest(),
    )
    folder = place / "sample"
    folder.mkdir()
    jobs = [
        _Job(file.path, str(folder / f"{number:04}.png"), seed)
        for number, file in enumerate(ranked[: photos + max(SPARE_PHOTOS, photos // 2)])
    ]
    _work(_store_reduced, jobs, settings, "sample", tell)
    stored = [Path(job.target) for job in jobs if os.path.exists(job.target)]
    report = scan_library([folder], _once(settings, place / "sample.db"), tell)
    doubled = {member.photo.file.path for group in report.groups for member in group.members}
    doubled |= {pair.right.file.path for pair in report.similar}
    chosen = [path for path in stored if str(path) not in doubled]
    return chosen[:photos], len(jobs) - len(chosen)


def _store_reduced(job: _Job) -> bool:
    try:
        with open(job.source, "rb") as file:
            picture = decode.read_full(file, job.source, max_pixels=MAX_PIXELS)
    except (decode.BadPicture, OSError):
        return False
    if picture.info.damage or min(picture.rgb.shape[:2]) < 160:
        return False
    image = Image.fromarray(np.ascontiguousarray(picture.rgb))
    image.thumbnail((LONGER_PX, LONGER_PX), Image.Resampling.LANCZOS)
    image.save(job.target, compress_level=1)
    return True


def _make(chosen: Sequence[Path], library: Path, settings: Settings, seed: int, tell: Progress) -> None:
    jobs = []
    for number, path in enumerate(chosen):
        folder = library / f"{number:04}"
        folder.mkdir(parents=True)
        jobs.append(_Job(str(path), str(folder), seed + number, tuple(EDITS)))
    _work(_store_edits, jobs, settings, "edit", tell)


def _work(
    function: Callable[[_Job], bool], jobs: Sequence[_Job], settings: Settings, stage: str, tell: Progress
) -> None:
    limits = Limits(settings.memory_limit_bytes, 4 * settings.decode_timeout_s, 4 * settings.decode_timeout_s)
    with open_engine(settings.jobs, limits) as engine:
        for done, (_, answer) in enumerate(engine.map(function, jobs), 1):
            tell(stage, done, len(jobs))
            assert isinstance(answer, bool | Failure)


def _decoded(content: bytes, name: str) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(decode.read_full(content, name).rgb))


def _store_edits(job: _Job) -> bool:
    base = _decoded(_jpeg(_decoded(Path(job.source).read_bytes(), job.source), QUALITY), "base.jpg")
    folder = Path(job.target)
    (folder / f"{BASE}.jpg").write_bytes(_jpeg(base, QUALITY))
    for name in job.edits:
        chance = random.Random(f"{job.seed} {name}")
        made, ending = EDITS[name].make(base, chance)
        content = made if isinstance(made, bytes) else _jpeg(made, QUALITY)
        (folder / f"{name}{ending}").write_bytes(content)
    return True


# --- the edits ------------------------------------------------------------------------------------------------------

BASE = "original"


@dataclass(frozen=True, slots=True)
class _Edit:
    kind: Kind
    make: Edit
    names: frozenset[str] = frozenset()
    """Kinds of change (see `records.Change`) of which one should be named."""


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _stored(form: str, ending: str, **options: int) -> Edit:
    def make(image: Image.Image, _: random.Random) -> tuple[bytes, str]:
        out = io.BytesIO()
        image.save(out, form, **options)
        return out.getvalue(), ending

    return make


def _changed(change: Callable[[Image.Image, random.Random], Image.Image]) -> Edit:
    return lambda image, chance: (change(image, chance), ".jpg")


def _resized(share: float) -> Edit:
    def resize(image: Image.Image, _: random.Random) -> Image.Image:
        size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        return image.resize(size, Image.Resampling.LANCZOS)

    return _changed(resize)


def _cropped(area: float) -> Edit:
    """A random window of that share of the area; its aspect is changed by up to a fifth."""

    def crop(image: Image.Image, chance: random.Random) -> Image.Image:
        stretch = chance.uniform(0.83, 1.2) ** 0.5
        across, down = min(1.0, area**0.5 * stretch), min(1.0, area**0.5 / stretch)
        wide, high = round(image.width * across), round(image.height * down)
        left, top = chance.randint(0, image.width - wide), chance.randint(0, image.height - high)
        return image.crop((left, top, left + wide, top + high))

    return _changed(crop)


def _bordered(share: float, *, bars: bool = False) -> Edit:
    def border(image: Image.Image, chance: random.Random) -> Image.Image:
        fill = (0, 0, 0) if bars else chance.choice(((255, 255, 255), (0, 0, 0)))
        thick = round(min(image.size) * share)
        return ImageOps.expand(image, (0, thick) if bars else thick, fill)

    return _changed(border)


def _tilted(degrees: float) -> Edit:
    """Turned about its middle and cut to the largest upright frame of the same aspect without empty corners."""

    def tilt(image: Image.Image, chance: random.Random) -> Image.Image:
        angle = degrees * chance.choice((-1, 1))
        turned = image.rotate(angle, Image.Resampling.BICUBIC)
        sine, cosine = abs(math.sin(math.radians(angle))), math.cos(math.radians(angle))
        longer, shorter = max(image.size), min(image.size)
        share = shorter / (longer * sine + shorter * cosine)
        wide, high = int(image.width * share), int(image.height * share)
        left, top = (image.width - wide) // 2, (image.height - high) // 2
        return turned.crop((left, top, left + wide, top + high))

    return _changed(tilt)


def _toned(low: float, high: float, enhance: Callable[[Image.Image], ImageEnhance._Enhance]) -> Edit:
    return _changed(lambda image, chance: enhance(image).enhance(chance.choice((low, high))))


def _warmer(image: Image.Image, chance: random.Random) -> Image.Image:
    red, green, blue = image.split()
    gain = chance.choice((1.12, 0.88))
    return Image.merge("RGB", (red.point(lambda v: v * gain), green, blue.point(lambda v: v / gain)))


def _noisy(image: Image.Image, chance: random.Random) -> Image.Image:
    drawn = np.random.default_rng(chance.randrange(2**32)).normal(128, 9, (image.height, image.width, 3))
    grain = Image.fromarray(drawn.round().clip(0, 255).astype(np.uint8))
    return ImageChops.add(image, grain, 1, -128)


def _dated(image: Image.Image, chance: random.Random) -> Image.Image:
    marked, px = image.copy(), max(12, image.height // 24)
    text = f"{chance.randint(2001, 2029)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
    place = (image.width - 6 * px, image.height - round(1.6 * px))
    ImageDraw.Draw(marked).text(place, text, fill=(255, 160, 40), font=ImageFont.load_default(px))
    return marked


def _marked(image: Image.Image, chance: random.Random) -> Image.Image:
    layer = Image.new("RGBA", image.size)
    px = max(14, image.width // 12)
    place = (image.width * chance.uniform(0.05, 0.3), image.height * chance.uniform(0.2, 0.7))
    ImageDraw.Draw(layer).text(
        place, "© a friend", fill=(255, 255, 255, 130), font=ImageFont.load_default(px)
    )
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def _repainted(share: float) -> Edit:
    """A place taken from elsewhere in the picture, with a soft rim."""

    def repaint(image: Image.Image, chance: random.Random) -> Image.Image:
        side = share**0.5
        wide, high = max(8, round(image.width * side)), max(8, round(image.height * side))
        places = [
            (chance.randint(0, image.width - wide), chance.randint(0, image.height - high)) for _ in range(24)
        ]
        # The busiest of some places, from the one farthest off: a change that a person would see.
        grey = np.asarray(image.convert("L"), np.float32)
        to = max(places, key=lambda p: float(grey[p[1] : p[1] + high, p[0] : p[0] + wide].std()))
        by = max(places, key=lambda p: math.dist(p, to))
        rim = Image.new("L", (wide, high))
        ImageDraw.Draw(rim).ellipse((2, 2, wide - 3, high - 3), fill=255)
        rim = rim.filter(ImageFilter.GaussianBlur(max(1, min(wide, high) // 40)))
        changed = image.copy()
        changed.paste(image.crop((*by, by[0] + wide, by[1] + high)), to, rim)
        return changed

    return _changed(repaint)


_TONE = frozenset(("brightness", "contrast", "gamma", "colour", "saturation", "greyscale"))
_CUT, _FRAME = frozenset(("cropped",)), frozenset(("border", "cropped"))
_TILT, _TURN = frozenset(("tilted",)), frozenset(("turned", "mirrored"))
_PLACE = frozenset(("overlay", "retouched"))

EDITS: dict[str, _Edit] = {
    **{f"quality {q}": _Edit("copy", _stored("JPEG", ".jpg", quality=q)) for q in (95, 85, 75, 50, 30)},
    "as PNG": _Edit("copy", _stored("PNG", ".png", compress_level=1)),
    "as WebP": _Edit("copy", _stored("WEBP", ".webp", quality=82, method=2)),
    **{f"{round(100 * share)} % of the size": _Edit("copy", _resized(share)) for share in (0.75, 0.5, 0.25)},
    **{
        f"cropped to {round(100 * a)} %": _Edit("edit", _cropped(a), _CUT) for a in (0.95, 0.9, 0.8, 0.7, 0.5)
    },
    **{f"border of {round(100 * s)} %": _Edit("edit", _bordered(s), _FRAME) for s in (0.05, 0.1)},
    "bars of 10 %": _Edit("edit", _bordered(0.1, bars=True), _FRAME),
    **{f"tilted by {angle}°": _Edit("edit", _tilted(angle), _TILT) for angle in (1, 3, 5)},
    "turned a quarter": _Edit("edit", _changed(lambda i, _: i.transpose(Image.Transpose.ROTATE_90)), _TURN),
    "mirrored": _Edit("edit", _changed(lambda i, _: ImageOps.mirror(i)), _TURN),
    "brightness": _Edit("edit", _toned(0.8, 1.25, ImageEnhance.Brightness), _TONE),
    "contrast": _Edit("edit", _toned(0.75, 1.3, ImageEnhance.Contrast), _TONE),
    "saturation": _Edit("edit", _toned(0.5, 1.5, ImageEnhance.Color), _TONE),
    "warmer or cooler": _Edit("edit", _changed(_warmer), _TONE),
    "greyscale": _Edit("edit", _changed(lambda i, _: i.convert("L").convert("RGB")), _TONE),
    "noise": _Edit("edit", _changed(_noisy), frozenset(("noise",))),
    "date stamped": _Edit("edit", _changed(_dated), _PLACE),
    "watermark": _Edit("edit", _changed(_marked), _PLACE),
    **{f"{round(100 * s)} % repainted": _Edit("edit", _repainted(s), _PLACE) for s in (0.01, 0.06)},
}
"""Everything that is done to a photo, by the name under which it is counted."""


# --- the count ------------------------------------------------------------------------------------------------------


def _count(root: str, report: Report, library: Path, photos: int, left_out: int) -> Calibration:
    group_of: dict[str, str] = {}
    relation_of: dict[str, Relation | None] = {}
    changes_of: dict[str, set[str]] = {}
    for group in report.groups:
        group_of[group.keeper.file.path], relation_of[group.keeper.file.path] = group.id, None
        for member in group.members:
            path = member.photo.file.path
            group_of[path], relation_of[path] = group.id, member.match.relation
            changes_of[path] = {change.kind for change in member.match.changes}
    made, found, safe, named = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    families: dict[str, Counter[str]] = defaultdict(Counter)
    sizes: Counter[str] = Counter()
    for folder in sorted(library.iterdir()):
        base = str(folder / f"{BASE}.jpg")
        files = sorted(folder.iterdir())
        sizes[folder.name] = len(files)
        for file in files:
            path, name = str(file), file.stem
            if path in group_of:
                families[group_of[path]][folder.name] += 1
            if name == BASE:
                continue
            made[name] += 1
            if path not in group_of or group_of[path] != group_of.get(base):
                continue
            found[name] += 1
            # Against the photo that it was made from: that is the keeper, or else a member beside it.
            relation = relation_of[path] or relation_of.get(base)
            safe[name] += (
                relation is not None and relation.is_safe and _is_held_against(relation_of, path, base)
            )
            told = changes_of.get(path) or changes_of.get(base) or set()
            named[name] += EDITS[name].kind == "copy" or bool(told & EDITS[name].names)
    total = sum(sizes.values())
    pairs = (total**2 - sum(size**2 for size in sizes.values())) // 2
    false_pairs = sum(
        (sum(family.values()) ** 2 - sum(count**2 for count in family.values())) // 2
        for family in families.values()
    )
    scores = tuple(
        EditScore(name, edit.kind, made[name], found[name], safe[name], named[name])
        for name, edit in EDITS.items()
    )
    return Calibration(root, photos, left_out, scores, false_pairs, pairs)


def _is_held_against(relation_of: dict[str, Relation | None], path: str, base: str) -> bool:
    """Whether the relation of `path` says something about the photo that it was made from: one of the two is the
    keeper, or both are safe duplicates of it."""
    mine, its = relation_of[path], relation_of.get(base)
    if mine is None or its is None:
        return True
    return mine.is_safe and its.is_safe
