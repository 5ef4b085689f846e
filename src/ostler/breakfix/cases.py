"""Replacements and RMA cases: who may ask for one, where it is, and the bundle for the vendor. Called by `api.py`.

Parts have cases of their own while their chassis stays; the state `rma` of a node is for the whole chassis. Thresholds
are counted by serial number, so a GPU that fails in its second chassis has its history with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ostler.audit import service as audit
from ostler.breakfix import store
from ostler.breakfix.model import BreakfixSettings, CaseState, Part
from ostler.breakfix.parts import parts_of, serial_of
from ostler.core.actor import Actor
from ostler.core.clock import iso, iso_or_none
from ostler.core.errors import BadInput, Conflict, NotFound, Refused
from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.nodes.model import Node
from ostler.tickets import service as tickets

WAYS: Mapping[CaseState, tuple[CaseState, ...]] = {
    CaseState.OPEN: (CaseState.SHIPPED, CaseState.REPLACED, CaseState.REFUSED),
    CaseState.SHIPPED: (CaseState.REPLACED, CaseState.REFUSED),
    CaseState.REPLACED: (),
    CaseState.REFUSED: (),
}
"""state → where a case may go from there."""


def parts(tx: Tx, node: Node) -> list[Part]:
    """Every part of a node with its serial number and firmware, by agent and BMC."""
    return parts_of(node.inventory, *store.bmc(tx, node.id))


def entitlement(tx: Tx, node: Node, serial: str | None, settings: BreakfixSettings) -> dict[str, Any]:
    """Whether the repairs of a part entitle to its replacement, and which they were."""
    rows = store.repairs(tx, node_id=node.id, serial=serial, since=tx.now - settings.replace_window_s)
    last = [row for row in rows if row["action"] in ("rma", "triage")]
    entitled = len(rows) >= settings.replace_after or any(row["action"] == "rma" for row in last)
    return {
        "entitled": entitled,
        "repairs": len(rows),
        "needed": settings.replace_after,
        "window_days": round(settings.replace_window_s / 86400, 1),
        "decisions": [row["id"] for row in rows][-20:],
    }


def request(
    tx: Tx,
    node: Node,
    *,
    part: str,
    name: str,
    reason: str,
    actor: Actor,
    settings: BreakfixSettings,
    override: bool = False,
) -> str:
    """Ask for a part's replacement: an RMA case and a ticket. `name`: which one, e.g. its PCI address; "" the only one.

    Raises `Refused` while the thresholds are not breached, unless an operator overrides; `NotFound` for no such part.
    """
    serial = _serial(tx, node, part, name)
    says = entitlement(tx, node, serial, settings)
    if not says["entitled"] and not override:
        raise Refused(
            f"{says['repairs']} of {says['needed']} repairs within {says['window_days']:g} days: the thresholds for a "
            "replacement are not breached; an operator may override."
        )
    return open_case(tx, node, part=part, name=name, serial=serial, reason=reason, actor=actor, evidence=says)


def open_case(
    tx: Tx,
    node: Node,
    *,
    part: str,
    name: str,
    serial: str | None,
    reason: str,
    actor: Actor,
    evidence: Mapping[str, Any],
) -> str:
    """A case for a part, with the ticket to take it out; the one that is open already, if there is. Returns its id."""
    if (present := store.open_case(tx, node.id, part, serial)) is not None:
        return str(present["id"])
    case_id = new_id("rma")
    store.insert_case(
        tx,
        {
            "id": case_id,
            "node_id": node.id,
            "part": part,
            "serial": serial,
            "state": CaseState.OPEN,
            "fault": evidence.get("fault", ""),
            "summary": reason,
            "actor": actor.name,
            "evidence": {"name": name, **evidence},
            "opened_at": tx.now,
        },
    )
    which = f"{part} {name}".strip() + (f", serial number {serial}" if serial else "")
    tickets.open_ticket(
        tx,
        node=node,
        cause=f"replace {part} {serial or name}".strip(),
        instruction=f"Replace {which} ({reason}). Send the old one back under {case_id}.",
        evidence={"rma": case_id, "serial": serial, "part": part, "name": name},
    )
    _changed(tx, case_id, node.id, part, serial, CaseState.OPEN, actor, reason)
    return case_id


def advance(
    tx: Tx,
    case_id: str,
    to: CaseState,
    *,
    actor: Actor,
    reason: str,
    vendor_case: str | None = None,
    replacement_serial: str | None = None,
) -> None:
    """Shipped, replaced or refused. Raises `Conflict` when a case cannot go there."""
    row = store.locked_case(tx, case_id)
    present = CaseState(row["state"])
    if to not in WAYS[present]:
        raise Conflict(f"{case_id} is {present}; {_ways(present)}.")
    values: dict[str, Any] = {"state": to}
    if vendor_case is not None:
        values["vendor_case"] = vendor_case
    if replacement_serial is not None:
        if replacement_serial == row["serial"]:
            raise BadInput("The replacement has the old part's serial number.", where="replacement_serial")
        values["replacement_serial"] = replacement_serial
    if not WAYS[to]:
        values["closed_at"] = tx.now
    store.update_case(tx, case_id, values)
    _changed(tx, case_id, row["node_id"], row["part"], row["serial"], to, actor, reason)


def _ways(state: CaseState) -> str:
    ways = " or ".join(WAYS[state])
    return f"from there it goes to {ways}" if ways else "it is closed"


def view(row: sa.RowMapping) -> dict[str, Any]:
    """A case as every face shows it."""
    names = (
        "id",
        "node_id",
        "part",
        "serial",
        "state",
        "fault",
        "summary",
        "vendor_case",
        "replacement_serial",
        "actor",
    )
    return {
        **{name: row[name] for name in names},
        "evidence": row["evidence"],
        "opened_at": iso(row["opened_at"]),
        "closed_at": iso_or_none(row["closed_at"]),
    }


def _serial(tx: Tx, node: Node, part: str, name: str) -> str | None:
    known = [one for one in parts(tx, node) if one.kind == part]
    if part == "chassis":
        return node.serial or next((one.serial for one in known if one.serial), None)
    if not known:
        raise NotFound(f"{node.name} has no part of the kind '{part[:40]}'.", where="part")
    if name:
        if (serial := serial_of(known, part, name)) or any(one.name == name for one in known):
            return serial or None
        raise NotFound(f"{node.name} has no {part} '{name[:60]}'; it has {_names(known)}.", where="name")
    if len({one.name for one in known}) > 1:
        raise BadInput(f"Say which: {node.name} has {_names(known)}.", where="name")
    return known[0].serial or None


def _names(known: list[Part]) -> str:
    names = list(dict.fromkeys(one.name for one in known))
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


def _changed(
    tx: Tx, case_id: str, node_id: str, part: str, serial: str | None, state: CaseState, actor: Actor, reason: str
) -> None:
    told = {"case_id": case_id, "node_id": node_id, "part": part, "serial": serial, "state": state}
    events.publish(tx, "rma.changed", case_id, told)
    audit.record(tx, actor=actor, action=f"rma.{state}", subject=node_id, reason=reason, detail=told)
