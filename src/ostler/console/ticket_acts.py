"""What a technician does on a ticket's page: claim, done, give back, note; its label and QR code. For `pages.py`.

The only forms of the console that change anything but the sign-in. They are refused unless they come from this very
site, and act with the role of the token that signed in; someone who only looks (the demo's open door too) cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ostler.access import policy
from ostler.access.api import request_id
from ostler.access.model import Principal, Role
from ostler.console.model import Rules
from ostler.console.rooms import ROOMS
from ostler.console.tickets import one
from ostler.core.actor import Actor
from ostler.core.errors import Forbidden, NotFound, OstlerError, Unauthenticated
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.http.auth import Doorkeeper, same_site_only
from ostler.tickets import service, words

_ROOM = next(room for room in ROOMS if room.path == "/tickets/{id}")
_SVG = "image/svg+xml"
Draw = Callable[[Principal], Response]
Said = Mapping[str, str]

_DEEDS: Mapping[str, Callable[[Tx, str, Actor, str], None]] = {
    "claim": lambda tx, ticket, actor, text: service.claim(tx, ticket, actor=actor, force=text),
    "unclaim": lambda tx, ticket, actor, text: service.unclaim(tx, ticket, actor=actor, reason=text),
    "done": lambda tx, ticket, actor, text: service.done(tx, ticket, actor=actor, evidence=text),
    "comment": lambda tx, ticket, actor, text: service.comment(tx, ticket, actor=actor, text=text),
}
_LONGEST = 4000
"""Characters of what is said, as in the API."""


def routes(
    db: Database,
    door: Doorkeeper,
    rules: Rules,
    html: Callable[..., HTMLResponse],
    page: Callable[[Request, Draw], Response],
) -> APIRouter:
    """`html` draws a template; `page` shows what it is given to whoever may see it, or the door."""
    router = APIRouter(include_in_schema=False)

    def address(request: Request, ticket_id: str) -> str:
        return words.address(rules.oncall.console_url or str(request.base_url), ticket_id)

    def draw(ticket_id: str, principal: Principal, status: int, **more: Any) -> HTMLResponse:
        view = db.read(lambda tx: one(tx, rules, {"id": ticket_id}))
        again = f"/parts/tickets/{quote(ticket_id, safe='')}"
        return html("ticket.html", status, view=view, room=_ROOM, again=again, principal=principal, **more)

    def act(request: Request, ticket_id: str, deed: str, text: str) -> Response:
        here = f"/tickets/{quote(ticket_id, safe='')}"
        try:
            principal = door.visitor(request)
        except Unauthenticated:
            return RedirectResponse(f"/login?next={quote(here)}", 303)
        try:
            if not policy.allowed(principal, Role.TECHNICIAN):
                raise Forbidden(policy.refusal(principal, Role.TECHNICIAN))
            actor = principal.actor(request_id(request))
            db.write(lambda tx: _DEEDS[deed](tx, ticket_id, actor, text))
        except NotFound as error:
            return html("trouble.html", error.status, title=error.title, detail=error.message)
        except OstlerError as error:
            # The page as it is now, with what was typed: nobody writes it twice on a phone.
            return draw(ticket_id, principal, error.status, wrong=error.message, typed={deed: text})
        return RedirectResponse(here, 303)

    @router.post("/tickets/{id}/{deed}")
    async def do(request: Request, id: str, deed: str) -> Response:
        same_site_only(request)
        if deed not in _DEEDS:
            raise NotFound(f"Nothing on a ticket is called '{deed}'.")
        form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
        text = form.get("text", [""])[0].replace("\r\n", "\n")[:_LONGEST]
        return await run_in_threadpool(act, request, id, deed, text)

    @router.get("/tickets/{id}/qr.svg")
    def qr(request: Request, id: str) -> Response:
        def drawn(_who: Principal) -> Response:
            found = db.read(lambda tx: one(tx, rules, {"id": id}))
            return Response(words.qr_svg(address(request, found.row["id"])), media_type=_SVG)

        return page(request, drawn)

    @router.get("/tickets/{id}/label")
    def label(request: Request, id: str) -> Response:
        def drawn(_who: Principal) -> Response:
            found = db.read(lambda tx: one(tx, rules, {"id": id}))
            return html("ticket_label.html", view=found, address=address(request, found.row["id"]))

        return page(request, drawn)

    return router
