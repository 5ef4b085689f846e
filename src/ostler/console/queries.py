"""What the console asks the database: a few read-only statements over `db/schema`, made into `model.py`'s values.

Called by `pages.py` and `live.py` inside `db.read`. It reads tables of several features at once, so it does not go
through their stores: one page is one snapshot.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ostler.brake.pause_file import ACTOR, PauseFile
from ostler.breakfix import cases
from ostler.breakfix import store as breakfix
from ostler.console import ladder, sentences
from ostler.console.model import Brake, Change, Fleet, Happened, Life, Line, Pause, Rack, Row, Rules, Tile
from ostler.core.errors import NotFound
from ostler.db import schema
from ostler.db.tx import Tx
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition, State
from ostler.remediation import why

UNPLACED = "no place known"
_TICKER = 40
_MANY = 400
"""Events between two looks after which the whole map is drawn again."""
_HOUR = 3600.0
_ROWS = 60
"""Rows of each kind on a node's page."""


def fleet(tx: Tx, pause_file: Path | None = None) -> Fleet:
    """The whole map. Retired nodes are counted and not drawn."""
    node, slot = schema.node, schema.slot
    holds: defaultdict[str, set[str]] = defaultdict(set)
    for row in tx.all(sa.select(schema.cordon_hold.c.node_id, schema.cordon_hold.c.holder)):
        holds[row["node_id"]].add(row["holder"])
    silent = set(
        tx.conn.scalars(
            sa.select(schema.condition.c.node_id).where(
                schema.condition.c.until.is_(None), schema.condition.c.type == Condition.SILENT.value
            )
        )
    )
    columns = (
        *(node.c[name] for name in ("id", "name", "serial", "pool", "state", "state_since")),
        *(node.c[name] for name in ("pending_state", "pending_reason")),
        node.c.slot,
        *(slot.c[name] for name in ("site", "row", "rack", "unit")),
    )
    rows = tx.all(sa.select(*columns).select_from(node.outerjoin(slot, slot.c.name == node.c.slot)))
    counts = Counter(dict.fromkeys(State, 0))
    marks: Counter[str] = Counter()
    racks: defaultdict[tuple[str, str, str], list[Tile]] = defaultdict(list)
    for row in rows:
        state = State(row["state"])
        counts[state] += 1
        if state is State.RETIRED:
            continue
        tile = Tile(
            id=row["id"],
            name=row["name"],
            serial=row["serial"] or "",
            pool=row["pool"],
            rack=row["rack"] or UNPLACED,
            slot=row["slot"] or "",
            state=state,
            since=row["state_since"],
            pending=row["pending_state"],
            pending_reason=row["pending_reason"] or "",
            cordoned=bool(holds[row["id"]] - {"lifecycle"}),
            silent=row["id"] in silent,
        )
        marks.update(tile.marks)
        racks[(row["site"] or "", row["row"] or "", row["rack"] or "")].append(tile)
    open_tickets = sa.select(sa.func.count()).select_from(schema.ticket).where(schema.ticket.c.closed_at.is_(None))
    return Fleet(
        now=tx.now,
        position=position(tx),
        racks=tuple(
            _rack(place, tiles) for place, tiles in sorted(racks.items(), key=lambda item: _rack_order(item[0]))
        ),
        counts=counts,
        marks=marks,
        brake=brake(tx, pause_file),
        ticker=ticker(tx),
        tickets=int(tx.scalar(open_tickets) or 0),
    )


def page_of(fleet: Fleet, wanted: str, text: str) -> int:
    """Which of the fleet's pages to draw, from 0: the one asked for (from 1), else the first with a match of `text`."""
    pages = fleet.pages
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 6:
        return min(max(int(wanted), 1), len(pages)) - 1
    words = text.lower().split()
    if words and len(pages) > 1:
        for number, racks in enumerate(pages):
            if any(all(word in tile.find for word in words) for rack in racks for tile in rack.tiles):
                return number
    return 0


