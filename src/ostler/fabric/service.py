"""What becomes of a look at the fabric: read, placed, compared, judged, and written into the books.

`Fabrics.take_in` is the one way in, for the server's own collectors (`tasks.py`) and for those that push (`api.py`).
Everything that takes time happens before the transaction; the transaction only writes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from ostler.adapters.fabric.port import Collection
from ostler.core.errors import BadInput, NotFound
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.fabric import books, hosts, store
from ostler.fabric.blueprints import Design, Shelf
from ostler.fabric.collect import evidence
from ostler.fabric.diagnosis import diagnose
from ostler.fabric.link_causes import with_health
from ostler.fabric.links.judge import judge
from ostler.fabric.links.model import LinkEvent
from ostler.fabric.model import Port, Snapshot
from ostler.fabric.observed import snapshots
from ostler.fabric.places import archive
from ostler.fabric.report import document, summary
from ostler.fabric.settings import NAME, FabricSettings
from ostler.health.model import HealthSettings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Taken:
    """What came of one look."""

    snapshot_id: str
    report: Mapping[str, Any]


@dataclass(frozen=True)
class _Known:
    """What the books say before a look is judged."""

    design: Design | None
    parts: Mapping[int, Port]
    hosts: hosts.Hosts
    before: Snapshot | None
    others: tuple[Snapshot, ...]
    events: tuple[LinkEvent, ...]
    restarted: Mapping[str, float]


class Fabrics:
    """The fabrics of one server."""

    def __init__(
        self,
        db: Database,
        settings: Mapping[str, FabricSettings],
        health: HealthSettings,
        consider: books.Consider,
    ) -> None:
        self.db = db
        self.shelf = Shelf()
        self._settings = settings
        self._health = health
        self._consider = consider

    def settings(self, fabric: str) -> FabricSettings:
        """As configured; a fabric that only has a blueprint gets the defaults."""
        return self._settings.get(fabric, FabricSettings())

    def names(self, tx: Tx) -> list[str]:
        """Every fabric: configured, or with a blueprint."""
        return sorted({*self._settings, *(row["fabric"] for row in store.active_blueprints(tx))})

    def check(self, tx: Tx, fabric: str) -> None:
        """Raises `NotFound` for a fabric that is neither configured nor has a blueprint."""
        if NAME.fullmatch(fabric) is None:
            raise BadInput("is no name for a fabric: letters, digits, '.', '_', '-', at most 64", where=fabric[:64])
        if fabric not in self._settings and store.active_blueprint(tx, fabric) is None:
            raise NotFound(f"There is no fabric '{fabric}'; import a blueprint or name it in [fabrics.{fabric}].")

    def take_in(self, fabric: str, collection: Collection, *, taken_at: float) -> Taken:
        """Judge one look and write down what came of it. `taken_at`: domain seconds.

        Raises `BadInput` when nothing of it can be read, `NotFound` for a fabric that is not known.
        """
        began = time.monotonic()
        self.db.read(lambda tx: self.check(tx, fabric))
        found = evidence(collection)
        main = found.topology
        if not main.nodes and all(one.tool == "file" for one in collection.outputs):
            # A tool that failed is blindness and goes into the books; a file that is no dump is somebody's mistake.
            raise BadInput(main.problems[0].message if main.problems else "holds no fabric", where=collection.vantage)
        known = self.db.read(lambda tx: self._known(tx, fabric, collection.vantage, main.source, taken_at))
        blueprint = None if known.design is None else known.design.blueprint

        seen, others = snapshots(
            found, blueprint, vantage=collection.vantage, known=known.parts, names=known.hosts.names
        )
        for one in (seen, *others):
            one.taken_at = taken_at
        diagnosis = diagnose(blueprint, seen, (*others, *known.others))
        limits = self.settings(fabric).limits
        troubles, news = judge(
            seen,
            known.before,
            events=known.events,
            restarted=known.restarted,
            limits=limits,
            blueprint=blueprint,
        )
        diagnosis = with_health(diagnosis, troubles, blueprint)
        report = document(diagnosis, blueprint, seen)
        snapshot_id = new_id("snap")
        look = books.Look(fabric, snapshot_id, seen, diagnosis, blueprint, known.hosts, taken_at)
        packed = archive.pack(seen)

        def write(tx: Tx) -> None:
            self._tell_coverage(tx, look, report)
            store.insert_snapshot(
                tx,
                {
                    "id": snapshot_id,
                    "fabric": fabric,
                    "vantage": collection.vantage[:128],
                    "source": main.source,
                    "taken_at": taken_at,
                    "received_at": tx.now,
                    "blueprint_id": None if known.design is None else known.design.id,
                    "complete": diagnosis.coverage.complete,
                    "coverage": report["coverage"],
                    "counts": report["cables"],
                    "report": report,
                    "body": packed,
                },
            )
            store.insert_events(tx, [_event_row(fabric, one) for one in news])
            books.learn_parts(tx, look)
            books.converge(tx, look, self._health, self._consider)

        self.db.write(write)
        _log.info(
            "fabric.looked",
            fabric=fabric,
            vantage=collection.vantage,
            source=main.source,
            found=summary(report),
            complete=diagnosis.coverage.complete,
            seconds=round(time.monotonic() - began, 2),
        )
        return Taken(snapshot_id, report)

    def _known(self, tx: Tx, fabric: str, vantage: str, source: str, taken_at: float) -> _Known:
        settings = self.settings(fabric)
        design = self.shelf.active(tx, fabric)
        mine = hosts.of(tx, None if design is None else design.blueprint)
        row = store.before(tx, fabric, vantage, source)
        packed = None if row is None else store.body(tx, row["id"])
        since = taken_at - settings.second_look_s
        others: dict[str, Snapshot] = {}
        for other in store.latest_by_vantage(tx, fabric, since):
            if other["vantage"] != vantage and other["vantage"] not in others:
                body = store.body(tx, other["id"])
                if body is not None:
                    others[other["vantage"]] = archive.unpack(body)
        window = taken_at - settings.limits.window_s
        by_id = {host.id: chassis for chassis, host in mine.by_chassis.items()}
        boots = store.boots(tx, taken_at - settings.limits.window_s)
        return _Known(
            design,
            store.known_parts(tx, fabric),
            mine,
            None if packed is None else archive.unpack(packed),
            tuple(others.values()),
            tuple(_event(one) for one in store.events(tx, fabric, window)),
            {by_id[node_id]: at for node_id, at in boots.items() if node_id in by_id},
        )

    def _tell_coverage(self, tx: Tx, look: books.Look, report: Mapping[str, Any]) -> None:
        last = store.latest(tx, look.fabric)
        complete = look.diagnosis.coverage.complete
        if last is not None and bool(last["complete"]) == complete:
            return
        if last is None and complete:
            return
        problems = look.diagnosis.coverage.problems
        silent = look.diagnosis.coverage.silent
        reason = problems[0].message if problems else (f"no answer from {', '.join(silent[:3])}" if silent else None)
        told = {
            "fabric": look.fabric,
            "complete": complete,
            "share": report["coverage"]["share"],
            "reason": None if complete else reason,
        }
        events.publish(tx, "fabric.coverage_changed", f"fabric:{look.fabric}", told)


def _event(row: sa.RowMapping) -> LinkEvent:
    peer = Port(row["peer_chassis"], row["peer_port"]) if row["peer_chassis"] else None
    return LinkEvent(
        port=Port(row["chassis"], row["port"]), peer=peer, kind=row["kind"], at=row["at"], count=row["count"]
    )


def _event_row(fabric: str, one: LinkEvent) -> dict[str, Any]:
    peer = one.peer or Port("", "")
    return {
        "id": new_id("link"),
        "fabric": fabric,
        "chassis": one.port.chassis,
        "port": one.port.name,
        "peer_chassis": peer.chassis,
        "peer_port": peer.name,
        "kind": str(one.kind),
        "count": one.count,
        "at": one.at,
    }
