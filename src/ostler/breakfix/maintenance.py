"""Planned and immediate maintenance: notice, drain, hands on, back through a test. For `api.py` and a schedule.

    announced ── draining ── running ── done
         └──────────┴── cancelled

Level, not edge: `sweep` looks at each open window and takes every node one step on, so a server that was away goes on
where it stands. Nodes return through `test` (profile repair), never straight to production.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from ostler.adapters.cluster.port import DrainMode
from ostler.audit import service as audit
from ostler.brake import service as brake
from ostler.breakfix import store
from ostler.breakfix.model import OPEN, BreakfixSettings, Kind, Phase, Window
from ostler.core.actor import Actor
from ostler.core.clock import iso, iso_or_none
from ostler.core.errors import BadInput, Conflict, NotFound, OstlerError, Refused
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.jobs import store as jobs
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State
from ostler.remediation import by_hand

log = structlog.get_logger(__name__)

HOLDER = "maintenance"
"""Who holds the cordon of a window's nodes."""
FLASHING = (State.ZAP,)
"""Nobody lays hands on a node while its firmware is written."""
AWAY = (State.RETIRED, State.RMA)

OUT_BEFORE = "out before"
"""It served nobody when the window came to it: the window's end gives it back as it was found, not through a test."""
OUT = ("out", OUT_BEFORE)

FORCE_S = 180.0
"""Work that is ended at the deadline has so long to be gone; then the node is taken out all the same."""

Drain = Callable[[Tx, str, Actor, str, float], None]
"""Asks a node's work to leave: (tx, node id, actor, reason, seconds until force); `ordered_drain`, but for tests."""


def ordered_drain(tx: Tx, node_id: str, actor: Actor, reason: str, seconds: float) -> None:
    """The drain of `ostler nodes drain`. One that is refused now (a pause) is asked for again with the next sweep."""
    try:
        by_hand.order_drain(tx, node_id, DrainMode.EVICT, seconds, actor=actor, reason=reason)
    except Refused as refused:
        log.info("maintenance.drain_refused", node=node_id, why=refused.message)


def plan(
    tx: Tx,
    scope: str,
    kind: Kind,
    *,
    summary: str,
    actor: Actor,
    starts_at: float | None = None,
    ends_at: float | None = None,
) -> Window:
    """Announce a maintenance of `node:NAME`, `rack:NAME` or another domain. Immediate ones begin with the next sweep.

    Raises `NotFound` for an empty scope, `Conflict` when a node of it has one at that time already.
    """
    starts_at = tx.now if starts_at is None or kind is Kind.IMMEDIATE else starts_at
    if starts_at < tx.now - 60:
        raise BadInput("A maintenance cannot begin in the past.", where="starts_at")
    if ends_at is not None and ends_at <= starts_at:
        raise BadInput("It ends before it begins.", where="ends_at")
    scope, members = _members(tx, scope)
    for node_id in members:
        for other in store.open_of_node(tx, node_id):
            if (other.ends_at is None or other.ends_at > starts_at) and (ends_at is None or other.starts_at < ends_at):
                name = nodes.get(tx, node_id).name
                raise Conflict(f"{name} is part of {other.id} at that time ({other.summary}).")
    window_id = new_id("mnt")
    store.insert_window(
        tx,
        {
            "id": window_id,
            "scope": scope,
            "kind": kind,
            "state": Phase.ANNOUNCED,
            "summary": summary,
            "actor": actor.name,
            "starts_at": starts_at,
            "ends_at": ends_at,
            "announced_at": tx.now,
            "detail": {"nodes": dict.fromkeys(members, "waiting")},
            "created_at": tx.now,
        },
    )
    notice = {
        "maintenance_id": window_id,
        "kind": kind,
        "scope": scope,
        "node_ids": members,
        "starts_at": iso(starts_at),
        "ends_at": iso_or_none(ends_at),
        "summary": summary,
    }
    events.publish(tx, "maintenance.announced", window_id, notice)
    audit.record(tx, actor=actor, action="maintenance.announced", subject=scope, reason=summary, detail=notice)
    return store.window(tx, window_id)


