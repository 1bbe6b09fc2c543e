"""`scan_on_spark`: the stages of a scan in order, each leaving Parquet that the next one, or a restart, takes up.

Promises: started again with the same words, a scan goes on where it stopped, and a picture that was read is not read
again; the groups are those of a scan on one machine. Does not: write among the photos, or plan for object stores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from dedup import __version__
from dedup.confirm import CONFIRM_RECIPE
from dedup.errors import CatalogueInDoubt, UsageError
from dedup.fingerprint import RECIPE
from dedup.pipeline import Progress, is_address, load_dataset_outcome
from dedup.pipeline.dataset import DataSet
from dedup.pipeline.found import make_dataset_tally
from dedup.pipeline.places import absolute_folder
from dedup.pipeline.results import deciding_settings, summary_to_plain, tally_to_plain
from dedup.records import IndexQuality, ScanOutcome, ScanSummary
from dedup.settings import Settings
from dedup.spark.listing import absolute_places, list_files
from dedup.spark.portions import make_portions
from dedup.spark.reading import read_part
from dedup.spark.searching import search_candidates
from dedup.spark.session import Session
from dedup.spark.settling import settle_large, settle_part


@dataclass(frozen=True, slots=True)
class Where:
    """Where a scan runs, and where its result goes."""

    out: str
    """A folder that every executor reaches under this name, or an fsspec address."""
    master: str = ""
    """As Spark calls it; empty for what `spark-submit` says, or else every core of this machine."""


def scan_on_spark(
    roots: Sequence[str], settings: Settings, where: Where, progress: Progress | None = None
) -> ScanOutcome:
    """Scan folders and object stores on Spark.

    Parameters
    ----------
    roots
        Folders that every executor reaches under this name, or fsspec addresses.
    settings
        As for a scan on one machine; `db` and `jobs` are not used.

    Returns
    -------
    ScanOutcome
        `load_dataset_report(where.out)` gives the report.

    Raises
    ------
    MissingExtra
        Without pyspark or Java.
    UsageError
        If the data set at `where.out` was made from other roots or with other settings.
    InternalFault
        If a task fails for good.
    """
    places = absolute_places(roots)
    settings = replace(
        settings, prefer=_absolute(settings.prefer), protect=_absolute(settings.protect), db="", jobs=1
    )
    dataset = DataSet(where.out)
    basis = {
        "roots": list(places),
        "settings": deciding_settings(settings),
        "recipe": RECIPE,
        "confirm_recipe": CONFIRM_RECIPE,
    }
    note = dataset.note()
    if note and note.get("basis") != basis:
        differ = [name for name in basis if basis[name] != note.get("basis", {}).get(name)]
        raise UsageError(
            f"{where.out}: a data set that was made with other {' and '.join(differ).replace('_', ' ')} is here;"
            " give another --out, or remove it"
        )
    if note.get("finished"):
        return load_dataset_outcome(where.out)
    dataset.make()
    run = _Run(dataset, settings, basis, note or {"basis": basis}, progress or (lambda *_: None))
    with Session(where.master) as session:
        return run.all(session)


def _absolute(folders: Sequence[str]) -> tuple[str, ...]:
    return tuple(folder.rstrip("/") if is_address(folder) else absolute_folder(folder) for folder in folders)


class _Run:
    def __init__(
        self,
        dataset: DataSet,
        settings: Settings,
        basis: dict[str, Any],
        note: dict[str, Any],
        progress: Progress,
    ) -> None:
        self.dataset = dataset
        self.settings = settings
        self.basis = basis
        self.note = note
        self.progress = progress
        self.began = time.monotonic()

    def _step(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do a stage, unless the note says that it is done, and note what came of it."""
        if name in self.note:
            return
        began = time.monotonic()
        found = work()
        self.note[name] = found | {"seconds": round(time.monotonic() - began, 3)}
        self.dataset.put_note(self.note)

    def all(self, session: Session) -> ScanOutcome:
        """All stages."""
        self.dataset.put_note(self.note)
        self._step("listed", lambda: self._list(session))
        self._step("read", lambda: self._read(session))
        self._step("searched", lambda: search_candidates(session, self.dataset, self.settings, self.progress))
        self._step("cut", lambda: make_portions(session, self.dataset, self.progress))
        self._step("settled", lambda: self._settle(session))
        return self._finish()

    def _list(self, session: Session) -> dict[str, Any]:
        roots = self.basis["roots"]
        files, over = list_files(self.dataset, roots, self.settings, session.slots, self.progress)
        return {"files": files, "passed_over": over}

    def _read(self, session: Session) -> dict[str, Any]:
        listed, there = self.dataset.parts("listing"), set(self.dataset.parts("files"))
        todo = [number for number in listed if number not in there]
        read = partial(read_part, self.dataset.place, self.settings)
        found = session.over_parts(read, todo, self._in_photos(len(listed), len(there)), "hash")
        return {"decoded": found.get("decoded", 0), "parts": len(listed), "before": len(there)}

    def _in_photos(self, parts: int, before: int) -> Progress:
        """Parts told as photos, since that is what a person knows the number of."""
        files = int(self.note["listed"]["files"])

        def told(stage: str, done: int, _: int | None) -> None:
            self.progress(stage, (before + done) * files // max(1, parts), files)

        return told

    def _settle(self, session: Session) -> dict[str, Any]:
        members, large = self.dataset.parts("members"), list(self.note["cut"]["large"])
        if len(members) != int(self.note["cut"]["filled"]):
            raise CatalogueInDoubt(
                f"{self.dataset.place}/members: parts are missing; remove the data set and scan again"
            )
        there = set(self.dataset.parts("groups"))
        todo = [number for number in members if number not in there and number not in large]
        settle = partial(settle_part, self.dataset.place, self.settings)
        found = session.over_parts(settle, todo, self.progress, "confirm")
        confirmed = found.get("confirmed", 0)
        for number in large:
            confirmed += settle_large(session, self.dataset, self.settings, number, self.progress)[
                "confirmed"
            ]
        return {"confirmed": confirmed, "fetched": found.get("fetched", 0)}

    def _finish(self) -> ScanOutcome:
        note = self.note
        tally = make_dataset_tally(self.dataset)
        listed = note["listed"]
        spent = sum(step["seconds"] for step in note.values() if isinstance(step, dict) and "seconds" in step)
        quality = note["searched"].get("index")
        summary = ScanSummary(
            roots=tuple(self.basis["roots"]),
            files=int(listed["files"]) + int(listed["passed_over"]),
            photos=int(note["searched"]["photos"]),
            read=int(note["read"]["decoded"]),
            candidates=int(note["searched"]["candidates"]),
            confirmed=int(note["settled"]["confirmed"]),
            seconds=round(spent, 3),
            index=IndexQuality(**quality) if quality else IndexQuality(0, 0, 0, 0, "switched off"),
            version=__version__,
            recipe=RECIPE,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        note |= {"summary": summary_to_plain(summary), "tally": tally_to_plain(tally), "finished": True}
        self.dataset.put_note(note)
        return ScanOutcome(summary, tally)
