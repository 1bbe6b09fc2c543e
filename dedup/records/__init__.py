"""What travels between the stages: frozen, slotted records, in the order a photo meets them.

    finding.py  a file, a photo, a pair, a match, a group, a report
    acting.py   a decision, a plan and its operations, what came of them

Promises: every record is complete when it is made, holds plain values only (so it is equal, hashable
and cheap to send to a worker), and never changes; a later stage makes a new record around the old one.
Does not: open, measure or decide anything.
"""

from __future__ import annotations

from typing import Any

from dedup.records.acting import (
    UNTOLD,
    Act,
    Cause,
    Companion,
    Decision,
    Ending,
    LeftOut,
    Operation,
    Outcome,
    Plan,
    PlannedFile,
    PlanRoot,
    Selection,
    Sight,
    Verdict,
    xattrs_digest,
)
from dedup.records.finding import (
    AlsoLike,
    CandidatePair,
    Change,
    DuplicateGroup,
    Figures,
    Fingerprint,
    GroupingResult,
    IndexQuality,
    Inspection,
    Match,
    Member,
    Metadata,
    Photo,
    PhotoFile,
    PictureInfo,
    Reason,
    Relation,
    Report,
    ScanOutcome,
    ScanSummary,
    SimilarPair,
    Skipped,
    Source,
    Tally,
)

Plain = dict[str, Any]
"""A JSON object."""

__all__ = [
    "UNTOLD",
    "Act",
    "AlsoLike",
    "CandidatePair",
    "Cause",
    "Change",
    "Companion",
    "Decision",
    "DuplicateGroup",
    "Ending",
    "Figures",
    "Fingerprint",
    "GroupingResult",
    "IndexQuality",
    "Inspection",
    "LeftOut",
    "Match",
    "Member",
    "Metadata",
    "Operation",
    "Outcome",
    "Photo",
    "PhotoFile",
    "PictureInfo",
    "Plain",
    "Plan",
    "PlanRoot",
    "PlannedFile",
    "Reason",
    "Relation",
    "Report",
    "ScanOutcome",
    "ScanSummary",
    "Selection",
    "Sight",
    "SimilarPair",
    "Skipped",
    "Source",
    "Tally",
    "Verdict",
    "xattrs_digest",
]