def finish(tx: Tx, window_id: str, *, actor: Actor, evidence: str) -> Window:
    """The work is done: nodes come back through a test. Raises `Conflict` unless it has begun."""
    window = store.locked_window(tx, window_id)
    if window.phase not in (Phase.DRAINING, Phase.RUNNING):
        raise Conflict(f"{window.id} is {window.phase}, so there is nothing to finish.")
    if not evidence.strip():
        raise BadInput("Say what was done; maintenance ends only by evidence.", where="evidence")
    for node_id, how in window.nodes.items():
        node = nodes.get(tx, node_id)
        if how in OUT:
            if node.maintenance_by == window.actor:
                nodes.update(tx, node_id, {"maintenance_by": None})
            if how == "out" and node.state is State.TRIAGE:
                facts = replace(nodes_service.facts(tx, node, actor), maintenance_by=None)
                nodes_service.transition(
                    tx, node_id, State.TEST, actor=actor, cause="maintenance", facts=facts, reason=evidence
                )
        _release(tx, window, node_id, actor=actor, reason=f"{window.id} is over")
    word = "retired" if window.kind is Kind.RETIREMENT else "returned"
    returned = {node_id: word if how in OUT else how for node_id, how in window.nodes.items()}
    return _to(tx, window, Phase.DONE, actor=actor, why=evidence, nodes_=returned)


def cancel(tx: Tx, window_id: str, *, actor: Actor, reason: str) -> Window:
    """Call it off. Nodes that are out already come back by `finish`, through their test."""
    window = store.locked_window(tx, window_id)
    if window.phase not in OPEN:
        raise Conflict(f"{window.id} is {window.phase} already.")
    if any(how in OUT for how in window.nodes.values()):
        raise Conflict(f"Nodes of {window.id} are out of service already; finish it instead.")
    for node_id in window.nodes:
        _release(tx, window, node_id, actor=actor, reason=reason)
    return _to(tx, window, Phase.CANCELLED, actor=actor, why=reason, nodes_=window.nodes)


def soon(tx: Tx, node_id: str, settings: BreakfixSettings) -> float | None:
    """When the next planned maintenance of a node begins, if that is soon; repairs that may wait, wait for it."""
    for window in store.open_of_node(tx, node_id):
        if window.phase is Phase.ANNOUNCED and window.starts_at <= tx.now + settings.wait_s:
            return window.starts_at
    return None


def sweep(db: Database, settings: BreakfixSettings, drain: Drain) -> None:
    """A schedule: every window that has begun, one step on."""

    def due(tx: Tx) -> list[Window]:
        return store.windows(tx, phases=(Phase.ANNOUNCED, Phase.DRAINING), starts_before=tx.now, limit=1000)

    for window in db.read(due):
        db.write(partial(_advance, window_id=window.id, settings=settings, drain=drain))


def _advance(tx: Tx, window_id: str, settings: BreakfixSettings, drain: Drain) -> None:
    window = store.locked_window(tx, window_id)
    actor = Actor(window.actor)
    if window.phase is Phase.ANNOUNCED:
        for node_id in window.nodes:
            nodes_service.hold_cordon(tx, node_id, HOLDER, f"{window.id}: {window.summary}", actor)
        window = _to(tx, window, Phase.DRAINING, actor=actor, why=window.summary, nodes_=window.nodes)
    if window.phase is not Phase.DRAINING:
        return
    left = (window.started_at or tx.now) - tx.now + (0.0 if window.kind is Kind.IMMEDIATE else settings.drain_s)
    now = {
        node_id: how if how in OUT else _take_out(tx, window, node_id, how, left, drain)
        for node_id, how in window.nodes.items()
    }
    if now != dict(window.nodes):
        store.update_window(tx, window.id, {"detail": {"nodes": now}})
    if all(how in OUT for how in now.values()):
        _to(tx, window, Phase.RUNNING, actor=actor, why="every node is out of service", nodes_=now)


