"""For all tests: linear algebra has one thread, as in a worker.

The tests run side by side already, and an OpenBLAS thread that waits for work spins: the same tests then take 1.8 times
the processor time. It must be said before NumPy is imported.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_unconfigure() -> None:
    """Leave no process behind."""
    from tests.desk import close_warm

    close_warm()
