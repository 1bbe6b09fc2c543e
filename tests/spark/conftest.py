"""One small cluster on this machine for all tests: two executors in processes of their own, one core each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dedup.spark.session import Session

MASTER = "local-cluster[2,1,1024]"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = ""
    if shutil.which("java") is None:
        why = "needs Java 17 or 21"
    elif find_spec("pyspark") is None:
        why = "needs pyspark: make test-spark installs it"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.spark)
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Session]:
    from dedup.spark.session import Session

    with Session(MASTER) as session:
        yield session
