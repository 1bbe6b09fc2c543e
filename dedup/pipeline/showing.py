"""The HTML report: its pictures drawn by workers, its file put in place whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dedup.pipeline.places import Progress
from dedup.records import Report
from dedup.settings import Settings

if TYPE_CHECKING:
    from dedup.engine import Engine
    from dedup.report.pictures import DrawnPictures, PicturesJob


def write_html(report: Report, settings: Settings, path: str, progress: Progress | None = None) -> None:
    """Write the report as one self-contained HTML file with thumbnails and difference pictures.

    Parameters
    ----------
    path
        Written beside it first and moved into place, so that an older report is never half overwritten.
    progress
        Called with the stage `pictures`.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from dedup.engine import Limits, open_engine
    from dedup.report.html import write_html as write
    from dedup.report.pictures import plan_pictures

    jobs = plan_pictures(report)
    limits = Limits(settings.memory_limit_bytes, settings.decode_timeout_s, settings.decode_timeout_s)
    temporary = f"{path}.{os.getpid()}.part"
    try:
        with open_engine(settings.jobs, limits) as engine, open(temporary, "w", encoding="utf-8") as out:
            write(report, out, _drawn(engine, jobs, progress))
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _drawn(engine: Engine, jobs: list[PicturesJob], progress: Progress | None) -> Iterator[DrawnPictures]:
    from dedup.engine import Failure
    from dedup.report.pictures import DrawnPictures, draw_pictures

    for done, (job, answer) in enumerate(engine.map(draw_pictures, jobs, patience=_sights), start=1):
        if progress is not None:
            progress("pictures", done, len(jobs))
        if isinstance(answer, Failure):
            # What breaks a worker is missing from the page; the names stand there all the same.
            yield DrawnPictures(job.key, (b"",) * len(job.sights), (b"",) * len(job.comparisons))
        else:
            yield answer


def _sights(job: PicturesJob) -> float:
    return max(1.0, len(job.sights))
