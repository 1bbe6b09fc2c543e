"""A Spark session of ours: started quietly, watched with our own progress, cancelled with everything it runs.

Promises: Python on the executors is this interpreter unless somebody said otherwise; an action that is interrupted
takes its jobs along. Does not: know what is computed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dedup.engine import Later
from dedup.errors import InternalFault, MissingExtra, Unsafe, UsageError
from dedup.pipeline import Progress

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

T = TypeVar("T")

LOOK_S = 0.25
"""How often progress is looked at."""

BATCH_ROWS = 4096
"""Rows of an Arrow batch between Spark and Python: with two greys each, 36 MB."""


class Session:
    """A running Spark. Use as a context manager."""

    def __init__(self, master: str = "", options: Mapping[str, str] | None = None) -> None:
        try:
            from pyspark import SparkConf
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise MissingExtra("Spark needs pyspark: pip install 'photo-dedup[spark]'") from error
        if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
            raise MissingExtra("Spark needs Java 17 or 21, and there is none: see `dedup doctor`")
        # Daemons of the executors that Spark starts on this machine inherit it; a cluster's have their own.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
        self._place = tempfile.TemporaryDirectory(prefix="dedup-spark-")
        self._log = os.path.join(self._place.name, "spark.log")
        os.environ.setdefault("SPARK_WORKER_DIR", os.path.join(self._place.name, "work"))
        warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
        here = SparkConf().get("spark.master") or ""
        self.master = master or here or "local[*]"
        # Somebody's running session, of a notebook for example, is used as it is, and left running.
        self._is_own = SparkSession.getActiveSession() is None
        builder = SparkSession.builder.appName("dedup").master(self.master)
        for name, value in {**_options(self.master), **(options or {})}.items():
            builder = builder.config(name, value)
        handlers = _handlers()
        try:
            with _stderr_into(self._log):
                self.spark: SparkSession = builder.getOrCreate()
        except Exception as error:
            words = _last_line(error, self._log)
            self._place.cleanup()
            raise UsageError(f"Spark does not start on {self.master} ({words})") from error
        finally:
            _restore(handlers)  # Spark puts its own handler of Ctrl-C in the place of ours
        self.context = self.spark.sparkContext
        self.spark.conf.set("spark.sql.shuffle.partitions", str(4 * self.slots))

    @property
    def jvm(self) -> int:
        """The process of Spark's driver on this machine."""
        jvm: Any = self.context._jvm
        return int(jvm.java.lang.ProcessHandle.current().pid())

    @property
    def slots(self) -> int:
        """Tasks that run at the same time."""
        return int(self.context.defaultParallelism)

    def batch_rows(self, count: int) -> None:
        """Rows of the Arrow batches of what is asked from now on."""
        self.spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(count))

    def close(self) -> None:
        """Stop Spark."""
        if self._is_own:
            with suppress(Exception):
                self.spark.stop()
        self._place.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- running --------------------------------------------------------------------------------------------------

    def run(self, action: Callable[[], T], look: Callable[[int, int], None] | None = None) -> T:
        """Run something that makes Spark work.

        Parameters
        ----------
        action
            Called in a thread of its own.
        look
            Called now and then with the tasks that are done, and all tasks, of the stages at work.

        Raises
        ------
        InternalFault
            If a task failed for good.
        """
        later = Later(action)
        tracker = self.context.statusTracker()
        try:
            while not later.is_done:
                time.sleep(LOOK_S)
                if look is not None:
                    infos = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
                    found = [info for info in infos if info is not None]
                    if found:
                        look(sum(i.numCompletedTasks for i in found), sum(i.numTasks for i in found))
            return later.result()
        except (InternalFault, UsageError, Unsafe):
            raise
        except Exception as error:
            raise InternalFault(f"a Spark job failed: {_reason(error)}") from error
        except BaseException:
            with suppress(Exception):
                self.context.cancelAllJobs()
            raise

    def over_parts(
        self,
        function: Callable[[int], Mapping[str, int]],
        numbers: Sequence[int],
        progress: Progress,
        stage: str,
    ) -> dict[str, int]:
        """Call a function once for each number, each in a task of its own, and add up what it gives.

        Parameters
        ----------
        function
            Importable by name, or a `partial` of such a one. It may be called twice for a number, if an executor is
            lost, and leaves its result in the data set.
        """
        total: dict[str, int] = {}
        progress(stage, 0, len(numbers))
        if not numbers:
            return total
        frame = self.spark.range(0, len(numbers), 1, len(numbers))
        answered = frame.mapInArrow(partial(_call_parts, function, list(numbers)), "name string, value long")
        rows = self.run(answered.collect, lambda done, of: progress(stage, min(done, of), len(numbers)))
        for name, value in rows:
            total[name] = total.get(name, 0) + int(value)
        progress(stage, len(numbers), len(numbers))
        return total

    def frame_of_parts(
        self, function: Callable[[int], Iterator[Any]], numbers: Sequence[int], schema: str
    ) -> DataFrame:
        """A frame of the record batches that a function gives for each number, several numbers to a task."""
        tasks = max(
            1, min(len(numbers), 4 * self.slots if len(numbers) < 64 * self.slots else len(numbers) // 16)
        )
        frame = self.spark.range(0, len(numbers), 1, tasks)
        return frame.mapInArrow(partial(_read_parts, function, list(numbers)), schema)


def _call_parts(
    function: Callable[[int], Mapping[str, int]], numbers: Sequence[int], batches: Iterator[Any]
) -> Iterator[Any]:
    import pyarrow

    for batch in batches:
        for at in batch.column(0).to_pylist():
            found = function(numbers[at])
            yield pyarrow.RecordBatch.from_pydict(
                {"name": pyarrow.array(list(found), pyarrow.string()), "value": list(found.values())},
                schema=pyarrow.schema([("name", pyarrow.string()), ("value", pyarrow.int64())]),
            )


def _read_parts(
    function: Callable[[int], Iterator[Any]], numbers: Sequence[int], batches: Iterator[Any]
) -> Iterator[Any]:
    for batch in batches:
        for at in batch.column(0).to_pylist():
            yield from function(numbers[at])


def _options(master: str) -> dict[str, str]:
    options = {
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Tasks of ours are long and uneven; one that is started twice reads every picture twice.
        "spark.speculation": "false",
    }
    if master.startswith("local"):
        own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        options |= {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.executorEnv.PYTHONPATH": os.pathsep.join([own, os.environ.get("PYTHONPATH", "")]).rstrip(
                ":"
            ),
            "spark.executorEnv.PYTHONWARNINGS": "ignore",
        }
    return options


def _handlers() -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def _restore(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextmanager
def _stderr_into(path: str) -> Iterator[None]:
    """Give a process that is started inside a file to complain into, for as long as it lives: Java tells of much that
    is no trouble, and a task that failed once is tried again."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(path, "ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _last_line(error: BaseException, log: str) -> str:
    with open(log, encoding="utf-8", errors="replace") as file:
        told = [line.strip() for line in file if "Exception" in line or "rror" in line]
    lines = told or [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _reason(error: BaseException) -> str:
    """The last exception of the Python tracebacks inside what Spark says, or the first line of that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if _AN_EXCEPTION.match(line)]
    return (ours[-1] if ours else lines[0] if lines else type(error).__name__)[:600]


_AN_EXCEPTION = re.compile(
    r"(?!org[.]|java[.]|py4j[.])[A-Za-z_.]*(?:Error|Exception|Fault|Doubt|Unsafe|Extra): "
)
