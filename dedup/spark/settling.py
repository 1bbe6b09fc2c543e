"""Portions confirmed and grouped: the small ones each in a task, the large ones by all executors together.

Promises: the code that settles a portion is the one that a scan on one machine runs; a picture is fetched once for its
portion; a portion that is settled is not settled again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, Self, TypeVar

from dedup.engine import Engine, Failure, open_engine
from dedup.pipeline import Progress
from dedup.pipeline.dataset import (
    DataSet,
    load_arrow,
    pair_of,
    part_name,
    photo_of,
    result_schemas,
    skipped_row,
    units_of,
)
from dedup.pipeline.portion import PortionResult, match_row, settle_portion
from dedup.settings import Settings
from dedup.spark.fetching import Fetcher, FetchingEngine
from dedup.spark.reading import limits_of
from dedup.spark.session import Session

T = TypeVar("T")
R = TypeVar("R")


def settle_part(place: str, settings: Settings, number: int) -> Mapping[str, int]:
    """Settle a small portion; how many pairs were compared."""
    dataset = DataSet(place)
    if dataset.exists(part_name("groups", number)):
        return {"confirmed": 0}
    with Fetcher() as fetcher, FetchingEngine(open_engine(1, limits_of(settings)), fetcher) as engine:
        result = _settle(dataset, settings, number, engine, None)
    _write(dataset, number, result)
    return {"confirmed": result.confirmed, "fetched": fetcher.fetched}


def settle_large(
    session: Session, dataset: DataSet, settings: Settings, number: int, progress: Progress
) -> Mapping[str, int]:
    """Settle a large component: the driver decides what is compared, the executors compare."""
    if dataset.exists(part_name("groups", number)):
        return {"confirmed": 0}
    result = _settle(dataset, settings, number, SparkEngine(session, settings), progress)
    _write(dataset, number, result)
    return {"confirmed": result.confirmed}


def _settle(
    dataset: DataSet, settings: Settings, number: int, engine: Engine, progress: Progress | None
) -> PortionResult:
    rows = dataset.read_table(part_name("members", number)).to_pylist()
    photos = [photo_of(row) for row in rows]
    units = {photo.file.path: units_of(row) for photo, row in zip(photos, rows, strict=True) if row["units"]}
    del rows
    pairs: list[Any] = []
    if dataset.exists(part_name("pairs", number)):
        pairs = [pair_of(row) for row in dataset.read_table(part_name("pairs", number)).to_pylist()]
    return settle_portion(photos, pairs, units, settings, engine, progress)


def _write(dataset: DataSet, number: int, result: PortionResult) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "matches": [match_row(measured) for measured in result.measured],
        "inspections": [
            {
                "key": found.photo_id,
                "damage": found.damage,
                "effective_scale": found.effective_scale,
                "reason": reason,
                "detail": detail,
            }
            for found, reason, detail in result.inspections
        ],
        "spared": [{"left": left, "right": right, "hub": hub} for left, right, hub in result.spared],
        "late": [skipped_row(skipped) for skipped in result.late],
        "similar_pairs": [
            {"left_file": left, "right_file": right, "body": body} for left, right, body in result.similar
        ],
        "hubs": [{"file": hub} for hub in result.hubs],
        "groups": [
            {"relation": relation, "freed_bytes": freed, "body": body}
            for relation, freed, body in result.groups
        ],
    }
    arrow = load_arrow()
    for name, schema in result_schemas().items():
        if rows[name] or name == "groups":
            dataset.write_table(part_name(name, number), arrow.Table.from_pylist(rows[name], schema))


class SparkEngine:
    """An engine whose workers are the executors; each item is a task with a worker of its own."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session = session
        self._settings = settings

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        weight: Callable[[T], float] | None = None,
        patience: Callable[[T], float] | None = None,
    ) -> Iterator[tuple[T, R | Failure]]:
        """See `Engine.map`; a wave of tasks at a time."""
        if weight is not None:
            items = sorted(items, key=weight, reverse=True)
        waiting = iter(items)
        while wave := list(islice(waiting, 4 * self._session.slots)):
            run = partial(_run_item, self._settings, function)
            given = [(item, 1.0 if patience is None else patience(item)) for item in wave]
            jobs = self._session.context.parallelize(given, len(given))
            answers = self._session.run(jobs.map(run).collect)
            yield from zip(wave, answers, strict=True)

    def close(self) -> None:
        """Nothing to end: the session is not ours."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _run_item(settings: Settings, function: Callable[[Any], Any], given: tuple[Any, float]) -> Any:
    item, patience = given
    with Fetcher() as fetcher, FetchingEngine(open_engine(1, limits_of(settings)), fetcher) as engine:
        for _, answer in engine.map(function, [item], patience=lambda _: patience):
            return answer
    raise AssertionError("an engine gives every item back")
