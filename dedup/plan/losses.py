"""What a duplicate has and its keeper lacks, in words: metadata, tags of file managers, what a hard link would level.

Promises: silence only where nothing is lost. Does not: decide whether a person minds.
"""

from __future__ import annotations

import stat

from dedup.records import Photo, PlannedFile, Sight

EXIF_SLACK = 7
"""Further EXIF tags of the duplicate that say nothing: programs that save again write none to seven of their own
(orientation, size, resolution, software, date)."""


def metadata_losses(dup: Photo, keep: Photo) -> tuple[str, ...]:
    """What the duplicate's file says about its picture and the keeper's does not, or says otherwise."""
    ours, theirs = dup.info.metadata, keep.info.metadata
    losses = []
    # To the second: sub-seconds and zones are left out by many programs.
    if ours.capture_time and ours.capture_time[:19] != theirs.capture_time[:19]:
        losses.append(_lost("capture date", ours.capture_time, theirs.capture_time))
    if ours.gps and ours.gps != theirs.gps:
        losses.append(_lost("GPS position", ours.gps, theirs.gps))
    if ours.rating and ours.rating != theirs.rating:
        losses.append(_lost("rating", ours.rating, theirs.rating))
    if missing := [word for word in ours.keywords if word not in theirs.keywords]:
        losses.append(f"keywords {', '.join(missing)}")
    if ours.caption and ours.caption != theirs.caption:
        losses.append(_lost("caption", ours.caption, theirs.caption))
    if ours.camera and not theirs.camera:
        losses.append(f"camera {ours.camera}")
    if ours.content_identifier and ours.content_identifier != theirs.content_identifier:
        losses.append("the tie to its Live Photo")
    if ours.exif_tags > theirs.exif_tags + EXIF_SLACK:
        losses.append(f"{ours.exif_tags - theirs.exif_tags} further EXIF tags")
    if dup.info.icc_digest and not keep.info.icc_digest and not _is_srgb(dup):
        losses.append(f"colour profile {dup.info.icc_name}".rstrip())
    return tuple(losses)


def _lost(name: str, ours: str, theirs: str) -> str:
    return f"{name} {ours}" + (f" (the keeper says {theirs})" if theirs else "")


def _is_srgb(photo: Photo) -> bool:
    return "srgb" in photo.info.icc_name.lower().replace(" ", "")


def note_losses(dup: Sight, keep: Sight) -> tuple[str, ...]:
    """Tags and comments of file managers that only the duplicate carries."""
    kept = dict(keep.notes)
    return tuple(words for words, value in dup.notes if kept.get(words) != value)


def link_losses(dup: PlannedFile, keep: PlannedFile) -> tuple[str, ...]:
    """What becomes the keeper's own when two names share one inode. Times are no loss: copies rarely share one."""
    losses = []
    if stat.S_IMODE(dup.mode) != stat.S_IMODE(keep.mode):
        modes = [stat.filemode(file.mode)[1:] for file in (dup, keep)]
        losses.append(f"permissions {modes[0]} (the keeper has {modes[1]})")
    if (dup.uid, dup.gid) != (keep.uid, keep.gid):
        losses.append(f"owner {dup.uid}:{dup.gid} (the keeper has {keep.uid}:{keep.gid})")
    if dup.xattrs != keep.xattrs:
        losses.append("extended attributes that differ from the keeper's")
    return tuple(losses)