def position(tx: Tx) -> int:
    """The last sealed event's place in the order of all."""
    return int(tx.scalar(sa.select(sa.func.max(schema.event.c.position))) or 0)


def changes(tx: Tx, after: int) -> Change:
    """Which nodes something happened to past a position."""
    event = schema.event
    rows = tx.all(
        sa.select(event.c.position, event.c.subject, event.c.data)
        .where(event.c.position > after)
        .order_by(event.c.position)
        .limit(_MANY)
    )
    if not rows:
        return Change(after, frozenset(), everything=False)
    ids = {named for row in rows for named in _nodes_of(row["subject"], row["data"])}
    born = any(row["data"].get("from", "") is None for row in rows if isinstance(row["data"], dict))
    if len(rows) == _MANY:
        return Change(position(tx), frozenset(ids), everything=True)
    return Change(int(rows[-1]["position"]), frozenset(ids), everything=born)


def ticker(tx: Tx) -> tuple[Line, ...]:
    """The latest events, newest first."""
    event = schema.event
    rows = _rows(tx, sa.select(event).order_by(event.c.at.desc(), event.c.id.desc()).limit(_TICKER))
    ids = {named for row in rows for named in _nodes_of(row["subject"], row["data"])}
    found = tx.all(sa.select(schema.node.c.id, schema.node.c.name).where(schema.node.c.id.in_(ids)))
    return tuple(sentences.line(row, {each["id"]: each["name"] for each in found}) for row in rows)


def brake(tx: Tx, pause_file: Path | None = None) -> Brake:
    """Pauses that hold now, and the last hour's permits and held decisions."""
    pause, decision = schema.pause, schema.decision
    rows = tx.all(
        sa.select(pause)
        .where(pause.c.lifted_at.is_(None), sa.or_(pause.c.until.is_(None), pause.c.until > tx.now))
        .order_by(pause.c.since)
    )
    pauses = [Pause(row["scope"], row["actor"], row["reason"], row["since"], row["until"]) for row in rows]
    mirrored = any(pause.actor == ACTOR.name for pause in pauses)
    if pause_file is not None and not mirrored and (why_paused := PauseFile(pause_file).reason()) is not None:
        pauses.insert(0, Pause("fleet", ACTOR.name, why_paused, None, None))
    granted = sa.select(sa.func.count()).where(schema.permit.c.granted_at > tx.now - _HOUR)
    held = sa.select(sa.func.count(sa.distinct(decision.c.node_id))).where(
        decision.c.verdict == "held", decision.c.at > tx.now - _HOUR
    )
    return Brake(tuple(pauses), int(tx.scalar(granted) or 0), int(tx.scalar(held) or 0))


def names_of(tx: Tx, ids: Iterable[str]) -> dict[str, str]:
    """Node id → name, of those that there are."""
    wanted = sorted({one for one in ids if one.startswith("node_")})
    found: dict[str, str] = {}
    for start in range(0, len(wanted), 500):
        some = schema.node.c.id.in_(wanted[start : start + 500])
        found |= {row["id"]: row["name"] for row in tx.all(sa.select(schema.node.c.id, schema.node.c.name).where(some))}
    return found


def happened(tx: Tx, subject: str) -> list[Happened]:
    """What was told of a maintenance or an RMA case, newest first."""
    event = schema.event
    rows = tx.all(sa.select(event).where(event.c.subject == subject).order_by(event.c.seq.desc()).limit(_ROWS))
    return [_happened(row["at"], row["type"], row["data"] if isinstance(row["data"], dict) else {}) for row in rows]


def _happened(at: float, kind: str, data: Mapping[str, Any]) -> Happened:
    word = str(data.get("state") or kind.partition(".")[2].replace("_", " "))
    return Happened(at, word, str(data.get("reason") or data.get("summary") or ""))


