"""A finished data set brought into a catalogue, so that everything that needs one - plans above all - works on it.

Promises: a catalogue that holds photos already is left alone; after it, a scan of the same folders reads and compares
nothing that did not change since. Does not: bring in object stores, where no plan could ever be carried out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dedup.catalogue import Catalogue, FileState, pack_group, pack_pair, rows
from dedup.confirm import CONFIRM_RECIPE
from dedup.errors import CatalogueInDoubt, UsageError
from dedup.fingerprint import RECIPE
from dedup.pipeline.dataset import DataSet, file_of, is_address, pair_of, photo_of, skipped_of
from dedup.pipeline.found import load_dataset_report, open_finished
from dedup.pipeline.looking import seen_mark
from dedup.pipeline.matching import search_recipe
from dedup.pipeline.places import Progress, catalogue_path, program_stamp
from dedup.pipeline.reading import attempt_text
from dedup.pipeline.results import LAST_ROOTS, deciding_settings, summary_from_plain, tally_from_plain
from dedup.records import CandidatePair, Inspection, Match, Reason, ScanOutcome, Skipped
from dedup.settings import Settings


def import_dataset(
    place: str, settings: Settings | None = None, progress: Progress | None = None
) -> ScanOutcome:
    """Bring a data set into a new catalogue.

    Parameters
    ----------
    place
        A folder, or an fsspec address.
    settings
        `db` says where the catalogue is.

    Raises
    ------
    UsageError
        If the data set is of an object store, was made by another version, or the catalogue holds photos already.
    """
    settings = settings or Settings()
    dataset = open_finished(place)
    note = dataset.note()
    basis = note["basis"]
    strange = next((root for root in basis["roots"] if is_address(root)), None)
    if strange is not None:
        raise UsageError(
            f"{place}: it is of {strange}, and object stores are for reports only: dedup report --from {place}"
        )
    if (basis["recipe"], basis["confirm_recipe"]) != (RECIPE, CONFIRM_RECIPE):
        raise UsageError(f"{place}: made by another version of dedup; it can be reported, but not imported")
    with Catalogue.open(catalogue_path(settings), write=True) as catalogue:
        if catalogue.known_files():
            raise UsageError(
                f"{catalogue.path}: holds photos already; import into a new catalogue with --db FILE"
            )
        with catalogue.all_or_nothing():
            return _Import(catalogue, dataset, note, settings, progress or (lambda *_: None)).run()


class _Import:
    def __init__(
        self,
        catalogue: Catalogue,
        dataset: DataSet,
        note: dict[str, Any],
        settings: Settings,
        progress: Progress,
    ) -> None:
        self.catalogue = catalogue
        self.dataset = dataset
        self.note = note
        self.progress = progress
        decided: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in note["basis"]["settings"].items()
        }
        self.settings = replace(settings, **decided)
        self.files: dict[int, int] = {}
        """From the ids of the data set to those of the catalogue."""
        self.contents: dict[int, int] = {}
        """From keys to contents."""

    def run(self) -> ScanOutcome:
        self._take_files()
        late = [skipped_of(row) for row in self.dataset.rows("late")]
        self._take_measured()
        return self._finish(late)

    def _take_files(self) -> None:
        catalogue, attempt = self.catalogue, attempt_text(self.settings)
        total = int(self.note["listed"]["files"])
        for table in self.dataset.tables("files"):
            found = table.to_pylist()
            catalogue.put_files(file_of(row) for row in found)
            last = catalogue.last_file()
            for number, row in enumerate(found, last - len(found) + 1):
                self.files[row["id"]] = number
                if row["key"] is None:
                    catalogue.put_failure(number, skipped_of(row), attempt)
                elif row["key"] in self.contents:
                    catalogue.attach(number, self.contents[row["key"]])
                else:
                    self.contents[row["key"]] = catalogue.put_photo(number, photo_of(row))
            self.progress("import", len(self.files), total)
        catalogue.set_passed_over(skipped_of(row) for row in self.dataset.rows("passed_over"))

    def _take_measured(self) -> None:
        catalogue, content = self.catalogue, self.contents
        for row in self.dataset.rows("matches"):
            low, high = content[row["low"]], content[row["high"]]
            if row["relation"]:
                left, right = (high, low) if row["turned"] else (low, high)
                match: Match = rows.match_from_text(left, right, row["relation"], row["body"])
                catalogue.put_match(match, CONFIRM_RECIPE)
            else:
                catalogue.put_unlike(low, high, CONFIRM_RECIPE)
        for row in self.dataset.rows("inspections"):
            number = content[row["key"]]
            if row["reason"]:
                why = Skipped("", "confirm", Reason(row["reason"]), row["detail"])
                catalogue.put_unconfirmable(number, why, CONFIRM_RECIPE)
            else:
                found = Inspection(number, row["damage"], row["effective_scale"])
                catalogue.put_inspection(found, CONFIRM_RECIPE)
        catalogue.put_candidates(self._left_over())
        for row in self.dataset.rows("spared"):
            catalogue.spare(content[row["left"]], content[row["right"]], content[row["hub"]])
        catalogue.mark_indexed(content.values(), search_recipe(self.settings))

    def _left_over(self) -> Iterator[CandidatePair]:
        """Candidate pairs by contents; the catalogue leaves out what was measured."""
        for row in self.dataset.rows("candidates"):
            pair = pair_of(row)
            yield replace(pair, left=self.contents[pair.left], right=self.contents[pair.right])

    def _finish(self, late: list[Skipped]) -> ScanOutcome:
        catalogue = self.catalogue
        report = load_dataset_report(self.dataset.place)
        for group in report.groups:
            catalogue.put_group(LAST_ROOTS, pack_group(group, self.files.__getitem__))
        for pair in report.similar:
            catalogue.put_similar(LAST_ROOTS, pack_pair(pair.match, self.files.__getitem__))
        number_of = {row[0]: row[8] for row in catalogue.known_files()}
        for hub in report.hubs:
            catalogue.put_hub(LAST_ROOTS, number_of[hub])
        photos = {row[8] for row in catalogue.known_files() if row[7] == FileState.PHOTO}
        if len(photos) != int(self.note["searched"]["photos"]):
            raise CatalogueInDoubt(
                f"{self.dataset.place}: files of it are missing or twice; scan into a new folder"
            )
        roots = tuple(self.note["basis"]["roots"])
        plain = {
            **self.note["summary"],
            "late": [[skipped.path, skipped.reason, skipped.detail] for skipped in late],
            "wider": False,
            "tally": self.note["tally"],
        }
        basis = {
            "roots": list(roots),
            "settings": deciding_settings(self.settings),
            "stamp": program_stamp(),
            "seen": seen_mark(set(number_of.values())),
            "unsettled": bool(late),
            "unfinished": False,
        }
        catalogue.put_scope_files(LAST_ROOTS, photos)
        catalogue.put_scan(basis, plain)
        catalogue.put_roots(roots)
        catalogue.pack_files()
        return ScanOutcome(summary_from_plain(plain), tally_from_plain(self.note["tally"]))
