"""The fabric's pages: every fabric, one drawn, one box of it, its racks, its rounds. Included by `pages.py`.

`fabric_scene.py` holds what is shown of the last look, `fabric_tree.py` says what stands above what,
`fabric_drawing.py` draws it (with `fabric_lines.py`, `fabric_svg.py`), `fabric_chassis.py`, `fabric_rack.py` and
`fabric_rounds.py` are the further pages.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ostler.access.model import Principal
from ostler.console import fabric_rounds
from ostler.console.fabric_causes import CauseLine, causes, strays
from ostler.console.fabric_chassis import ChassisPage, chassis
from ostler.console.fabric_drawing import Drawing, draw
from ostler.console.fabric_rack import RackLine, RackPage, rack, racks
from ostler.console.fabric_scene import Scene, Scenes
from ostler.console.fabric_svg import path_of
from ostler.console.model import Row
from ostler.console.queries import natural, position
from ostler.core.errors import NotFound
from ostler.db.tx import Tx
from ostler.fabric import round_store, store
from ostler.fabric.model import DesignedCable, Port, Verdict
from ostler.fabric.service import Fabrics
from ostler.http.auth import Doorkeeper

STALE_S = 12 * 3600.0
"""A look that is older says nothing about now; the alert OstlerFabricUnwatched has the same limit."""
_CABLES = 60
"""Of what is not ok, listed under the drawing."""
_DRAWN = 6
"""Drawings that a process keeps; one of 49,152 cables is a megabyte."""
ORDER = (Verdict.WRONG, Verdict.ABSENT, Verdict.DEGRADED)
Draw = Callable[[Principal], Response]


@dataclass(frozen=True)
class Card:
    """A fabric in the list."""

    name: str
    design: Row | None
    look: Row | None
    causes: int
    confirmed: int
    now: float

    @property
    def stale(self) -> bool:
        return self.look is not None and self.now - self.look["taken_at"] > STALE_S


@dataclass(frozen=True)
class View:
    """What a page shows. `key` changes when anything of it does: a part that is asked for again is then sent again."""

    now: float
    position: int
    key: str
    fabric: str
    scene: Scene
    causes: Sequence[CauseLine]
    drawing: Drawing | None = None
    rows: Sequence[tuple[DesignedCable, str, Sequence[CauseLine]]] = ()
    """Cables that are not ok, with their causes."""
    round: Row | None = None
    racks: Sequence[RackLine] = ()
    rack: RackPage | None = None
    box: ChassisPage | None = None

    @property
    def stale(self) -> bool:
        return self.scene.look is not None and self.now - self.scene.look["taken_at"] > STALE_S

    @property
    def faulty(self) -> int:
        """Cables that are known not to be ok."""
        return sum(self.scene.counts.get(word.value, 0) for word in ORDER)

    @property
    def coverage(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.scene.report.get("coverage", {})
        return found

    @property
    def health(self) -> Sequence[Mapping[str, Any]]:
        """Troubles of links, the severe ones first."""
        return sorted(self.scene.report.get("health", ()), key=lambda one: not one["severe"])


def routes(
    fabrics: Fabrics,
    door: Doorkeeper,
    html: Callable[..., HTMLResponse],
    page: Callable[[Request, Draw], Response],
    part: Callable[[Request, Draw], Response],
) -> APIRouter:
    """`html` draws a template; `page` and `part` show what they are given to whoever may see it."""
    desk = _Desk(fabrics)
    router = APIRouter(include_in_schema=False)
    router.include_router(fabric_rounds.routes(fabrics, door, html, page))

    def serve(path: str, template: str, ask: Callable[[Request], Any]) -> None:
        """A page, and the part of it that is asked for again: nothing comes while it would be the same."""

        def show(request: Request, principal: Principal, name: str) -> Response:
            view = ask(request)
            query = f"?{request.url.query}" if request.url.query else ""
            return html(name, view=view, part=template, again=f"/parts{request.url.path}{query}", principal=principal)

        def whole(request: Request) -> Response:
            return page(request, lambda principal: show(request, principal, "fabric.html"))

        def again(request: Request) -> Response:
            def drawn(principal: Principal) -> Response:
                view = ask(request)
                if view.key == request.query_params.get("as"):
                    return Response(status_code=204)
                return html(template, view=view, principal=principal)

            return part(request, drawn)

        router.add_api_route(path, whole, methods=["GET"])
        router.add_api_route(f"/parts{path}", again, methods=["GET"])

    @router.get("/fabric")
    def every(request: Request) -> Response:
        def drawn(principal: Principal) -> Response:
            cards, at = fabrics.db.read(lambda tx: (cards_of(tx, fabrics), position(tx)))
            if len(cards) == 1:
                return RedirectResponse(path_of(cards[0].name), 303)
            return html("fabric_list.html", cards=cards, position=at, principal=principal)

        return page(request, drawn)

    serve(
        "/fabric/{fabric}", "fabric_map.html", lambda request: desk.map(request.path_params["fabric"], _unit(request))
    )
    serve("/fabric/{fabric}/rack", "fabric_racks.html", lambda request: desk.racks(request.path_params["fabric"]))
    serve(
        "/fabric/{fabric}/rack/{place:path}",
        "fabric_rack.html",
        lambda request: desk.rack(request.path_params["fabric"], request.path_params["place"]),
    )
    serve(
        "/fabric/{fabric}/{chassis:path}",
        "fabric_chassis.html",
        lambda request: desk.chassis(request.path_params["fabric"], request.path_params["chassis"]),
    )
    return router


def cards_of(tx: Tx, fabrics: Fabrics) -> list[Card]:
    """Every fabric, those that nobody looked at for long first."""
    found = []
    for name in fabrics.names(tx):
        design, last, open_now = store.active_blueprint(tx, name), store.latest(tx, name), store.open_causes(tx, name)
        found.append(
            Card(
                name,
                None if design is None else dict(design),
                None if last is None else dict(last),
                len(open_now),
                sum(bool(row["confirmed"]) for row in open_now),
                tx.now,
            )
        )
    return sorted(found, key=lambda card: (card.look is not None and not card.stale, natural(card.name)))


def _unit(request: Request) -> int | None:
    wanted = request.query_params.get("unit", "")
    if not wanted:
        return None
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 6):
        raise NotFound(f"There is no unit '{wanted[:20]}'.")
    return int(wanted)


class _Desk:
    """The pages' questions."""

    def __init__(self, fabrics: Fabrics) -> None:
        self._db = fabrics.db
        self._scenes = Scenes(fabrics.db, fabrics)
        self._drawn: OrderedDict[tuple[object, ...], Drawing] = OrderedDict()

    def map(self, fabric: str, unit: int | None) -> View:
        scene = self._scenes.of(fabric)

        def query(tx: Tx) -> View:
            found = causes(tx, fabric)
            round_ = round_store.latest(tx, fabric)
            rows = [
                (cable, verdict.value, [one for one in found if {*cable.ends} & {*one.ports}])
                for cable, verdict in _first(scene, _CABLES)
            ]
            last = None if round_ is None else dict(round_)
            return _view(tx, scene, found, rows=rows, round=last, drawing=self._draw(scene, strays(found), unit))

        return self._db.read(query)

    def racks(self, fabric: str) -> View:
        scene = self._scenes.of(fabric)

        def query(tx: Tx) -> View:
            found = causes(tx, fabric)
            return _view(tx, scene, found, racks=racks(scene, found))

        return self._db.read(query)

    def rack(self, fabric: str, place: str) -> View:
        scene = self._scenes.of(fabric)

        def query(tx: Tx) -> View:
            found = causes(tx, fabric)
            return _view(tx, scene, found, rack=rack(scene, place, found))

        return self._db.read(query)

    def chassis(self, fabric: str, name: str) -> View:
        scene = self._scenes.of(fabric)

        def query(tx: Tx) -> View:
            found = causes(tx, fabric)
            return _view(tx, scene, found, box=chassis(tx, scene, name, found))

        return self._db.read(query)

    def _draw(self, scene: Scene, beside: Sequence[tuple[Port, Port]], unit: int | None) -> Drawing:
        key = (scene.fabric, scene.id, tuple(beside), unit)
        drawing = self._drawn.get(key)
        if drawing is None:
            drawing = draw(scene, beside, unit)
            self._drawn[key] = drawing
            while len(self._drawn) > _DRAWN:
                self._drawn.popitem(last=False)
        return drawing


def _view(tx: Tx, scene: Scene, found: Sequence[CauseLine], **more: Any) -> View:
    stale = scene.look is not None and tx.now - scene.look["taken_at"] > STALE_S
    said = [
        (one.row["id"], one.row["confirmed"], one.row["ticket_id"], one.ticket and one.ticket["state"]) for one in found
    ]
    round_ = more.get("round")
    parts = (scene.id, stale, said, round_ and (round_["id"], round_["state"]))
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return View(tx.now, position(tx), key, scene.fabric, scene, found, **more)


def _first(scene: Scene, most: int) -> list[tuple[DesignedCable, Verdict]]:
    """Some of the cables that are known not to be ok, the worst first."""
    found = [(cable, verdict) for word in ORDER for cable, verdict in scene.verdicts.items() if verdict is word]
    return found[:most]
