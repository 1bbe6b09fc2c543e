"""The upload gates of README, as they stand there, in front of real uploads."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from dedup import Settings, scan_library
from tests.pictures import jpeg, real_photo

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")

UPLOADS = (
    ("there.jpg", jpeg(real_photo("chelsea"), 70), "the same picture"),
    ("new.jpg", jpeg(real_photo("astronaut"), 70), ""),
    ("bad.jpg", b"\xff\xd8\xff nothing", "no picture"),
    ("", b"MZ" + bytes(500), "no picture"),
    ("../../x.png", b"", "no picture"),
)


def example(word: str) -> CodeType:
    """The one Python example of README that imports a package."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (found,) = [block for block in blocks if f"from {word} import" in block]
    return compile(found, f"README: {word}", "exec", dont_inherit=True)


@pytest.fixture
def scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pictures").mkdir()
    (tmp_path / "Pictures" / "cat.jpg").write_bytes(jpeg(real_photo("chelsea")))
    scan_library([tmp_path / "Pictures"], Settings(db=str(tmp_path / "photos.db"), jobs=1))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fastapi_gate(scanned: None) -> Iterator[Callable[[str, bytes], tuple[int, str]]]:
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    names: dict[str, Any] = {}
    exec(example("fastapi"), names)
    config = uvicorn.Config(names["app"], port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started:
        time.sleep(0.01)

    def post(name: str, content: bytes) -> tuple[int, str]:
        mark = uuid.uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="photo"; filename="{name or "x"}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
        connection = HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=60)
        connection.request("POST", "/photos", body, {"Content-Type": f"multipart/form-data; boundary={mark}"})
        reply = connection.getresponse()
        said = json.loads(reply.read())
        connection.close()
        return reply.status, str(said.get("detail", ""))

    yield post
    server.should_exit = True
    thread.join(30)
    listening.close()
    names["library"].close()


def test_the_fastapi_gate_keeps_out_what_is_there(
    fastapi_gate: Callable[[str, bytes], tuple[int, str]],
) -> None:
    for name, content, words in UPLOADS:
        status, said = fastapi_gate(name, content)
        assert status == {"": 201, "the same picture": 409, "no picture": 422}[words], (name, said)
        assert words in said


def test_the_django_gate_keeps_out_what_is_there(scanned: None) -> None:
    django = pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure(DEFAULT_CHARSET="utf-8", SECRET_KEY="for a test", USE_I18N=False)
        django.setup()
    from django.core.files.uploadedfile import SimpleUploadedFile
    from django.test import RequestFactory

    names: dict[str, Any] = {}
    exec(example("django"), names)
    try:
        for name, content, words in UPLOADS:
            if not name or not content:
                continue  # Django itself refuses what has no name, or nothing in it
            upload = SimpleUploadedFile(name, content)
            reply = names["add_photo"](RequestFactory().post("/photos", {"photo": upload}))
            assert reply.status_code == (409 if words else 201), reply.content
            assert words in reply.content.decode()
        empty = RequestFactory().post("/photos", {"photo": SimpleUploadedFile("x.jpg", b"")})
        assert names["add_photo"](empty).status_code == 409
    finally:
        names["library"].close()
