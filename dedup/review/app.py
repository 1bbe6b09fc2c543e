"""What the page asks, and the answers; everything here has passed `door.Door`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, TypeVar

import anyio
from jinja2 import Environment, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dedup import __version__
from dedup.errors import Busy, DedupError, UsageError
from dedup.pipeline import (
    Gallery,
    Judgement,
    Mark,
    Outlook,
    Query,
    Review,
    Rule,
    RuleKind,
    Sheet,
    Stale,
    decisions_from_json,
    decisions_text,
    sight_job,
)
from dedup.pipeline.listing import ORDERS, RELATIONS, STATES
from dedup.report.sights import Look
from dedup.report.text import printable
from dedup.review.door import Lock, Refused
from dedup.review.keys import KEYS
from dedup.review.plain import Ids, card, sheet_to_plain
from dedup.review.planning import Planner

T = TypeVar("T")

SIZES = {"thumb": 320, "view": 1600, "full": 6000}
"""Longer side of what is shown: in the list, compared, and zoomed in."""
MOST_ROWS = 60
MOST_TEXT = 300
MOST_PAIRS = 400
MOST_FOLDERS = 2000

_MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def static_files() -> Mapping[str, tuple[bytes, str]]:
    """Path to content and type of everything that the page is made of; there is no other way to a file."""
    found = {}
    for entry in files("dedup.review").joinpath("static").iterdir():
        extension = os.path.splitext(entry.name)[1]
        if extension in _MEDIA:
            found[f"/static/{entry.name}"] = (entry.read_bytes(), _MEDIA[extension])
    return found


OPEN_PATHS = frozenset(("/", *static_files()))


@cache
def _page() -> bytes:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = files("dedup.review").joinpath("templates", "page.html").read_text("utf-8")
    sections = list(dict.fromkeys(key.section for key in KEYS))
    rendered = environment.from_string(text).render(
        keys=KEYS,
        sections=sections,
        version=__version__,
        relations=[(relation.value, relation.value.replace("-", " ")) for relation in RELATIONS],
        table=json.dumps({name: key.action for key in KEYS for name in key.keys}),
    )
    return rendered.encode()


class Desk:
    """Answers the page's questions."""

    def __init__(self, review: Review, gallery: Gallery, planner: Planner, lock: Lock) -> None:
        self.review = review
        self.gallery = gallery
        self.planner = planner
        self.lock = lock
        self.ids = Ids()
        self._pictures: anyio.CapacityLimiter | None = None

    # --- the page -------------------------------------------------------------------------------------------------

    async def page(self, _request: Request) -> Response:
        """The page, without anything about photos."""
        return Response(_page(), media_type="text/html")

    async def static(self, request: Request) -> Response:
        """One of its files."""
        content, media = static_files()[request.url.path]
        return Response(content, media_type=media)

    async def enter(self, request: Request) -> Response:
        """The token for the code."""
        return JSONResponse({"token": self.lock.enter(_text(await _body(request), "code"))})

    # --- lists ----------------------------------------------------------------------------------------------------

    async def start(self, _request: Request) -> Response:
        """What the page begins with."""
        return await self._ask(self._start)

    def _start(self) -> dict[str, Any]:
        self.review.refresh()
        listing = self.review.listing
        folders = listing.folder_counts()
        dates = sorted(date for date in listing.file_date.tolist() if date) if len(listing) < 20_000 else []
        return {
            "version": __version__,
            "finished": self.review.finished[:16].replace("T", " "),
            "roots": [printable(root) for root in self.review.roots],
            "tally": listing.tally(listing.find(Query())),
            "relations": [[name, count] for name, count in listing.relation_counts() if count],
            "formats": sorted(listing.formats),
            "folders": [
                [self.ids.name("folder", folder), printable(listing.folders[folder]), count]
                for folder, count in folders[:MOST_FOLDERS]
            ],
            "dates": [dates[0], dates[-1]] if dates else [],
            "orders": list(ORDERS),
            "undo": self._undo_words(),
        }

    async def view(self, request: Request) -> Response:
        """A list that holds still, with its first rows."""
        body = await _body(request)

        def make() -> dict[str, Any]:
            query = self._query(body)
            name = _text(body, "id")
            places = self.review.view(name, query)
            return {
                "view": name,
                "tally": self.review.listing.tally(places),
                "rows": self._rows(name, 0, 24),
            }

        return await self._ask(make)

    def _query(self, body: Mapping[str, Any]) -> Query:
        relations = body.get("relations", [])
        pair = body.get("pair") or []
        if not isinstance(relations, list) or not isinstance(pair, list) or len(pair) not in (0, 2):
            raise UsageError("relations and pair are lists")
        folders = tuple(self._number("folder", str(name)) for name in pair)
        return Query(
            relations=tuple(str(name) for name in relations[: len(RELATIONS)]),
            folder=self._number("folder", folder) if (folder := _text(body, "folder")) else None,
            pair=(folders[0], folders[1]) if folders else None,
            least_bytes=_whole(body, "least_bytes"),
            since=_text(body, "since")[:10],
            until=_text(body, "until")[:10],
            format=_text(body, "format"),
            state=_one_of(body, "state", [state.value for state in STATES]),
            text=_text(body, "text"),
            order=_one_of(body, "order", ORDERS) or "bytes",
        )

    async def rows(self, request: Request) -> Response:
        """A page of a list."""
        name, start, count = (request.query_params.get(key, "") for key in ("view", "from", "count"))
        if not (start.isdecimal() and count.isdecimal()) or len(start + count) > 18:
            raise UsageError("from and count are numbers")
        return await self._ask(
            lambda: {"rows": self._rows(name[:MOST_TEXT], int(start), min(int(count), MOST_ROWS))}
        )

    def _rows(self, name: str, start: int, count: int) -> list[dict[str, Any]]:
        numbers = self.review.numbers_of(name)[start : start + count].tolist()
        return [self._card(sheet) for sheet in self.review.sheets(numbers)]

    async def pairs(self, _request: Request) -> Response:
        """Folders that hold the same pictures."""

        def make() -> dict[str, Any]:
            names = self.review.listing.folders
            return {
                "pairs": [
                    {
                        "folder": self.ids.name("folder", pair.folder),
                        "other": self.ids.name("folder", pair.other),
                        "name": printable(names[pair.folder]),
                        "other_name": printable(names[pair.other]),
                        "shared": pair.shared,
                        "pictures": pair.pictures,
                        "groups": pair.groups,
                    }
                    for pair in self.review.folder_pairs()[:MOST_PAIRS]
                ]
            }

        return await self._ask(make)

    # --- groups ---------------------------------------------------------------------------------------------------

    async def group(self, request: Request) -> Response:
        """A whole group."""
        number = self._number("group", request.query_params.get("id", ""))
        return await self._ask(lambda: self._plain(self.review.sheet(number)))

    def _card(self, sheet: Sheet) -> dict[str, Any]:
        return card(sheet, self.ids, self.review.root_of)

    def _plain(self, sheet: Sheet) -> dict[str, Any]:
        plain = sheet_to_plain(sheet, self.ids, self.review.root_of)
        return {"group": plain, "card": self._card(sheet), "undo": self._undo_words()}

    async def picture(self, request: Request) -> Response:
        """A photo of a group, or what it differs in from another one of it."""
        asked = request.query_params
        number = self._number("group", asked.get("group", ""))
        photo = self._number("file", asked.get("of", ""))
        against = self._number("file", against) if (against := asked.get("against", "")) else None
        size = asked.get("size", "thumb")
        look = asked.get("look", "photo")
        if size not in SIZES or look not in [known.value for known in Look]:
            raise UsageError("there is no such size or look")
        if self._pictures is None:
            # Apart from everything else: a decision never waits for a picture.
            self._pictures = anyio.CapacityLimiter(40)

        def draw() -> Response:
            sheet = self.review.sheet(number)
            job = sight_job(
                self.review, sheet.group, Look(look), (photo, against), SIZES[size], self.gallery.max_pixels
            )
            drawn = self.gallery.draw(job)
            if drawn.content:
                return Response(drawn.content, media_type=drawn.media)
            status = HTTPStatus.CONFLICT if drawn.changed else HTTPStatus.NOT_FOUND
            return JSONResponse({"error": printable(drawn.why)}, status)

        return await anyio.to_thread.run_sync(draw, limiter=self._pictures)

    async def decide(self, request: Request) -> Response:
        """Say something about a group; answered when it is on the disk."""
        body = await _body(request)
        number = self._number("group", _text(body, "group"))
        marks = body.get("marks", {})
        if not isinstance(marks, dict) or len(marks) > 5000:
            raise UsageError("marks is an object")
        keep = _text(body, "keep")
        judgement = Judgement(
            self._number("file", keep) if keep else None,
            {self._number("file", name): _mark(word) for name, word in marks.items()},
        )
        seen = (_text(body, "mark"), _text(body, "version"))
        change = _change(body)

        def make() -> dict[str, Any]:
            try:
                return self._plain(self.review.decide(change, number, seen, judgement))
            except Stale as stale:
                return self._stale(stale, number)

        return await self._ask(make)

    def _stale(self, stale: Stale, number: int) -> dict[str, Any]:
        sheets = self.review.sheets([number])
        now = self._plain(sheets[0]) if sheets else {}
        return {**now, "error": str(stale), "status": int(HTTPStatus.CONFLICT)}

    async def undo(self, request: Request) -> Response:
        """Take back the last thing that was said."""
        change = _change(await _body(request))

        def make() -> dict[str, Any]:
            step = self.review.undo(change)
            if step is None:
                return {"words": "", "groups": [], "cards": [], "undo": ""}
            sheets = self.review.sheets(step.groups[:MOST_ROWS])
            return {
                "words": step.words,
                "groups": [self.ids.name("group", number) for number in step.groups[:1]],
                "count": len(step.groups),
                "cards": [self._card(sheet) for sheet in sheets],
                "undo": self._undo_words(),
            }

        return await self._ask(make)

    def _undo_words(self) -> str:
        step = self.review.last_step()
        return step.words if step is not None else ""

    # --- rules ----------------------------------------------------------------------------------------------------

    async def rule(self, request: Request) -> Response:
        """What a rule would do; or, with the stamp of that answer, do it."""
        body = await _body(request)
        kind = _one_of(body, "rule", [kind.value for kind in RuleKind]) or RuleKind.PROPOSED.value
        view, stamp = _text(body, "view"), _text(body, "stamp")

        def make() -> dict[str, Any]:
            folder = ""
            if kind == RuleKind.FOLDER:
                folder = self.review.listing.folders[self._number("folder", _text(body, "folder"))]
            rule = Rule(RuleKind(kind), folder)
            if stamp:
                return self._outlook(self.review.apply_rule(_change(body), rule, view, stamp))
            return self._outlook(self.review.preview_rule(rule, view))

        return await self._ask(make)

    def _outlook(self, outlook: Outlook) -> dict[str, Any]:
        return {
            "groups": outlook.groups,
            "goes": outlook.goes,
            "freed": outlook.freed,
            "left_alone": [list(entry) for entry in outlook.left_alone],
            "sample": [
                {"keep": printable(keep), "goes": [printable(path) for path in goes]}
                for keep, goes in outlook.sample
            ],
            "stamp": outlook.stamp,
            "undo": self._undo_words(),
        }

    # --- decisions and plans --------------------------------------------------------------------------------------

    async def export(self, _request: Request) -> Response:
        """All decisions as JSON."""
        text = await anyio.to_thread.run_sync(lambda: decisions_text(self.review.decisions()))
        return Response(text, media_type="application/json")

    async def take_over(self, request: Request) -> Response:
        """Note decisions from a file; `dry` only reads them."""
        body = await _body(request)

        def make() -> dict[str, Any]:
            found = decisions_from_json(body.get("file"), "this file", self.review.settings)
            news = 0 if body.get("dry") else self.review.take_over(found)
            return {"read": len(found), "news": news}

        return await self._ask(make)

    async def plan(self, request: Request) -> Response:
        """Begin to make a plan (POST), or how far it is (GET)."""
        if request.method == "POST":
            body = await _body(request)
            self.planner.start(decided_only=body.get("decided_only") is not False)
        return await self._ask(self.planner.status)

    async def write_plan(self, request: Request) -> Response:
        """Write the plan file."""
        await _body(request)
        return await self._ask(lambda: {"file": self.planner.write(), "commands": self.planner.commands()})

    # --- what they share ------------------------------------------------------------------------------------------

    def _number(self, kind: str, name: str) -> int:
        number = self.ids.number(kind, name[:MOST_TEXT])
        if number is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such thing here; load the page again")
        return number

    async def _ask(self, make: Callable[[], dict[str, Any]]) -> Response:
        answer = await anyio.to_thread.run_sync(make)
        return JSONResponse(answer, int(answer.get("status", HTTPStatus.OK)))


