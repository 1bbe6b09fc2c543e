"""What travels between the stages: frozen, slotted records, in the order a photo meets them.

    finding.py  a file, a photo, a pair, a match, a group, a report
    acting.py   a decision, a plan and its operations, what came of them
    checking.py what the library says about one picture
    placing.py  where one picture lies in another, from what was found of both
    comparing.py  the measures of two pictures, the frames of a sequence

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
from dedup.records.checking import Answer, Checked, Likeness
from dedup.records.comparing import (
    Asked,
    Comparison,
    FramesAsked,
    Hurdle,
    Measure,
    Motion,
    Preparation,
    SequenceReport,
    Step,
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
    "Asked",
    "Answer",
    "CandidatePair",
    "Cause",
    "Change",
    "Checked",
    "Comparison",
    "Companion",
    "Decision",
    "DuplicateGroup",
    "Ending",
    "Figures",
    "Fingerprint",
    "FramesAsked",
    "GroupingResult",
    "Hurdle",
    "IndexQuality",
    "Inspection",
    "LeftOut",
    "Likeness",
    "Match",
    "Measure",
    "Member",
    "Metadata",
    "Motion",
    "Operation",
    "Outcome",
    "Photo",
    "PhotoFile",
    "PictureInfo",
    "Plain",
    "Plan",
    "PlanRoot",
    "PlannedFile",
    "Preparation",
    "Reason",
    "Relation",
    "Report",
    "ScanOutcome",
    "ScanSummary",
    "Selection",
    "SequenceReport",
    "Sight",
    "SimilarPair",
    "Skipped",
    "Source",
    "Step",
    "Tally",
    "Verdict",
    "xattrs_digest",
]
