"""The weekly validation by hand: what a person should look at, what they found, and their name under it.

A round's list is made from the last look when the round opens: the worst links first, then what no look can see. It is
closed by a signature, which needs a result for every item or a word why one has none. Called by `tasks.py` (which opens
the rounds), `api.py` and the console.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ostler.audit import service as audit
from ostler.audit.canonical import clean_text
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, Conflict
from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.fabric import hosts, round_store, store
from ostler.fabric.blueprints import Design, Shelf
from ostler.fabric.model import Blueprint, Port, Snapshot
from ostler.fabric.places import archive
from ostler.fabric.report import Names
from ostler.fabric.settings import FabricSettings
from ostler.nodes import store as nodes
from ostler.trends import service as trends
from ostler.trends.model import Verdict

CHECK = "fabric-round"
"""Name of the outcomes that a signed round leaves with the nodes it looked at."""
_WEEK = 7 * 86_400.0


class Found(StrEnum):
    """What a person found at an item."""

    OK = "ok"
    BAD = "bad"
    """Something is wrong; a look or a ticket deals with it."""
    FIXED = "fixed"
    """Something was wrong and was put right on the spot."""


@dataclass(frozen=True)
class Material:
    """What a round is made of: the last look, packed, and what links did since the round before."""

    snapshot_id: str
    packed: bytes
    downs: Mapping[Port, int]
    unknown: tuple[tuple[str, str], ...]
    design: Design | None


def is_due(tx: Tx, fabric: str, settings: FabricSettings) -> bool:
    """Whether the next round should be opened now."""
    if settings.round_every_s <= 0:
        return False
    last = round_store.latest(tx, fabric)
    return last is None or (last["state"] != "open" and tx.now - last["opened_at"] >= settings.round_every_s)


def material(tx: Tx, fabric: str, settings: FabricSettings, shelf: Shelf) -> Material | None:
    """None while nobody has looked, or nothing of the last look is kept."""
    look = store.latest(tx, fabric)
    packed = None if look is None else store.body(tx, look["id"])
    if look is None or packed is None:
        return None
    downs: dict[Port, int] = {}
    for row in store.events(tx, fabric, tx.now - (settings.round_every_s or _WEEK)):
        if row["kind"] in ("flap", "down"):
            port = Port(row["chassis"], row["port"])
            downs[port] = downs.get(port, 0) + row["count"]
    report = store.snapshot(tx, fabric, look["id"])["report"]
    unknown = tuple((row["a"], row["b"]) for row in report.get("listed", {}).get("unknown", ()))
    return Material(look["id"], packed, downs, unknown, shelf.active(tx, fabric))


def chosen(found: Material, settings: FabricSettings) -> list[dict[str, Any]]:
    """The items of a round. Takes up to a second at 98,304 ports: never inside a transaction that writes."""
    names = Names(None if found.design is None else found.design.blueprint)
    return items(archive.unpack(found.packed), found.downs, found.unknown, settings.round_items, names)


def open_round(
    tx: Tx,
    fabric: str,
    settings: FabricSettings,
    snapshot_id: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    actor: Actor | None = None,
) -> str:
    """Open a round with these items; the open one, if there is one already. Returns its id.

    `actor`: the person who asked for it; None: its time had come.
    """
    tx.lock(f"fabric-round:{fabric}")
    if (present := round_store.latest(tx, fabric)) is not None and present["state"] == "open":
        return str(present["id"])
    round_id = new_id("round")
    round_store.insert(
        tx,
        {
            "id": round_id,
            "fabric": fabric,
            "state": "open",
            "items": [dict(row) for row in rows],
            "snapshot_id": snapshot_id,
            "opened_at": tx.now,
            "due_at": tx.now + (settings.round_every_s or _WEEK),
        },
    )
    if actor is not None:
        detail = {"round_id": round_id, "items": len(rows)}
        audit.record(tx, actor=actor, action="fabric.round_opened", subject=f"fabric:{fabric}", detail=detail)
    return round_id


def items(
    seen: Snapshot, downs: Mapping[Port, int], unknown: Sequence[tuple[str, str]], most: int, names: Names
) -> list[dict[str, Any]]:
    """What to look at, worst of each kind in turn, so that no kind crowds out the others. Pure."""
    bers = [
        (ber.effective or ber.symbol or ber.raw or 0.0, port)
        for port, ber in seen.bers.items()
        if ber.effective or ber.symbol or ber.raw
    ]
    hot = [(module.temperature_c, port) for port, module in seen.modules.items() if module.temperature_c is not None]
    errors = [(counters.get("symbol_error", 0), port) for port, counters in seen.counters.items()]
    kinds = [
        _told("worst bit error rate", bers, lambda value: f"{value:.1e}", names),
        _told("most downs this week", [(count, port) for port, count in downs.items()], str, names),
        _told("hottest module", hot, lambda value: f"{value:.0f} °C", names),
        _told("most symbol errors", [(count, port) for count, port in errors if count], str, names),
        iter([("not verified by any look", f"{a} to {b}", "", "") for a, b in unknown]),
    ]
    found: list[dict[str, Any]] = []
    asked: set[str] = set()
    while kinds and len(found) < most:
        for kind in list(kinds):
            one = next((told for told in kind if told[1] not in asked), None)
            if one is None:
                kinds.remove(kind)
            elif len(found) < most:
                why, port, measured, place = one
                asked.add(port)
                found.append({"n": len(found) + 1, "port": port, "why": why, "measured": measured, "place": place})
    return found


def _told(why: str, rows: list[tuple[Any, Port]], say: Any, names: Names) -> Iterator[tuple[str, str, str, str]]:
    for value, port in sorted(rows, key=lambda row: (-row[0], row[1])):
        yield why, str(port), say(value), names.place(port.chassis)


def enter(tx: Tx, fabric: str, round_id: str, number: int, result: Found, note: str, *, actor: Actor) -> None:
    """What a person found at one item. May be entered anew until the round is signed."""
    row = _open(tx, fabric, round_id)
    rows = [dict(item) for item in row["items"]]
    item = next((one for one in rows if one["n"] == number), None)
    if item is None:
        raise BadInput(f"The round has the items 1 to {len(rows)}, not {number}.", where=round_id)
    item |= {"result": result.value, "note": clean_text(note), "by": actor.name, "at": tx.now}
    round_store.update(tx, round_id, {"items": rows})
    detail = {"round_id": round_id, "item": number, "port": item["port"], "result": result.value}
    audit.record(tx, actor=actor, action="fabric.round_result", subject=f"fabric:{fabric}", reason=note, detail=detail)


def sign(tx: Tx, fabric: str, round_id: str, summary: str, *, actor: Actor, blueprint: Blueprint | None = None) -> None:
    """Close a round. What was not looked at needs a word why: the summary.

    `blueprint`: the fabric's design, by which a node is known that is called otherwise than its place.
    """
    row = _open(tx, fabric, round_id)
    summary = clean_text(summary)
    left = [item["n"] for item in row["items"] if not item.get("result")]
    if left and not summary.strip():
        raise Conflict(f"{len(left)} items have no result (the first: {left[0]}); enter them, or say why in a summary.")
    round_store.update(
        tx, round_id, {"state": "signed", "signed_at": tx.now, "signed_by": actor.name, "summary": summary}
    )
    bad = sum(item.get("result") == Found.BAD for item in row["items"])
    told = {"fabric": fabric, "round_id": round_id, "by": actor.name, "bad": bad}
    events.publish(tx, "fabric.round_signed", f"fabric:{fabric}", told)
    audit.record(tx, actor=actor, action="fabric.round_signed", subject=f"fabric:{fabric}", reason=summary, detail=told)
    _keep_outcomes(tx, row, blueprint)


def _keep_outcomes(tx: Tx, row: sa.RowMapping, blueprint: Blueprint | None) -> None:
    """What was found at nodes' ports goes into their history, where trends read it."""
    by_name = hosts.of(tx, blueprint).by_chassis
    by_node: dict[str, list[dict[str, Any]]] = {}
    for item in row["items"]:
        chassis = str(item["port"]).partition(" ")[0]
        if item.get("result") and chassis in by_name:
            by_node.setdefault(chassis, []).append(item)
    for name, looked in sorted(by_node.items()):
        bad = [item for item in looked if item["result"] != Found.OK]
        trends.record(
            tx,
            nodes.get(tx, by_name[name].id),
            CHECK,
            Verdict.FAILED if bad else Verdict.PASSED,
            measured={"round_id": row["id"], "items": looked},
            started_at=row["opened_at"],
            finished_at=tx.now,
            message="; ".join(f"{item['port']}: {item['note'] or item['result']}" for item in bad)[:500],
        )


def _open(tx: Tx, fabric: str, round_id: str) -> sa.RowMapping:
    row = round_store.get(tx, fabric, round_id, lock=True)
    if row["state"] != "open":
        raise Conflict(f"{round_id} was signed by {row['signed_by']}; nothing of it changes any more.")
    return row