def life(tx: Tx, name_or_id: str, rules: Rules | None = None) -> Life:
    """Everything about one node, by id or name. Raises `NotFound`."""
    node = schema.node
    row = _row(tx, sa.select(node).where(node.c.id == name_or_id)) or _row(
        tx, sa.select(node).where(node.c.name == name_or_id)
    )
    if row is None:
        raise NotFound(f"No node has the name or id '{name_or_id}'.")
    rules = rules or Rules()
    node_id = row["id"]
    present = nodes.get(tx, node_id)
    parts = cases.parts(tx, present)
    serials = {part.serial for part in parts if part.serial} | ({present.serial} if present.serial else set())
    place = None if row["slot"] is None else _row(tx, sa.select(schema.slot).where(schema.slot.c.name == row["slot"]))
    rack = "" if place is None else place["rack"]
    scopes = {"fleet", f"rack:{rack}", f"node:{node_id}", f"node:{row['name']}"}
    summary, chain = why.explain(tx, present, now=tx.now)
    macs = sa.select(schema.node_mac.c.mac).where(schema.node_mac.c.node_id == node_id)

    def newest(table: sa.Table, key: sa.Column[Any], at: sa.Column[float]) -> Sequence[Row]:
        return _rows(tx, sa.select(table).where(key == node_id).order_by(at.desc()).limit(_ROWS))

    return Life(
        now=tx.now,
        position=position(tx),
        node=row,
        slot=place,
        macs=tuple(sorted(tx.conn.scalars(macs))),
        holds=_rows(tx, sa.select(schema.cordon_hold).where(schema.cordon_hold.c.node_id == node_id)),
        conditions=newest(schema.condition, schema.condition.c.node_id, schema.condition.c.since),
        transitions=_rows(
            tx,
            sa.select(schema.transition)
            .where(schema.transition.c.node_id == node_id)
            .order_by(schema.transition.c.at.desc(), schema.transition.c.id.desc())
            .limit(_ROWS),
        ),
        findings=newest(schema.finding, schema.finding.c.node_id, schema.finding.c.last_at),
        decisions=newest(schema.decision, schema.decision.c.node_id, schema.decision.c.at),
        outcomes=newest(schema.outcome, schema.outcome.c.node_id, schema.outcome.c.finished_at),
        tickets=newest(schema.ticket, schema.ticket.c.node_id, schema.ticket.c.opened_at),
        jobs=newest(schema.job, schema.job.c.subject, schema.job.c.created_at),
        permits=newest(schema.permit, schema.permit.c.node_id, schema.permit.c.granted_at),
        pauses=[pause for pause in brake(tx, rules.pause_file).pauses if pause.scope in scopes],
        summary=summary,
        chain=chain[::-1],
        parts=parts,
        cases=[dict(each) for each in breakfix.cases(tx, node_id=node_id, limit=_ROWS)],
        windows=breakfix.open_of_node(tx, node_id),
        ladder=ladder.climbs(tx, present, serials, rules.remediation),
    )


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key by which r2 comes before r10."""
    return tuple(
        (0, int(part), "") if part.isascii() and part.isdigit() and len(part) < 18 else (1, 0, part)
        for part in re.split(r"(\d+)", text)
    )


def _rows(tx: Tx, query: sa.Select[Any]) -> list[Row]:
    return [row._asdict() for row in tx.conn.execute(query)]


def _row(tx: Tx, query: sa.Select[Any]) -> Row | None:
    return next(iter(_rows(tx, query.limit(1))), None)


def _rack(place: tuple[str, str, str], tiles: list[Tile]) -> Rack:
    site, row, rack = place
    key = "rack-" + hashlib.sha256("\0".join(place).encode("utf-8", "replace")).hexdigest()[:12]
    ordered = tuple(sorted(tiles, key=lambda tile: (natural(tile.slot), natural(tile.name))))
    return Rack(rack or UNPLACED, key, " / ".join(part for part in (site, row) if part), ordered)


def _rack_order(place: tuple[str, str, str]) -> tuple[Any, ...]:
    return (place[2] == "", *(natural(part) for part in place))


def _nodes_of(subject: str, data: object) -> set[str]:
    named = {subject, data.get("node_id")} if isinstance(data, dict) else {subject}
    return {each for each in named if isinstance(each, str) and each.startswith("node_")}