def _take_out(tx: Tx, window: Window, node_id: str, how: str, left: float, drain: Drain) -> str:
    """One node, as far as it goes now: `out`, or what it waits for. `left`: seconds until its work is ended."""
    node, actor = nodes.get(tx, node_id), Actor(window.actor)
    if node.state in AWAY:
        return OUT_BEFORE
    if node.state in FLASHING:
        return "waiting: its firmware is being written"
    if node.maintenance_by not in (None, window.actor):
        return f"waiting: {node.maintenance_by} has hands on it"
    if node.state is State.REBOOT:
        return "waiting: it is being repaired"
    if node.state is State.PRODUCTION:
        if (stopped := brake.stopped(tx, node)) is not None:
            return f"waiting: {stopped}"
        if how != "draining":
            drain(tx, node_id, actor, f"{window.id}: {window.summary}", max(0.0, left))
        if _at_work(tx, node, left):
            return "draining"
        to = State.RETIRED if window.kind is Kind.RETIREMENT else State.TRIAGE
        facts = replace(nodes_service.facts(tx, node, actor), by_person=True, idle=True)
        try:
            nodes_service.transition(
                tx, node_id, to, actor=actor, cause="maintenance", facts=facts, reason=f"{window.id}: {window.summary}"
            )
        except OstlerError as error:
            return f"waiting: {error.message}"
    if window.kind is not Kind.RETIREMENT:
        nodes.update(tx, node_id, {"maintenance_by": window.actor})
    return "out" if node.state is State.PRODUCTION else OUT_BEFORE


def _at_work(tx: Tx, node: Node, left: float) -> bool:
    """Whether the node has still to be waited for: its drain is under way, or it has work and time."""
    if any(row["key"] == f"drain:{node.id}" for row in jobs.live(tx, node.id)):
        return left > -FORCE_S
    return node.busy and left > 0


def _release(tx: Tx, window: Window, node_id: str, *, actor: Actor, reason: str) -> None:
    """Take back the window's cordon, and that of the drain which was ordered for it."""
    nodes_service.release_cordon(tx, node_id, HOLDER, actor, reason=reason)
    for row in nodes.holds(tx, [node_id]):
        if row["holder"] == "person" and row["reason"].startswith(f"{window.id}:"):
            nodes_service.release_cordon(tx, node_id, "person", actor, reason=reason)


def _to(tx: Tx, window: Window, phase: Phase, *, actor: Actor, why: str, nodes_: object) -> Window:
    times = {Phase.DRAINING: "started_at", Phase.DONE: "finished_at", Phase.CANCELLED: "finished_at"}
    stamp = {times[phase]: tx.now} if phase in times else {}
    store.update_window(tx, window.id, {"state": phase, "detail": {"nodes": nodes_}, **stamp})
    told = {"maintenance_id": window.id, "state": phase, "scope": window.scope, "node_ids": list(window.nodes)}
    events.publish(tx, "maintenance.changed", window.id, {**told, "reason": why[:500]})
    audit.record(tx, actor=actor, action=f"maintenance.{phase}", subject=window.scope, reason=why, detail=told)
    return store.window(tx, window.id)


def _members(tx: Tx, scope: str) -> tuple[str, list[str]]:
    kind, _, name = scope.partition(":")
    if not name or kind == "fleet":
        raise BadInput(f"'{scope[:60]}' is no KIND:NAME, e.g. node:gpu-7 or rack:fra1/a/r3.", where="scope")
    if kind == "node":
        node = nodes.get(tx, name)
        if node.state is State.RETIRED:
            raise Refused(f"{node.name} is retired.")
        return f"node:{node.id}", [node.id]
    members = store.nodes_in(tx, kind, name)
    if not members:
        raise NotFound(f"No node belongs to {kind} '{name[:60]}'.", where="scope")
    return scope, members
