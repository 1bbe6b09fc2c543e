"""A home folder where commands are typed, as a person would; for tests of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from tests.safety.program import Program

_warm: list[Program] = []


def _warm_program() -> Program:
    if _warm and not _warm[0].is_running():
        close_warm()
    if not _warm:
        from tests.safety.program import Program

        _warm.append(Program())
    return _warm[0]


def close_warm() -> None:
    """End the process that the commands were forked from."""
    while _warm:
        _warm.pop().close()


class Desk:
    """A home folder with photos in it, and a way to type commands there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.photos = home / "Pictures"
        self.photos.mkdir(exist_ok=True)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DEDUP_", "XDG_", "NO_COLOR"))
        }
        self.environment = kept | {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parent.parent)}

    def start(self, *words: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen(
            [sys.executable, "-m", "dedup", *words], cwd=self.home, env=self.environment, **pipes
        )

    def type(self, *words: str | bytes, code: int = 0) -> tuple[str, str]:
        """Run a command to its end, in a fork of a process that has imported the program; what it said."""
        if not sys.platform.startswith("linux") or threading.current_thread() is not threading.main_thread():
            return self.type_cold(*words, code=code)
        warm = _warm_program()
        warm.env, warm.cwd = self.environment, self.home
        run = warm.run(*(os.fsdecode(word) for word in words))
        assert run.code == code, f"exit {run.code}\n{run.out}\n{run.err}"
        for said in (run.out, run.err):
            said.encode()  # UTF-8, all of it
        return run.out, run.err

    def type_cold(self, *words: str | bytes, code: int = 0) -> tuple[str, str]:
        """Run a command to its end, from the start of Python; what it said on stdout and stderr."""
        with self.start(*words) as process:
            out, err = process.communicate(timeout=120)
        said = err.decode()
        assert process.returncode == code, f"exit {process.returncode}\n{out.decode()}\n{said}"
        return out.decode(), said


def draw(seed: int, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """A picture with shapes and texture, another one for each seed."""
    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.integers(0, 256, (9, 12, 3), np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    fine = Image.fromarray(chance.integers(0, 256, (60, 80, 3), np.uint8)).resize(
        size, Image.Resampling.BILINEAR
    )
    return Image.blend(coarse, fine, 0.25)
