"""The weekly round as pages: the checklist for a phone, each result as it is found, the name under it. For `fabric.py`.

The forms are guarded as those of tickets are (`ticket_acts.py`): from this very site only, with the role of the token
that signed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ostler.access import policy
from ostler.access.api import request_id
from ostler.access.model import Principal, Role
from ostler.console.fabric_svg import path_of
from ostler.console.model import Row
from ostler.console.queries import position
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, Conflict, Forbidden, NotFound, OstlerError, Unauthenticated
from ostler.db.tx import Tx
from ostler.fabric import round_store, rounds
from ostler.fabric.service import Fabrics
from ostler.http.auth import Doorkeeper, same_site_only

_LISTED = 60
_NOTE = 1000
_SUMMARY = 4000
"""Characters, as in the API."""
Draw = Callable[[Principal], Response]


@dataclass(frozen=True)
class Rounds:
    """The list."""

    now: float
    position: int
    fabric: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Round:
    """One of them."""

    now: float
    position: int
    fabric: str
    row: Row

    @property
    def left(self) -> int:
        return sum(not item.get("result") for item in self.row["items"])

    @property
    def first(self) -> int:
        """The number of the first item that has no result; 0: all have."""
        return next((item["n"] for item in self.row["items"] if not item.get("result")), 0)


def routes(
    fabrics: Fabrics,
    door: Doorkeeper,
    html: Callable[..., HTMLResponse],
    page: Callable[[Request, Draw], Response],
) -> APIRouter:
    """`html` draws a template; `page` shows what it is given to whoever may see it, or the door."""
    db = fabrics.db
    router = APIRouter(include_in_schema=False)

    def one(tx: Tx, fabric: str, round_id: str) -> Round:
        fabrics.check(tx, fabric)
        return Round(tx.now, position(tx), fabric, dict(round_store.get(tx, fabric, round_id)))

    def every(tx: Tx, fabric: str) -> Rounds:
        fabrics.check(tx, fabric)
        rows = [dict(row) for row in round_store.listed(tx, fabric, limit=_LISTED)]
        return Rounds(tx.now, position(tx), fabric, rows)

    def draw_one(fabric: str, round_id: str, principal: Principal, status: int = 200, **more: Any) -> HTMLResponse:
        view = db.read(lambda tx: one(tx, fabric, round_id))
        return html("fabric_round.html", status, view=view, principal=principal, **more)

    def draw_list(fabric: str, principal: Principal, status: int = 200, **more: Any) -> HTMLResponse:
        view = db.read(lambda tx: every(tx, fabric))
        return html("fabric_rounds.html", status, view=view, principal=principal, **more)

    @router.get("/fabric/{fabric}/rounds")
    def listed(request: Request, fabric: str) -> Response:
        return page(request, lambda principal: draw_list(fabric, principal))

    @router.get("/fabric/{fabric}/rounds/{id}")
    def shown(request: Request, fabric: str, id: str) -> Response:
        return page(request, lambda principal: draw_one(fabric, id, principal))

    def act(request: Request, here: str, deed: Callable[[Actor], str], again: Callable[..., Response]) -> Response:
        """`deed` returns where to go on to; `again` draws the page as it is now, with what is wrong."""
        try:
            principal = door.visitor(request)
        except Unauthenticated:
            return RedirectResponse(f"/login?next={quote(here)}", 303)
        try:
            if not policy.allowed(principal, Role.TECHNICIAN):
                raise Forbidden(policy.refusal(principal, Role.TECHNICIAN))
            onwards = deed(principal.actor(request_id(request)))
        except NotFound as error:
            return html("trouble.html", error.status, title=error.title, detail=error.message)
        except OstlerError as error:
            try:
                # The page as it is now, with what was typed: nobody writes it twice on a phone.
                return again(principal, error.status, wrong=error.message)
            except OstlerError as other:
                return html("trouble.html", other.status, title=other.title, detail=other.message)
        return RedirectResponse(onwards, 303)

    def begin(fabric: str, actor: Actor) -> str:
        def query(tx: Tx) -> rounds.Material | None:
            fabrics.check(tx, fabric)
            return rounds.material(tx, fabric, fabrics.settings(fabric), fabrics.shelf)

        found = db.read(query)
        if found is None:
            raise Conflict("A round is made of a look at the fabric, and none has been taken yet.")
        rows = rounds.chosen(found, fabrics.settings(fabric))
        settings = fabrics.settings(fabric)
        opened = db.write(lambda tx: rounds.open_round(tx, fabric, settings, found.snapshot_id, rows, actor=actor))
        return path_of(fabric, "rounds", opened)

    def enter(tx: Tx, fabric: str, id: str, number: str, said: Mapping[str, str], actor: Actor) -> str:
        if not (number.isascii() and number.isdigit() and len(number) < 6):
            raise NotFound(f"The round has no item '{number[:20]}'.")
        try:
            result = rounds.Found(said["result"])
        except ValueError:
            raise BadInput("A result is ok, bad or fixed.", where=said["result"][:20]) from None
        fabrics.check(tx, fabric)
        rounds.enter(tx, fabric, id, int(number), result, said["note"][:_NOTE].strip(), actor=actor)
        after = Round(tx.now, 0, fabric, dict(round_store.get(tx, fabric, id))).first
        return path_of(fabric, "rounds", id) + (f"#i{after}" if after else "#sign")

    def sign(tx: Tx, fabric: str, id: str, said: Mapping[str, str], actor: Actor) -> str:
        fabrics.check(tx, fabric)
        design = fabrics.shelf.active(tx, fabric)
        blueprint = None if design is None else design.blueprint
        rounds.sign(tx, fabric, id, said["summary"][:_SUMMARY].strip(), actor=actor, blueprint=blueprint)
        return path_of(fabric, "rounds", id)

    @router.post("/fabric/{fabric}/rounds")
    async def open_now(request: Request, fabric: str) -> Response:
        same_site_only(request)
        return await run_in_threadpool(
            act,
            request,
            path_of(fabric, "rounds"),
            lambda actor: begin(fabric, actor),
            lambda principal, status, **more: draw_list(fabric, principal, status, **more),
        )

    @router.post("/fabric/{fabric}/rounds/{id}/items/{number}")
    async def found(request: Request, fabric: str, id: str, number: str) -> Response:
        same_site_only(request)
        said = await _form(request, "result", "note")
        typed = {"typed": said, "at": number}
        return await run_in_threadpool(
            act,
            request,
            path_of(fabric, "rounds", id),
            lambda actor: db.write(lambda tx: enter(tx, fabric, id, number, said, actor)),
            lambda principal, status, **more: draw_one(fabric, id, principal, status, **typed, **more),
        )

    @router.post("/fabric/{fabric}/rounds/{id}/sign")
    async def signed(request: Request, fabric: str, id: str) -> Response:
        same_site_only(request)
        said = await _form(request, "summary")
        typed = {"typed": said, "at": "sign"}
        return await run_in_threadpool(
            act,
            request,
            path_of(fabric, "rounds", id),
            lambda actor: db.write(lambda tx: sign(tx, fabric, id, said, actor)),
            lambda principal, status, **more: draw_one(fabric, id, principal, status, **typed, **more),
        )

    return router


async def _form(request: Request, *names: str) -> dict[str, str]:
    form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
    return {name: form.get(name, [""])[0].replace("\r\n", "\n")[:_SUMMARY] for name in names}
