"""The groups themselves: stars of proven copies, joined under one keeper by what was confirmed against it.

Promises: see the package. Works on contents (digests): files of equal bytes share every measurement.

How: contents are taken in keeper order. First each takes the proven copies (safe relations) that were measured against
it: a star. Then each star is joined to the earlier keeper whose edited version its centre is, if its copies were
confirmed against that keeper as well. Nothing is taken over from a neighbour, so there are no chains; what one would
have reached is asked for (`wanted`), and joins in the next round if the measurement confirms it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any

from dedup.cluster.turning import turn_match
from dedup.records import (
    AlsoLike,
    CandidatePair,
    DuplicateGroup,
    Figures,
    GroupingResult,
    Match,
    Member,
    Photo,
    Relation,
    SimilarPair,
    Source,
)
from dedup.records.placing import IDENTITY, chain_placements, derive_pair, hash_bits, placement_of

HUB_DEGREE = 8
"""Local edits (overlays, retouched places) of one picture from which on it may be a blank form or a logo page rather
than an original: people keep two or three such versions of a photo, and a form is filled in by the dozen."""
HUB_SAMPLE = 12
"""Pairs among those edits that are measured to tell; a form's are all different, an original's all show its scene."""
COPY_BITS = 12
"""64-bit hash distance up to which two edited versions may be copies of each other; copies stay within 8."""
COPY_CELL_LEVELS = 12
COPY_MEAN_LEVELS = 3.0
"""Largest and mean difference of the 8 x 8 colour grids of two copies of one edited version, in levels. Saved at
quality 30 or shrunk to a quarter they differ by at most 8 and 1.5; another tone or crop by 10 and more."""
COPY_TRIES = 4
"""Edited versions that one photo is compared with, nearest colours first, to find the one it is a copy of."""

_LOCAL_KINDS = frozenset(("overlay", "retouched"))
_RANK = {relation: rank for rank, relation in enumerate(Relation)}
_SAME_BYTES_FIGURES = Figures(0, 0, 0.0, 0.0, None, 1.0, 1.0, 0, IDENTITY, (0, 0))

Pair = tuple[bytes, bytes]


@dataclass(slots=True)
class _Draft:
    """A group in the making, by digest."""

    keeper: bytes
    members: dict[bytes, bytes | None]
    """Member to the edited member that it is a copy of."""


def make_groups(
    photos: Mapping[int, Photo],
    matches: Iterable[Match],
    order: Callable[[Photo], Any],
    *,
    reasons: Callable[[Photo, Sequence[Photo]], tuple[str, ...]] | None = None,
    unit_files: Callable[[Photo], tuple[str, ...]] | None = None,
    asked: Collection[tuple[int, int]] = (),
) -> GroupingResult:
    """Group measured photos.

    Parameters
    ----------
    photos
        By id; every file, also those of equal content. Files of equal digest are joined without a match.
    matches
        All that was measured, in any order, also `similar`. Same-bytes matches may be left out. If a pair was measured
        several times, the strongest relation holds, and the match with the keeper on its left is shown.
    order
        Sort key of keepers, best first; total. Best fixed for all calls of one run's last round.
    reasons
        From keeper and the others to the sentences why it is kept.
    unit_files
        From photo to the files that go where it goes.
    asked
        (keeper, other) ids that were measured already; a pair without a match in `matches` is then no match, and is
        not wanted again.

    Returns
    -------
    GroupingResult
        Valid as it stands: every member has a match to its keeper. With `wanted` measured, it may be larger.
    """
    return _Grouping(photos, matches, order, asked).result(reasons, unit_files)


class _Grouping:
    def __init__(
        self,
        photos: Mapping[int, Photo],
        matches: Iterable[Match],
        order: Callable[[Photo], Any],
        asked: Collection[tuple[int, int]],
    ) -> None:
        ranked = sorted(photos.values(), key=order)
        self._files: dict[bytes, list[Photo]] = defaultdict(list)
        for photo in ranked:
            self._files[photo.digest].append(photo)
        self._place = {digest: place for place, digest in enumerate(self._files)}
        self._by_id = {photo.id: photo for photo in ranked}
        digest_of = {photo.id: photo.digest for photo in ranked}
        self._asked = {(digest_of[a], digest_of[b]) for a, b in asked if a in digest_of and b in digest_of}
        self._match: dict[Pair, Match] = {}
        for match in matches:
            left, right = digest_of.get(match.left), digest_of.get(match.right)
            if left is None or right is None or left == right:
                continue
            known = self._match.get((left, right))
            if known is None or _strength(match) < _strength(known):
                self._match[left, right] = match
        self._bonds: dict[bytes, dict[bytes, Match]] = defaultdict(dict)
        for left, right in self._match:
            for a, b in ((left, right), (right, left)):
                best = self._best(a, b)
                if best.relation is not Relation.SIMILAR:
                    self._bonds[a][b] = best
        self._wanted: dict[Pair, CandidatePair] = {}
        self._loose: dict[bytes, dict[bytes, Match]] = defaultdict(dict)
        """Bonds of hubs that are not used."""

    def result(
        self,
        reasons: Callable[[Photo, Sequence[Photo]], tuple[str, ...]] | None,
        unit_files: Callable[[Photo], tuple[str, ...]] | None,
    ) -> GroupingResult:
        hubs = self._split_hubs()
        drafts = self._join_stars(self._make_stars())
        self._name_copies(drafts)
        home = {digest: draft for draft in drafts for digest in (draft.keeper, *draft.members)}
        self._reach_further(home)
        groups = [
            self._finished(draft, home, reasons, unit_files)
            for draft in drafts
            if draft.members or len(self._files[draft.keeper]) > 1
        ]
        wanted = sorted(self._wanted, key=lambda pair: (self._place[pair[0]], self._place[pair[1]]))
        return GroupingResult(
            groups=tuple(sorted(groups, key=lambda group: group.keeper.file.path_bytes)),
            similar=self._similar_pairs(home),
            hubs=tuple(sorted((self._first(hub).file.path for hub in hubs), key=_bytes_of)),
            wanted=tuple(self._wanted[pair] for pair in wanted),
            wanted_keepers=tuple(self._first(pair[0]).id for pair in wanted),
        )

    # What is known about a pair.

    def _first(self, digest: bytes) -> Photo:
        return self._files[digest][0]

    def _best(self, left: bytes, right: bytes) -> Match:
        """The strongest measurement of the pair, seen from `left`, between the first files of both contents."""
        straight, turned = self._match.get((left, right)), self._match.get((right, left))
        if turned is not None and (straight is None or _RANK[turned.relation] < _RANK[straight.relation]):
            straight = turn_match(turned)
        assert straight is not None
        return replace(straight, left=self._first(left).id, right=self._first(right).id)

    def _is_measured(self, left: bytes, right: bytes) -> bool:
        return any(
            pair in known for pair in ((left, right), (right, left)) for known in (self._match, self._asked)
        )

    def _want(self, keeper: bytes, other: bytes, through: bytes | None = None) -> None:
        """Ask for a measurement with `keeper` on the left, unless there is one or it was tried."""
        pair = (keeper, other)
        if pair in self._match or pair in self._asked or pair in self._wanted:
            return
        left, right = self._first(keeper), self._first(other)
        if (direct := self._bonds[keeper].get(other)) is not None:
            placement = placement_of(direct)
        elif through is not None and through in self._bonds[keeper] and other in self._bonds[through]:
            middle = self._bonds[through][other]
            placement = chain_placements(placement_of(self._bonds[keeper][through]), placement_of(middle))
        else:
            a, b = sorted((left.id, right.id))
            self._wanted[pair] = CandidatePair(a, b, Source.DERIVED, hash_bits(left, right, 0))
            return
        self._wanted[pair] = derive_pair(left, right, placement)

    # The steps.

    def _split_hubs(self) -> list[bytes]:
        """Cut the edited bonds of pictures that resemble many which do not resemble each other."""
        hubs = []
        for digest in self._place:
            local = [
                other
                for other, match in self._bonds[digest].items()
                if match.relation is Relation.EDITED and match.changes and _is_local(match)
            ]
            if len(local) < HUB_DEGREE:
                continue
            local.sort(key=self._place.__getitem__)
            agree = differ = 0
            for a, b in islice(pairwise(local), HUB_SAMPLE):
                if b in self._bonds[a]:
                    agree += 1
                elif self._is_measured(a, b):
                    differ += 1
                else:
                    self._want(a, b, digest)
            if differ > agree and differ >= HUB_DEGREE // 2:
                hubs.append(digest)
        for digest in hubs:
            bonds = self._bonds[digest]
            for other in [other for other, match in bonds.items() if match.relation is Relation.EDITED]:
                self._loose[digest][other] = bonds.pop(other)
                self._loose[other][digest] = self._bonds[other].pop(digest)
        return hubs

    def _make_stars(self) -> dict[bytes, list[bytes]]:
        """Centre to the proven copies that were measured against it, in keeper order."""
        centre_of: dict[bytes, bytes] = {}
        stars: dict[bytes, list[bytes]] = {}
        for digest in self._place:
            if digest in centre_of:
                continue
            centre_of[digest] = digest
            copies = [
                other
                for other, match in self._bonds[digest].items()
                if match.relation.is_safe and other not in centre_of
            ]
            stars[digest] = sorted(copies, key=self._place.__getitem__)
            centre_of.update(dict.fromkeys(copies, digest))
        return stars

    def _join_stars(self, stars: dict[bytes, list[bytes]]) -> list[_Draft]:
        """One draft per keeper; a star goes under an earlier keeper if its centre and half of its copies were confirmed
        against that keeper. Copies that were not go their own way."""
        drafts: dict[bytes, _Draft] = {}
        waiting = dict(stars)
        for digest in self._place:
            copies = waiting.get(digest)
            if copies is None:
                continue
            keeper = self._keeper_for(digest, drafts)
            if keeper is None:
                drafts[digest] = _Draft(digest, dict.fromkeys(copies))
                continue
            for copy in copies:
                if copy not in self._bonds[keeper] and not self._is_measured(keeper, copy):
                    self._want(keeper, copy, digest)
            confirmed = [copy for copy in copies if copy in self._bonds[keeper]]
            refused = [
                copy for copy in copies if copy not in self._bonds[keeper] and self._is_measured(keeper, copy)
            ]
            if len(refused) > len(confirmed):
                drafts[digest] = _Draft(digest, dict.fromkeys(copies))
                continue
            drafts[keeper].members[digest] = None
            drafts[keeper].members.update(dict.fromkeys(confirmed, digest))
            # They come later in the order, so their own turn is still ahead.
            waiting.update((copy, []) for copy in copies if copy not in confirmed)
        return list(drafts.values())

    def _keeper_for(self, digest: bytes, drafts: Mapping[bytes, _Draft]) -> bytes | None:
        """The earlier keeper that this picture is an edited version of; the most alike if there are several."""
        bonds = self._bonds[digest]
        keepers = [other for other in bonds if other in drafts]
        if not keepers:
            return None
        return min(keepers, key=lambda k: (-round(bonds[k].figures.correlation, 1), self._place[k]))

    def _name_copies(self, drafts: Sequence[_Draft]) -> None:
        """Ask for pairs of edited members that look like copies of one version, and for matches that read backwards."""
        for draft in drafts:
            heads: list[bytes] = []
            for member in sorted(draft.members, key=self._place.__getitem__):
                self._want(draft.keeper, member)
                head = draft.members[member]
                if head is not None:
                    self._want(head, member)
                    if self._bonds[draft.keeper][member].relation.is_safe:
                        draft.members[member] = None
                    continue
                if self._bonds[draft.keeper][member].relation is not Relation.EDITED:
                    continue
                near = [
                    (distance, h) for h in heads if (distance := self._copy_distance(h, member)) is not None
                ]
                for _, other in sorted(near, key=lambda item: (item[0], self._place[item[1]]))[:COPY_TRIES]:
                    if not self._is_measured(other, member):
                        self._want(other, member, draft.keeper)
                heads.append(member)

    def _copy_distance(self, head: bytes, member: bytes) -> float | None:
        """How far apart the colours of two edited members are; None if they cannot be copies of each other."""
        a, b = self._first(head), self._first(member)
        if abs(a.info.width_px * b.info.height_px / (a.info.height_px * b.info.width_px) - 1) > 0.03:
            return None
        if hash_bits(a, b, 0) > COPY_BITS:
            return None
        cells = [abs(x - y) for x, y in zip(a.fingerprint.colour, b.fingerprint.colour, strict=False)]
        mean = sum(cells) / len(cells) if cells else 0.0
        return mean if mean <= COPY_MEAN_LEVELS and max(cells, default=0) <= COPY_CELL_LEVELS else None

    def _reach_further(self, home: Mapping[bytes, _Draft]) -> None:
        """Ask for what a chain would have reached: the neighbours of a confirmed member, against its keeper."""
        place = self._place.__getitem__
        # In keeper order, since the first way to a pair gives it its hypothesis.
        for digest in sorted(self._bonds, key=place):
            for other in sorted(self._bonds[digest], key=place):
                if digest not in home or other not in home or home[digest] is home[other]:
                    continue
                mine, theirs = home[digest].keeper, home[other].keeper
                if place(mine) < place(theirs):
                    if not self._is_measured(mine, other):
                        self._want(mine, other, digest)
                    elif not self._is_measured(mine, theirs):
                        self._want(mine, theirs, other)
        # Measured against a poor rendition, a version may look like another moment; the two keepers know better.
        for (left, right), match in self._match.items():
            if match.relation is Relation.SIMILAR and left in home and right in home:
                ends = sorted((home[left].keeper, home[right].keeper), key=place)
                if ends[0] != ends[1] and not self._is_measured(*ends):
                    self._want(*ends)

    # The records.

    def _finished(
        self,
        draft: _Draft,
        home: Mapping[bytes, _Draft],
        reasons: Callable[[Photo, Sequence[Photo]], tuple[str, ...]] | None,
        unit_files: Callable[[Photo], tuple[str, ...]] | None,
    ) -> DuplicateGroup:
        keeper = self._first(draft.keeper)
        copies = self._files[draft.keeper][1:]
        members = [self._member(keeper, _same_bytes(keeper, photo), None, None) for photo in copies]
        for digest, head in draft.members.items():
            bond = self._bonds[draft.keeper][digest]
            first, *others = self._files[digest]
            copy_match = None if head is None else self._bonds[head][digest]
            members.append(
                self._member(keeper, bond, None if head is None else self._first(head), copy_match)
            )
            for photo in others:
                copied = replace(bond, right=photo.id)
                if bond.relation.is_safe:
                    members.append(self._member(keeper, copied, None, None))
                elif head is None:
                    members.append(self._member(keeper, copied, first, _same_bytes(first, photo)))
                else:
                    assert copy_match is not None
                    members.append(
                        self._member(keeper, copied, self._first(head), replace(copy_match, right=photo.id))
                    )
        members.sort(key=lambda member: member.photo.file.path_bytes)
        if unit_files is not None:
            members = [replace(member, unit_files=unit_files(member.photo)) for member in members]
        digests = sorted({keeper.digest, *(member.photo.digest for member in members)})
        return DuplicateGroup(
            id=hashlib.sha256(b"".join(digests)).hexdigest()[:12],
            keeper=keeper,
            keeper_reasons=reasons(keeper, [member.photo for member in members]) if reasons else (),
            keeper_unit_files=unit_files(keeper) if unit_files else (),
            members=tuple(members),
            also_like=self._also_like(draft, home),
            freed_bytes=_freed_bytes(keeper, members),
        )

    def _member(self, keeper: Photo, match: Match, head: Photo | None, copy_match: Match | None) -> Member:
        photo = self._by_id[match.right]
        linked = (photo.file.device, photo.file.inode) == (keeper.file.device, keeper.file.inode)
        if linked:
            match = replace(match, sentence="the same file, already a hard link to it")
        return Member(
            photo=photo,
            match=match,
            unit_files=(),
            copy_of=None if head is None else head.id,
            copy_match=copy_match,
            also_link_of=linked,
        )

    def _also_like(self, draft: _Draft, home: Mapping[bytes, _Draft]) -> tuple[AlsoLike, ...]:
        """What resembles the keeper or a member but stands elsewhere; once each, by the strongest likeness."""
        inside = (draft.keeper, *sorted(draft.members, key=self._place.__getitem__))
        found: dict[bytes, tuple[int, int, Match, str]] = {}
        for place, digest in enumerate(inside):
            hub_bonds = self._loose.get(digest, {})
            for other, match in (*self._bonds[digest].items(), *hub_bonds.items()):
                if other in inside:
                    continue
                elsewhere = home.get(other)
                if other in hub_bonds:
                    why = "one of the two resembles too many photos that differ among themselves"
                elif (
                    draft.keeper in self._bonds[other]
                    and elsewhere
                    and (elsewhere.members or elsewhere.keeper != other)
                ):
                    why = f"it stands in the group of {self._first(elsewhere.keeper).file.path}"
                else:
                    why = "not confirmed against the kept photo"
                if other not in found or (_RANK[match.relation], place) < found[other][:2]:
                    found[other] = (_RANK[match.relation], place, match, why)
        rows = [
            AlsoLike(self._first(other).id, self._first(other).file.path, match.relation, match.sentence, why)
            for other, (_, _, match, why) in found.items()
        ]
        return tuple(sorted(rows, key=lambda row: _bytes_of(row.path)))

    def _similar_pairs(self, home: Mapping[bytes, _Draft]) -> tuple[SimilarPair, ...]:
        pairs: dict[Pair, SimilarPair] = {}
        for a, b in self._match:
            left, right = sorted((a, b), key=self._place.__getitem__)
            if (left, right) in pairs or (left in home and home[left] is home.get(right)):
                continue
            match = self._best(left, right)
            if match.relation is Relation.SIMILAR:
                pairs[left, right] = SimilarPair(self._first(left), self._first(right), match)
        return tuple(sorted(pairs.values(), key=lambda p: (p.left.file.path_bytes, p.right.file.path_bytes)))


def _bytes_of(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _strength(match: Match) -> tuple[Any, ...]:
    """Strongest relation first; the figures and the sentence make the choice the same whatever the order."""
    figures = match.figures
    return (
        _RANK[match.relation],
        figures.rms_levels,
        -figures.correlation,
        match.sentence,
        match.left,
        match.right,
    )


def _is_local(match: Match) -> bool:
    """Whether the pictures differ in places only, and not in tone, frame or orientation."""
    kinds = Counter(change.kind for change in match.changes)
    return bool(_LOCAL_KINDS & kinds.keys()) and not kinds.keys() - _LOCAL_KINDS - {
        "recompressed",
        "resized",
        "metadata",
    }


def _same_bytes(left: Photo, right: Photo) -> Match:
    return Match(
        left.id,
        right.id,
        Relation.SAME_BYTES,
        "the same bytes",
        (),
        _SAME_BYTES_FIGURES,
        Source.BYTES,
        "unknown",
    )


def _freed_bytes(keeper: Photo, members: Iterable[Member]) -> int:
    """Bytes that come back when the safe members go.

    A file with several names comes back only when all its names go; names outside the library keep it alive.
    """
    names: Counter[tuple[int, int]] = Counter()
    files: dict[tuple[int, int], Photo] = {}
    for member in members:
        if member.match.relation.is_safe:
            inode = (member.photo.file.device, member.photo.file.inode)
            names[inode] += 1
            files[inode] = member.photo
    names.pop((keeper.file.device, keeper.file.inode), None)
    return sum(
        files[inode].file.size_bytes
        for inode, count in names.items()
        if count >= files[inode].file.link_count
    )
