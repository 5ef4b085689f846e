"""Which GUID is where: learnt from looks, approved and forgotten by people. Called by `service.py` and `api.py`.

What is new is learnt by itself; what stands where another part was known waits for a person's word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ostler.audit import service as audit
from ostler.core.actor import Actor
from ostler.core.errors import Conflict, NotFound
from ostler.db.tx import Tx
from ostler.fabric import store
from ostler.fabric.look import Look
from ostler.fabric.model import Port
from ostler.fabric.sweep import guid_text


def learn(tx: Tx, look: Look) -> None:
    """Which GUID is where: what is new is learnt, what replaces a known part waits for a person's word."""
    known = store.part_places(tx, look.fabric)
    waiting = {found: registry_place(port) for port, (_, found) in look.seen.replaced.items()}
    fresh: dict[int, Port] = {}
    for port, end in look.seen.ends.items():
        if end.guid not in known and end.guid not in waiting and look.seen.answered(port.chassis):
            fresh[end.guid] = registry_place(port)
    told = "\n".join(look.seen.unplaced)
    placed = {guid: at for guid, at in fresh.items() if at.chassis != guid_text(guid) and guid_text(guid) not in told}
    store.insert_parts(tx, look.fabric, placed, "known")
    store.insert_parts(tx, look.fabric, {guid: at for guid, at in waiting.items() if guid not in known}, "replaced")
    for guid, at in waiting.items():
        if guid in known and known[guid] != (at, "replaced"):
            # Put back after it had gone, or in another place than where it waited.
            values = {"state": "replaced", "chassis": at.chassis, "port": at.name, "actor": None, "last_seen": tx.now}
            store.set_part(tx, look.fabric, guid, values)
    for guid in _withdrawn(look, known, waiting):
        store.set_part(tx, look.fabric, guid, {"state": "gone", "last_seen": tx.now})


def _withdrawn(look: Look, known: Mapping[int, tuple[Port, str]], waiting: Mapping[int, Port]) -> Iterable[int]:
    """Parts that waited for a word and are out again: the known one is back in their place."""
    asked = {at: guid for guid, (at, state) in known.items() if state == "replaced" and guid not in waiting}
    if not asked:
        return
    for port, end in look.seen.ends.items():
        at = registry_place(port)
        if at in asked and known.get(end.guid) == (at, "known") and look.seen.port_answered(port):
            yield asked.pop(at)


def registry_place(port: Port) -> Port:
    """The place of the part that has this port: an HCA without its port's number, a switch's module."""
    head, slash, tail = port.name.rpartition("/")
    if tail.isdecimal():
        return Port(port.chassis, head)
    return port if not slash else Port(port.chassis, port.name)


def approve(tx: Tx, fabric: str, guid: int, *, actor: Actor, reason: str) -> Port:
    """A replaced part belongs where it was found; the one that was known there is gone. Returns the place."""
    places = store.part_places(tx, fabric)
    if guid not in places:
        raise NotFound(f"The fabric '{fabric}' has seen no part {guid_text(guid)}.")
    port, state = places[guid]
    if state != "replaced":
        raise Conflict(f"{guid_text(guid)} is {state} at {port}; there is nothing to approve.")
    for other, (place, known) in places.items():
        if place == port and known == "known":
            store.set_part(tx, fabric, other, {"state": "gone", "last_seen": tx.now})
    store.set_part(tx, fabric, guid, {"state": "known", "actor": actor.name, "last_seen": tx.now})
    detail = {"guid": guid_text(guid), "place": str(port)}
    _audit(tx, fabric, "fabric.part_approved", detail, actor, reason)
    return port


def forget(tx: Tx, fabric: str, guid: int, *, actor: Actor, reason: str) -> None:
    """A part was moved: the next look learns where it is."""
    if not store.forget_part(tx, fabric, guid):
        raise NotFound(f"The fabric '{fabric}' has seen no part {guid_text(guid)}.")
    _audit(tx, fabric, "fabric.part_forgotten", {"guid": guid_text(guid)}, actor, reason)


def _audit(tx: Tx, fabric: str, action: str, detail: Mapping[str, str], actor: Actor, reason: str) -> None:
    audit.record(tx, actor=actor, action=action, subject=f"fabric:{fabric}", reason=reason, detail=detail)
