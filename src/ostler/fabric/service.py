"""What becomes of a look at the fabric: read, placed, compared, judged, and written into the books.

`Fabrics.take_in` is the one way in, for the server's own collectors (`tasks.py`) and for those that push (`api.py`).
Everything that takes time happens before the transaction; the transaction only writes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog

from ostler.adapters.fabric.port import Collection
from ostler.audit.canonical import clean, clean_text
from ostler.core.errors import BadInput, NotFound, Unavailable
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.fabric import books, hosts, parts, store
from ostler.fabric.blueprints import Design, Shelf
from ostler.fabric.collect import Evidence, evidence
from ostler.fabric.diagnosis import diagnose
from ostler.fabric.link_causes import with_health
from ostler.fabric.links.judge import judge
from ostler.fabric.links.model import EventKind, LinkEvent
from ostler.fabric.look import Look
from ostler.fabric.model import Port, Snapshot
from ostler.fabric.node_findings import Consider
from ostler.fabric.observed import snapshots
from ostler.fabric.places import archive
from ostler.fabric.report import document, summary
from ostler.fabric.settings import NAME, FabricSettings
from ostler.fabric.sweep import Sweep
from ostler.health.model import HealthSettings

_log = structlog.get_logger(__name__)
_TRIES = 3
"""A look is judged anew when the design or the look before it changed meanwhile."""
_OTHERS = 3
"""Vantage points that confirm what one saw; each is a whole snapshot in memory."""


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
    stamp: tuple[object, ...]

    def is_own(self, event: LinkEvent) -> bool:
        """Whether it happened since the look that deltas are taken from: so these show it as well."""
        at = None if self.before is None else self.before.taken_at
        return at is not None and event.at > at


class Fabrics:
    """The fabrics of one server."""

    def __init__(
        self,
        db: Database,
        settings: Mapping[str, FabricSettings],
        health: HealthSettings,
        consider: Consider,
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
        collection = replace(collection, vantage=clean_text(collection.vantage)[:128])
        found = evidence(collection)
        main = found.topology
        for sweep in (main, *found.extra, *(other for _, other in found.others)):
            _legible(sweep)
        if not main.nodes and all(one.tool == "file" for one in collection.outputs):
            # A tool that failed is blindness and goes into the books; a file that is no dump is somebody's mistake.
            raise BadInput(main.problems[0].message if main.problems else "holds no fabric", where=collection.vantage)
        taken = None
        for _ in range(_TRIES):
            known = self._known(fabric, collection.vantage, main.source, taken_at)
            taken = self._judged(fabric, collection.vantage, found, known, taken_at)
            if taken is not None:
                break
        if taken is None:
            raise Unavailable(
                f"Other looks at {fabric} came in between {_TRIES} times; send this one again.", delay=5.0
            )
        _log.info(
            "fabric.looked",
            fabric=fabric,
            vantage=collection.vantage,
            source=main.source,
            found=summary(taken.report),
            complete=taken.report["coverage"]["complete"],
            seconds=round(time.monotonic() - began, 2),
        )
        return taken

    def _judged(self, fabric: str, vantage: str, found: Evidence, known: _Known, taken_at: float) -> Taken | None:
        """Judge a look by what is known and write it down; None: something else is known by now."""
        blueprint = None if known.design is None else known.design.blueprint

        seen, others = snapshots(found, blueprint, vantage=vantage, known=known.parts, names=known.hosts.names)
        for one in (seen, *others):
            one.taken_at = taken_at
        diagnosis = diagnose(blueprint, seen, (*others, *known.others))
        limits = self.settings(fabric).limits
        judged = partial(judge, seen, known.before, restarted=known.restarted, limits=limits, blueprint=blueprint)
        own = [one for one in known.events if known.is_own(one)]
        troubles, news = judged(events=known.events)
        if twice := _told_twice(news, own):
            # Another vantage point told of it, which this one's counters show as well.
            troubles, news = judged(events=[one for one in known.events if one not in twice])
        diagnosis = with_health(diagnosis, troubles, blueprint)
        report = clean(document(diagnosis, blueprint, seen))
        snapshot_id = new_id("snap")
        look = Look(
            fabric, snapshot_id, seen, diagnosis, blueprint, known.hosts, taken_at, known.before, limits.clean_after_s
        )
        packed = archive.pack(seen)
        fresh = [_event_row(fabric, one) for one in _untold(news, own)]

        rest: books.Rest | None = None

        def write(tx: Tx) -> bool:
            nonlocal rest
            rest = None
            books.lock(tx, fabric)
            if self._stamp(tx, fabric, vantage, found.topology.source, taken_at) != known.stamp:
                return False
            last = store.latest(tx, fabric)
            late = last is not None and last["taken_at"] > taken_at
            if not late:
                self._tell_coverage(tx, look, report)
            store.insert_snapshot(
                tx,
                {
                    "id": snapshot_id,
                    "fabric": fabric,
                    "vantage": vantage,
                    "source": found.topology.source,
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
            if not late:  # what is older than what the books say is history, and changes nothing
                store.insert_events(tx, fresh)
                parts.learn(tx, look)
                rest = books.converge(tx, look, self._health, self._consider)
            return True

        if not self.db.write(write):
            return None
        while rest is not None:
            rest = self.db.write(partial(self._go_on, look=look, rest=rest))
        return Taken(snapshot_id, report)

    def _go_on(self, tx: Tx, *, look: Look, rest: books.Rest) -> books.Rest | None:
        books.lock(tx, look.fabric)
        return books.go_on(tx, look, rest, self._health, self._consider)

    def _stamp(self, tx: Tx, fabric: str, vantage: str, source: str, taken_at: float) -> tuple[object, ...]:
        """What a judgement must not be older than: the design, and the look that its deltas are taken from."""
        design, row = store.active_blueprint(tx, fabric), store.before(tx, fabric, vantage, source, taken_at)
        return None if design is None else design["id"], None if row is None else row["id"]

    def _known(self, fabric: str, vantage: str, source: str, taken_at: float) -> _Known:
        """Read at one moment; unpacked after it, so that no transaction is held for that."""
        settings = self.settings(fabric)

        def query(tx: Tx) -> tuple[_Known, bytes | None, list[bytes]]:
            design = self.shelf.active(tx, fabric)
            mine = hosts.of(tx, None if design is None else design.blueprint)
            row = store.before(tx, fabric, vantage, source, taken_at)
            others: dict[str, str] = {}
            for other in store.latest_by_vantage(tx, fabric, taken_at - settings.second_look_s):
                near = other["vantage"] != vantage and other["taken_at"] <= taken_at + settings.second_look_s
                if near and len(others) < _OTHERS:
                    others.setdefault(other["vantage"], other["id"])
            window = taken_at - settings.limits.window_s
            by_id = {host.id: chassis for chassis, host in mine.by_chassis.items()}
            boots = store.boots(tx, window)
            known = _Known(
                design,
                store.known_parts(tx, fabric),
                mine,
                None,
                (),
                tuple(_event(one) for one in store.events(tx, fabric, window)),
                {by_id[node_id]: at for node_id, at in boots.items() if node_id in by_id},
                self._stamp(tx, fabric, vantage, source, taken_at),
            )
            bodies = [body for one in others.values() if (body := store.body(tx, one)) is not None]
            return known, None if row is None else store.body(tx, row["id"]), bodies

        known, packed, bodies = self.db.read(query)
        before = None if packed is None else _unpacked(packed, fabric)
        others = tuple(one for body in bodies if (one := _unpacked(body, fabric)) is not None)
        return replace(known, before=before, others=others)

    def _tell_coverage(self, tx: Tx, look: Look, report: Mapping[str, Any]) -> None:
        last = store.latest(tx, look.fabric, look.seen.vantage)  # of each vantage point: one may see less than another
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


def _untold(news: Sequence[LinkEvent], told: Sequence[LinkEvent]) -> Iterator[LinkEvent]:
    """What of the news no other vantage point has told of the same time: a counter that two read counted once."""
    counts = Counter[tuple[object, ...]]()
    for one in told:
        counts[_sort(one)] += one.count
    for one in news:
        known = min(one.count, counts[_sort(one)])
        counts[_sort(one)] -= known
        if one.count > known or not (one.count or known):
            yield replace(one, count=one.count - known)


def _told_twice(news: Sequence[LinkEvent], told: Sequence[LinkEvent]) -> set[LinkEvent]:
    """Of what is told already, what the news would add once more to the same sum."""
    fresh = {_sort(one) for one in news}
    return {one for one in told if one.kind in (EventKind.FLAP, EventKind.ERRORS) and _sort(one) in fresh}


def _sort(event: LinkEvent) -> tuple[object, ...]:
    """What it is that was counted: a down is one whether the link is back by now or not."""
    kind = EventKind.DOWN if event.kind == EventKind.FLAP else event.kind
    ends = (event.port, event.peer)
    return kind, ends if kind == EventKind.ERRORS else frozenset(ends)


def _legible(sweep: Sweep) -> None:
    """Names are for people and databases: what no terminal shows and no database holds is replaced."""
    for guid, node in sweep.nodes.items():
        if not node.description.isprintable():
            told = "".join(char if char.isprintable() else "\ufffd" for char in node.description)
            sweep.nodes[guid] = replace(node, description=told)


def _unpacked(body: bytes, fabric: str) -> Snapshot | None:
    """A kept snapshot; None for one of another version, or damaged: that costs its deltas, not the look."""
    try:
        return archive.unpack(body)
    except BadInput as error:
        _log.warning("fabric.snapshot_unreadable", fabric=fabric, error=error.message)
        return None


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
