"""The process from which runs of the program are forked: it has imported everything once.

A run is the program's own `main`, in a fork, with the words and variables it was given; nothing else of the program is
touched here. A cold start costs eight times what a small apply does.

Speaks JSON lines: one request in, `{"pid": n}` out, `"go"` in, and the run begins.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any


def import_all(package: ModuleType) -> None:
    """Import every module of a package, and what they import."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)


def serve(name: str, entry: str) -> None:
    """Take requests until the input ends."""
    package = importlib.import_module(name)
    import_all(package)
    from tests.safety.tracer import stop_me_at

    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        waits, goes = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(goes)
            os.read(waits, 1)
            os.close(waits)
            _run(request, name, entry, stop_me_at)
        os.close(waits)
        answer.write(json.dumps({"pid": pid}) + "\n")
        answer.flush()
        sys.stdin.readline()
        os.write(goes, b"g")
        os.close(goes)
        _, status = os.waitpid(pid, 0)
        answer.write(json.dumps({"code": os.waitstatus_to_exitcode(status)}) + "\n")
        answer.flush()


def _run(request: dict[str, Any], name: str, entry: str, stop_me_at: Any) -> None:
    code = 70
    try:
        os.setsid()
        for number, path in enumerate((request["stdin"], request["stdout"], request["stderr"])):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
            opened = os.open(path, flags, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = [name, *(os.fsdecode(bytes.fromhex(word)) for word in request["words"])]
        main = importlib.import_module(f"{name}.cli" if entry == "main" else name).main
        if request["user"]:
            os.setgroups([])
            os.setgid(request["user"])
            os.setuid(request["user"])
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python sets it at a cold start
        if request["calls"]:
            stop_me_at(request["calls"])
        try:
            code = main() or 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        with suppress(Exception):
            traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "main")
