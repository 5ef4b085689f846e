"""The console's routes. `Console` is built by `app.py`; its router joins the operator's app.

Pages: `/` the fleet, `/nodes/{name}` one life, the rooms of `rooms.py`, `/login`. What the pages ask for again:
`/parts/…`. `/live` streams. What a technician does on a ticket's page is in `ticket_acts.py`.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from ostler.access.model import Principal
from ostler.console import fabric, queries, rendering, ticket_acts
from ostler.console.live import Live, News
from ostler.console.model import Rules
from ostler.console.rooms import ROOMS, Room
from ostler.core.errors import NotFound, OstlerError, Unauthenticated
from ostler.db.engine import Database
from ostler.fabric.service import Fabrics
from ostler.http.auth import Doorkeeper, same_site_only, sign_in, sign_out
from ostler.oncall.model import OncallSettings
from ostler.remediation.model import RemediationSettings

_STATIC = ("console.css", "console.js", "favicon.svg", "htmx-2.0.11.min.js", "htmx-sse-2.2.4.min.js")
_POSITION = Query(ge=0, lt=2**62)


class Console:
    """Pages and their live stream. `close()` ends the streams so that the server can stop.

    Without `fabrics` there are no pages of the fabric.
    """

    def __init__(
        self,
        db: Database,
        door: Doorkeeper,
        *,
        pause_file: Path | None = None,
        oncall: OncallSettings | None = None,
        remediation: RemediationSettings | None = None,
        fabrics: Fabrics | None = None,
    ) -> None:
        self._db = db
        self._door = door
        self._rules = Rules(oncall or OncallSettings(), remediation or RemediationSettings(), pause_file)
        self._files = {name: files("ostler.console").joinpath("static", name).read_bytes() for name in _STATIC}
        versions = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in self._files.items()}
        self._env = rendering.environment({name: f"/static/{name}?v={version}" for name, version in versions.items()})
        self._fabrics = fabrics
        if fabrics is None:
            self._env.globals["rooms"] = tuple(one for one in rendering.BAR if one[0] != "fabric")
        self._live = Live(self._look)
        self.router = self._routes()

    def close(self) -> None:
        self._live.close()

    def _look(self, after: int) -> News | None:
        change = self._db.read(lambda tx: queries.changes(tx, after))
        if change.position == after:
            return None
        fleet = self._db.read(lambda tx: queries.fleet(tx, self._rules.pause_file))
        tiles = frozenset[str]() if change.everything else change.node_ids  # the map will be asked for as a whole
        return News(change, rendering.changed(self._env, fleet, tiles))

    def _html(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(self._env.get_template(template).render(**values), status)

    def _fleet(self, template: str, request: Request, principal: Principal) -> HTMLResponse:
        fleet = self._db.read(lambda tx: queries.fleet(tx, self._rules.pause_file))
        asked = request.query_params
        page = queries.page_of(fleet, asked.get("page", ""), asked.get("q", ""))
        return self._html(template, fleet=fleet, page=page, principal=principal)

    def _life(self, template: str, name: str, principal: Principal) -> HTMLResponse:
        life = self._db.read(lambda tx: queries.life(tx, name, self._rules))
        return self._html(template, life=life, principal=principal, strip=rendering.strip(life))

    def _room(self, room: Room, template: str, request: Request, principal: Principal) -> HTMLResponse:
        wanted = {name: request.query_params[name] for name in room.asks if request.query_params.get(name)}
        view = self._db.read(lambda tx: room.ask(tx, self._rules, {**wanted, **request.path_params}))
        again = f"/parts{request.url.path.removeprefix('/parts')}" + (f"?{urlencode(wanted)}" if wanted else "")
        return self._html(template, view=view, room=room, again=again, principal=principal)

    def _page(self, request: Request, draw: Callable[[Principal], Response]) -> Response:
        """A page for whoever may see it: else the door, or a page that says what is wrong."""
        try:
            return draw(self._door.visitor(request))
        except Unauthenticated:
            wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?next={quote(wanted)}", 303)
        except OstlerError as error:
            return self._html("trouble.html", error.status, title=error.title, detail=error.message)

    def _part(self, request: Request, draw: Callable[[Principal], Response]) -> Response:
        """A part for a page that is open already. Whoever is signed out meanwhile is sent to the door by htmx."""
        try:
            return draw(self._door.visitor(request))
        except Unauthenticated:
            return Response(status_code=401, headers={"HX-Redirect": "/login"})

    def _whole_room(self, room: Room, request: Request) -> Response:
        return self._page(request, lambda principal: self._room(room, room.page, request, principal))

    def _again_room(self, room: Room, request: Request) -> Response:
        return self._part(request, lambda principal: self._room(room, room.template, request, principal))

    def _routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)

        @router.get("/")
        def fleet(request: Request) -> Response:
            return self._page(request, lambda principal: self._fleet("fleet.html", request, principal))

        @router.get("/nodes/{name}")
        def node(request: Request, name: str) -> Response:
            return self._page(request, lambda principal: self._life("node.html", name, principal))

        @router.get("/parts/map")
        def part_map(request: Request) -> Response:
            return self._part(request, lambda principal: self._fleet("map.html", request, principal))

        @router.get("/parts/nodes/{name}")
        def part_node(request: Request, name: str) -> Response:
            return self._part(request, lambda principal: self._life("life.html", name, principal))

        for room in ROOMS:
            router.add_api_route(room.path, partial(self._whole_room, room), methods=["GET"])
            router.add_api_route(f"/parts{room.path}", partial(self._again_room, room), methods=["GET"])
        router.include_router(ticket_acts.routes(self._db, self._door, self._rules, self._html, self._page))
        if self._fabrics is not None:
            router.include_router(fabric.routes(self._fabrics, self._door, self._html, self._page, self._part))

        @router.get("/live")
        async def live(
            request: Request, after: Annotated[int, _POSITION] = 0, node: str | None = None, nudged: bool = False
        ) -> Response:
            await run_in_threadpool(self._door.visitor, request)
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            stream = self._live.stream(after, node, nudged=nudged)
            return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

        @router.get("/login")
        def door(next: Annotated[str, Query(max_length=2000)] = "/") -> Response:
            return self._html("login.html", next=_local(next), wrong="")

        @router.post("/login")
        async def enter(request: Request) -> Response:
            same_site_only(request)
            form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
            wanted = _local(form.get("next", ["/"])[0])
            token = form.get("token", [""])[0].strip()
            try:
                await run_in_threadpool(self._door.by_token, token)
            except Unauthenticated:
                wrong = "This token is not valid: unknown, expired or revoked."
                return self._html("login.html", 401, next=wanted, wrong=wrong)
            answer = RedirectResponse(wanted, 303)
            sign_in(answer, token, secure=request.url.scheme == "https")
            return answer

        @router.post("/logout")
        def leave(request: Request) -> Response:
            same_site_only(request)
            answer = RedirectResponse("/login", 303)
            sign_out(answer)
            return answer

        @router.get("/static/{name}")
        def static(name: str) -> Response:
            content = self._files.get(name)
            if content is None:
                raise NotFound(f"There is no file '{name}' here.")
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            return Response(
                content, headers={"content-type": kind, "cache-control": "public, max-age=31536000, immutable"}
            )

        return router


def _local(wanted: str) -> str:
    """A path of ours to go on to; anything that a browser could read as another site becomes the first page."""
    plain = wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    return wanted if plain and not any(ord(char) < 32 or char == "\\" for char in wanted) else "/"