# --- reading what was sent --------------------------------------------------------------------------------------------


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise UsageError("this is not JSON") from error
    if not isinstance(body, dict):
        raise UsageError("an object is expected")
    return body


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key) or ""
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise UsageError(f"{key} is a short text")
    return value


def _one_of(body: Mapping[str, Any], key: str, known: list[str] | tuple[str, ...]) -> str:
    value = _text(body, key)
    if value and value not in known:
        raise UsageError(f"{key} is one of {', '.join(known)}")
    return value


def _whole(body: Mapping[str, Any], key: str) -> int:
    value = body.get(key) or 0
    if not isinstance(value, int) or not 0 <= value < 1 << 50:
        raise UsageError(f"{key} is a number")
    return value


def _mark(word: object) -> Mark:
    try:
        return Mark(str(word))
    except ValueError as error:
        raise UsageError(f"a mark is one of {', '.join(Mark)}") from error


def _change(body: Mapping[str, Any]) -> str:
    change = _text(body, "change")
    if len(change) < 8:
        raise UsageError("a change has a name of its own, of eight characters or more")
    return change


# --- the application --------------------------------------------------------------------------------------------------


async def _refuse(_request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        status = error.status
    elif isinstance(error, Stale):
        status = HTTPStatus.CONFLICT
    elif isinstance(error, Busy):
        status = HTTPStatus.SERVICE_UNAVAILABLE
    elif isinstance(error, UsageError):
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    else:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    return JSONResponse({"error": printable(str(error))}, int(status))


def make_app(desk: Desk) -> Starlette:
    """The application, without its door."""
    routes = [
        Route("/", desk.page, methods=["GET"]),
        *(Route(path, desk.static, methods=["GET"]) for path in static_files()),
        Route("/api/enter", desk.enter, methods=["POST"]),
        Route("/api/start", desk.start, methods=["GET"]),
        Route("/api/view", desk.view, methods=["POST"]),
        Route("/api/rows", desk.rows, methods=["GET"]),
        Route("/api/pairs", desk.pairs, methods=["GET"]),
        Route("/api/group", desk.group, methods=["GET"]),
        Route("/api/picture", desk.picture, methods=["GET"]),
        Route("/api/decide", desk.decide, methods=["POST"]),
        Route("/api/undo", desk.undo, methods=["POST"]),
        Route("/api/rule", desk.rule, methods=["POST"]),
        Route("/api/export", desk.export, methods=["GET"]),
        Route("/api/import", desk.take_over, methods=["POST"]),
        Route("/api/plan", desk.plan, methods=["GET", "POST"]),
        Route("/api/plan/write", desk.write_plan, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={Refused: _refuse, DedupError: _refuse})
