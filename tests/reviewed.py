"""A review for tests: libraries to look through, `dedup review` as it runs for a person, and a client that asks it."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from PIL import Image, ImageDraw

from tests.pictures import PHOTOS, cropped, jpeg, real_photo, scaled

ROOT = Path(__file__).parent.parent


def make_library(folder: Path, longer_px: int = 360) -> None:
    """Four photos with copies, small copies, a crop and a retouched version, in three folders."""
    for name in ("Albums", "Phone/Camera", "Phone/Sent"):
        (folder / name).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "EOS 80D"
    exif.get_ifd(0x8769)[0x9003] = "2019:07:04 12:41:07"
    for name in PHOTOS:
        image = real_photo(name, longer_px)
        (folder / f"Albums/{name}.jpg").write_bytes(jpeg(image, 92, exif=exif))
        (folder / f"Phone/Sent/{name}-small.jpg").write_bytes(jpeg(scaled(image, 0.5), 75))
    shutil.copy(folder / "Albums/coffee.jpg", folder / "Phone/Camera/coffee copy.jpg")
    cat = cropped(real_photo("chelsea", longer_px), 0.1, 0.1, 0.95, 0.95)
    (folder / "Phone/Camera/chelsea crop.jpg").write_bytes(jpeg(cat, 90))
    retouched = real_photo("coffee", longer_px).copy()
    x, y = (round(0.55 * side) for side in retouched.size)
    ImageDraw.Draw(retouched).ellipse((x, y, x + longer_px // 14, y + longer_px // 16), fill=(240, 220, 40))
    (folder / "Phone/Camera/coffee retouched.jpg").write_bytes(jpeg(retouched, 92))


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: Any


class Reviewed:
    """`dedup review` as a process of its own."""

    def __init__(self, home: Path, db: Path, *words: str, path: str = str(ROOT)) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEDUP_", "XDG_"))}
        self.home = home
        self.environment = kept | {"HOME": str(home), "PYTHONPATH": path}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dedup", "--db", str(db), "review", "--no-browser", *words],
            cwd=home,
            env=self.environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline().decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/#(\S+)", line)
        assert found, line + self.process.stderr.read().decode()
        self.link, self.port, self.code = found[0], int(found[1]), found[2]
        self.token = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> str:
        """As Ctrl-C does; what it said."""
        assert self.process.stderr is not None
        if self.process.stderr.closed:
            return ""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        said = self.process.stderr.read().decode()
        self.process.wait(timeout=20)
        self.process.stderr.close()
        return said

    def kill(self) -> None:
        """As a power cut does to a program."""
        self.process.kill()
        self.process.wait(timeout=20)
        assert self.process.stderr is not None
        self.process.stderr.close()

    # --- asking ---------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        self.token = self.post("/api/enter", {"code": self.code}).body["token"]

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request, with just these headers (and Host, unless it is among them)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            held = reply.read()
            kind = reply.headers.get_content_type()
            plain = json.loads(held) if kind == "application/json" and held else held
            return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, plain)
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, None, {"X-Dedup-Token": self.token} | headers)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        sent = {"X-Dedup-Token": self.token, "Origin": self.address, "Content-Type": "application/json"}
        return self.ask("POST", path, json.dumps(body).encode(), sent | headers)

    def cards(self, **query: Any) -> list[dict[str, Any]]:
        """The first rows of a list."""
        reply = self.post("/api/view", {"id": secrets.token_hex(8)} | query)
        assert reply.status == 200, reply.body
        rows: list[dict[str, Any]] = reply.body["rows"]
        return rows

    def group(self, name: str) -> dict[str, Any]:
        """The group of which the kept photo has this name."""
        card = next(card for card in self.cards() if card["name"] == name)
        found: dict[str, Any] = self.get(f"/api/group?id={card['id']}").body["group"]
        return found

    def decide(
        self, group: dict[str, Any], marks: dict[str, str], keep: str | None = None, **more: Any
    ) -> Reply:
        said = {
            "change": secrets.token_hex(8), "group": group["id"], "mark": group["mark"],
            "version": group["version"], "keep": keep, "marks": marks,
        }  # fmt: skip
        return self.post("/api/decide", said | more)


def others(group: dict[str, Any]) -> list[str]:
    """The photos of a group but the one that stays."""
    return [photo["id"] for photo in group["photos"] if photo["id"] != group["keeper"]]
