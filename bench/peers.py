"""Two duplicate finders that many people use, each in a virtual environment of its own, on the same files.

Neither confirms anything: they compare hashes. A peer that cannot be installed is left out, with the reason.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

INSTALL_LIMIT_S = 900
RUN_LIMIT_S = 1800


@dataclass(frozen=True, slots=True)
class Peer:
    """A duplicate finder from PyPI."""

    name: str
    requirement: str
    program: str
    """Python text; the folder is its only argument."""
    bar: float
    """Our whole run may take this share of its wall time."""


PEERS = (
    Peer(
        "czkawka",
        "czkawka",
        """
import sys
from pathlib import Path
from czkawka import ImageSimilarity
finder = ImageSimilarity()
finder.set_directories([Path(sys.argv[1])])
finder.set_similarity(10)
print(len(finder.find_similar()))
""",
        0.9,
    ),
    Peer(
        "imagededup PHash",
        "imagededup",
        """
import sys
from imagededup.methods import PHash
if __name__ == "__main__":
    method = PHash(verbose=False)
    encodings = method.encode_images(image_dir=sys.argv[1], recursive=True)
    found = method.find_duplicates(encoding_map=encodings, max_distance_threshold=8)
    print(sum(map(bool, found.values())))
""",
        0.5,
    ),
)


def install(peer: Peer, folder: Path) -> tuple[Path | None, str]:
    """The program to run with its interpreter beside it, or None and the reason."""
    home = folder / f"peer-{peer.requirement}"
    python = home / "bin" / "python"
    script = home / "run.py"
    if not script.exists():
        print(f"installing {peer.name} ...")
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True, capture_output=True)
            subprocess.run(
                [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", peer.requirement],
                check=True,
                capture_output=True,
                timeout=INSTALL_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return None, f"not installed within {INSTALL_LIMIT_S} s"
        except subprocess.CalledProcessError as error:
            words = (error.stderr or error.stdout or b"").decode("utf-8", "replace").strip().splitlines()
            return None, words[-1] if words else f"installing ended with exit code {error.returncode}"
        script.write_text(peer.program)
    return script, ""


def run_s(script: Path, root: Path) -> tuple[float | None, str]:
    """Wall seconds of the whole process, or None and the reason."""
    begun = time.monotonic()
    try:
        done = subprocess.run(
            [script.parent / "bin" / "python", script, root],
            capture_output=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"not done within {RUN_LIMIT_S} s"
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return None, words[-1] if words else f"exit code {done.returncode}"
    return time.monotonic() - begun, ""
