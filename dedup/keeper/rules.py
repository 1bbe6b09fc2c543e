"""The rules, strongest first: each ranks alone, and has the sentence that is shown when it decides."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dedup.keeper.facts import DETAIL_STEP, KeeperFacts, content_pixels
from dedup.keeper.units import RAW_EXTENSIONS, SIDECAR_EXTENSIONS
from dedup.records import Photo, PictureInfo

RECORD_STEPS = (8, 20)
"""EXIF tags from which a file counts as having some and a full camera record. Cameras and phones write 25 to 60;
programs that re-save write none to seven (orientation, size, resolution, software, date)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason to keep a photo."""

    name: str
    rank: Callable[[Photo, KeeperFacts], float | bytes]
    """Smaller is better."""
    sentence: Callable[[Photo, Sequence[Photo], KeeperFacts], str]
    """Why the first photo is kept rather than the others, all of which lost by this rule."""


def keeper_key(photo: Photo, facts: KeeperFacts) -> tuple[float | bytes, ...]:
    """Sort key: the best photo to keep comes first.

    Total: two photos at different paths never tie, since the last rule is the path itself.
    """
    return tuple(rule.rank(photo, facts) for rule in RULES)


def keeper_reasons(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> tuple[str, ...]:
    """The sentences of the rules that decided between the keeper and each of the others, strongest first.

    A rule is named once, with all the photos it decided against. Photos that rank *before* the keeper (which a
    person chose against our order) contribute nothing.
    """
    lost: dict[int, list[Photo]] = defaultdict(list)
    own = keeper_key(keeper, facts)
    for other in sorted(others, key=lambda photo: photo.file.path_bytes):
        theirs = keeper_key(other, facts)
        decided = next(
            (i for i, pair in enumerate(zip(own, theirs, strict=True)) if pair[0] != pair[1]), None
        )
        if decided is not None and own < theirs:
            lost[decided].append(other)
    return tuple(RULES[i].sentence(keeper, lost[i], facts) for i in sorted(lost))


# The rules. Each rank is small for the better photo.


def _rank_choice(photo: Photo, facts: KeeperFacts) -> float:
    """The last choice counts most; of files with the same content the one that was pointed at."""
    choice = facts.chosen.get(photo.digest)
    return 0 if choice is None else -2 * (choice[0] + 1) - (choice[1] == photo.file.path)


def _rank_damage(photo: Photo, facts: KeeperFacts) -> float:
    return bool(_damage(photo, facts))


def _damage(photo: Photo, facts: KeeperFacts) -> str:
    return facts.damage.get(photo.digest, "") or photo.info.damage


def _rank_folder(photo: Photo, facts: KeeperFacts) -> float:
    path = photo.file.path_bytes
    if any(path.startswith(folder) for folder in facts.protect):
        return -1
    places = (place for place, folder in enumerate(facts.prefer) if path.startswith(folder))
    return next(places, len(facts.prefer))


def _rank_detail(photo: Photo, facts: KeeperFacts) -> float:
    known = facts.detail_px.get(photo.digest)
    if known is not None:
        return -known
    # Not measured yet: in steps, since trimming a dark edge is good to a few per cent only.
    pixels = content_pixels(photo) * facts.effective_scale.get(photo.digest, 1.0) ** 2
    return -(DETAIL_STEP ** -round(-math.log(max(pixels, 1.0)) / math.log(DETAIL_STEP)))


def _rank_generation(photo: Photo, facts: KeeperFacts) -> float:
    return facts.generation.get(photo.digest, 0)


def _rank_whole(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return -(2 * photo.info.frames + photo.info.has_alpha)


def _rank_record(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return -sum(photo.info.metadata.exif_tags >= step for step in RECORD_STEPS)


def _rank_native(photo: Photo, facts: KeeperFacts) -> float:
    return facts.stored_px.get(photo.digest, 0)


def _rank_container(photo: Photo, facts: KeeperFacts) -> float:
    info = photo.info
    if info.format == "RAW":
        return 0
    if any(
        os.path.splitext(other)[1].lower() in RAW_EXTENSIONS for other in facts.units.get(photo.file.path, ())
    ):
        return 1
    return _container(info)


def _container(info: PictureInfo) -> float:
    """What cameras write comes first; what the web makes of pictures comes last.

    JPEG and lossless files stand level: which of two proven copies is the other's source is told by traces (see
    `facts`), and of two edited versions the lossless one is as often the later.
    """
    if info.format in ("HEIF", "HEIC"):
        return 2
    if info.format in ("WEBP", "AVIF"):
        return 4 if info.lossless else 7
    if info.format == "GIF":
        return 6
    return 3 if info.lossless or info.format in ("JPEG", "MPO") else 5


def _rank_compression(photo: Photo, facts: KeeperFacts) -> float:
    # Within one later generation only: a finer save of a coarse original is as likely as the reverse.
    return -(photo.info.quality or 100) if facts.generation.get(photo.digest, 0) else -100


def _rank_depth(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return -photo.info.bits


def _rank_metadata(photo: Photo, facts: KeeperFacts) -> float:
    """A count, which follows the order of supersets: whoever has all that another has, and more, counts higher."""
    held = _held(photo, facts)
    return -(len(held) + len(photo.info.metadata.keywords) / 1000)


def _held(photo: Photo, facts: KeeperFacts) -> list[str]:
    """What a person would miss, in words."""
    metadata = photo.info.metadata
    sidecars = any(
        os.path.splitext(p)[1].lower() in SIDECAR_EXTENSIONS for p in facts.units.get(photo.file.path, ())
    )
    # A profile of another colour space on a file without any record of a camera is what a conversion leaves behind.
    at_home = "srgb" in photo.info.icc_name.lower().replace(" ", "") or bool(
        metadata.camera or metadata.capture_time
    )
    named = {
        "GPS": metadata.gps,
        "the capture date": metadata.capture_time,
        "the camera": metadata.camera,
        "a rating": metadata.rating,
        "keywords": metadata.keywords,
        "a caption": metadata.caption,
        "a sidecar": sidecars,
        "a colour profile": photo.info.icc_digest and at_home,
    }
    return [words for words, value in named.items() if value]


def _rank_links(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return -photo.file.link_count


def _rank_copies(photo: Photo, facts: KeeperFacts) -> float:
    """Among versions of which nothing tells the first: people make copies of a picture, then mark one of them."""
    return -facts.copies.get(photo.digest, 1)


def _rank_age(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return photo.file.mtime_ns


def _rank_length(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return len(photo.file.path_bytes)


def _rank_path(photo: Photo, facts: KeeperFacts) -> bytes:  # noqa: ARG001
    return photo.file.path_bytes


# The sentences. They are read after "kept because".


def _who(others: Sequence[Photo]) -> str:
    if len(others) == 1:
        return os.path.basename(others[0].file.path)
    return f"{len(others)} others"


def _is(others: Sequence[Photo], singular: str = "is", plural: str = "are") -> str:
    return f"{_who(others)} {singular if len(others) == 1 else plural}"


def _say_choice(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return "you chose it"


def _say_damage(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    cause = f" ({_damage(others[0], facts)})" if len(others) == 1 else ""
    return f"it is sound; {_is(others)} damaged{cause}"


def _say_folder(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    path = keeper.file.path_bytes
    if any(path.startswith(folder) for folder in facts.protect):
        return "it lies in a protected folder"
    return "it lies in a folder you prefer"


def _say_detail(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:
    size = f"{keeper.info.width_px} x {keeper.info.height_px}"
    if all(other.info.pixels < DETAIL_STEP * keeper.info.pixels for other in others):
        return f"it is the largest, {size}; {_is(others)} smaller"
    if any(facts.effective_scale.get(other.digest, 1.0) < 0.9 for other in others):
        return f"it holds the most detail; {_is(others, 'was', 'were')} blurred or enlarged"
    return f"it holds the most detail at {size}; a border or an enlargement does not count"


def _say_generation(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"it came first; {_is(others, 'was', 'were')} saved or edited later"


def _say_whole(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    if any(keeper.info.frames > other.info.frames for other in others):
        return f"it has all {keeper.info.frames} frames; {_is(others, 'has', 'have')} fewer"
    return f"it keeps its transparency; {_is(others, 'has', 'have')} none"


def _say_record(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    most = max(other.info.metadata.exif_tags for other in others)
    own = keeper.info.metadata.exif_tags
    return f"it carries the camera's full record ({own} tags; {_is(others, 'has', 'have')} {most})"


def _say_native(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"it holds all the detail there is; {_is(others, 'was', 'were')} enlarged"


def _say_container(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:
    if keeper.info.format != "RAW" and _rank_container(keeper, facts) == 1:
        return "its RAW lies beside it"
    names = sorted({other.info.format for other in others})
    return f"it is {_article(keeper.info.format)}, nearer to the original than {' or '.join(names)}"


def _article(name: str) -> str:
    return f"{'an' if name in ('HEIF', 'HEIC', 'AVIF', 'MPO', 'RAW') and name[0] in 'AM' else 'a'} {name}"


def _say_compression(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    own = f" (about quality {keeper.info.quality})" if keeper.info.quality else ""
    return f"it is less compressed{own} than {_who(others)}"


def _say_depth(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    most = max(other.info.bits for other in others)
    return f"it has {keeper.info.bits} bits per sample; {_is(others, 'has', 'have')} {most}"


def _say_metadata(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:
    theirs = set.intersection(*(set(_held(other, facts)) for other in others))
    more = [words for words in _held(keeper, facts) if words not in theirs]
    if not more:
        return f"it carries more metadata than {_who(others)}"
    listed = more[0] if len(more) == 1 else f"{', '.join(more[:-1])} and {more[-1]}"
    return f"it has {listed}; {_is(others, 'lacks', 'lack')} {'that' if len(more) == 1 else 'some of that'}"


def _say_links(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"{keeper.file.link_count} names already share it"


def _say_copies(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:
    own = facts.copies.get(keeper.digest, 1)
    most = max(facts.copies.get(other.digest, 1) for other in others)
    return f"{own} files show this version, only {most} that of {_who(others)}"


def _say_age(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    day = datetime.fromtimestamp(keeper.file.mtime_ns / 1e9, UTC).date().isoformat()
    return f"it is older ({day}) than {_who(others)}"


def _say_length(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"its path is shorter than that of {_who(others)}"


def _say_path(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"nothing sets it apart from {_who(others)}; its path comes first"


RULES: tuple[Rule, ...] = (
    Rule("choice", _rank_choice, _say_choice),
    Rule("undamaged", _rank_damage, _say_damage),
    Rule("folder", _rank_folder, _say_folder),
    Rule("detail", _rank_detail, _say_detail),
    Rule("generation", _rank_generation, _say_generation),
    Rule("camera record", _rank_record, _say_record),
    Rule("native size", _rank_native, _say_native),
    Rule("container", _rank_container, _say_container),
    Rule("compression", _rank_compression, _say_compression),
    Rule("depth", _rank_depth, _say_depth),
    Rule("whole", _rank_whole, _say_whole),
    Rule("metadata", _rank_metadata, _say_metadata),
    Rule("hard links", _rank_links, _say_links),
    Rule("copies", _rank_copies, _say_copies),
    Rule("age", _rank_age, _say_age),
    Rule("path length", _rank_length, _say_length),
    Rule("path", _rank_path, _say_path),
)
"""Strongest first. A person's word before everything, even before damage: what is kept for a damaged photo's sake is
not removed by a plan. Detail before generation: a shrunken original is no original any more. Frames late, because they
only matter among edited versions: a picture with other frames is no copy."""
