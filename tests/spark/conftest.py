"""One small cluster on this machine for all tests - two executors in processes of their own, one core each - and an S3
that a package brings, on loopback."""

from __future__ import annotations

import os
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
    elif any(find_spec(name) is None for name in ("pyspark", "s3fs", "moto")):
        why = "needs pyspark, s3fs and moto: make test-spark installs them"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.spark)
            # What these packages warn of is theirs to mend.
            item.add_marker(pytest.mark.filterwarnings("default"))
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def store() -> Iterator[str]:
    """The address of an S3 on this machine, which everything started from here finds by its environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    os.environ.update(
        AWS_ENDPOINT_URL=address,
        AWS_ACCESS_KEY_ID="testing",
        AWS_SECRET_ACCESS_KEY="testing",
        AWS_DEFAULT_REGION="us-east-1",
    )
    yield address
    server.stop()


@pytest.fixture(scope="session")
def cluster(store: str) -> Iterator[Session]:
    from dedup.spark.session import Session

    with Session(MASTER) as session:
        yield session
