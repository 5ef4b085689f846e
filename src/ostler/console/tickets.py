"""The room `Tickets`: open work by place, one ticket for a phone at the rack, its label. For `rooms.py`.

What a technician does on these pages is in `ticket_acts.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ostler.console.model import Happened, Row, Rules
from ostler.console.queries import happened, names_of, natural, position
from ostler.db.tx import Tx
from ostler.tickets import policy, store
from ostler.tickets.model import Subject, TicketState

PAST = 50
"""Tickets that are done, on one page."""
MOST = 500
UNPLACED = "place unknown"
STATES = tuple(TicketState)
SUBJECTS = tuple(Subject)


@dataclass(frozen=True)
class TicketLine:
    """One ticket in a list."""

    row: Row
    node: str
    """The node's name; empty: it is about none."""
    where: str
    """What of its place its heading does not say: the unit."""

    @property
    def title(self) -> str:
        return title(self.row, self.node)


@dataclass(frozen=True)
class Spot:
    """The tickets of one rack."""

    name: str
    lines: Sequence[TicketLine]


@dataclass(frozen=True)
class Tickets:
    """The list."""

    now: float
    position: int
    spots: Sequence[Spot]
    count: int
    states: Mapping[str, int]
    """Of what is not done, under the other filters."""
    asked: Mapping[str, str]
    more: bool
    """There are more than are listed."""
    older: str | None
    """The id to go on after, where done ones are listed."""

    def link(self, **other: str) -> dict[str, str]:
        """The filters with some of them otherwise; an empty one is left out."""
        return {name: value for name, value in {**self.asked, "after": "", **other}.items() if value}


@dataclass(frozen=True)
class OneTicket:
    """One ticket on a page."""

    now: float
    position: int
    row: Row
    nodes: Sequence[str]
    """Names."""
    recommended: str
    history: Sequence[Row]
    story: Sequence[Happened]
    """Without the notes, which stand on their own."""
    loaded_as: str
    """The state that the page around it was drawn for; empty: this one."""

    @property
    def title(self) -> str:
        return title(self.row, self.nodes[0] if self.nodes else "")

    @property
    def safe(self) -> bool | None:
        found = self.row["safe"].get("safe")
        return found if isinstance(found, bool) else None

    @property
    def serials(self) -> Sequence[str]:
        return sorted({step["cable_serial"] for step in self.row["steps"] if step.get("cable_serial")})


def title(row: Mapping[str, Any], node: str) -> str:
    """What is wrong, in one sentence; a node's ticket has only the fault's name as its cause."""
    return str(row["cause"]) if row["key"] or not node else f"{row['cause']} on {node}"


def listed(tx: Tx, rules: Rules, asked: Mapping[str, str]) -> Tickets:
    """`asked`: `state`, `subject`, `place`, `who`, and `after`, the id of the last done one that was seen."""
    state = asked.get("state", "")
    state = state if state in STATES else ""
    subject = asked.get("subject", "")
    wanted = {
        "subject": subject if subject in SUBJECTS else None,
        "place": asked.get("place") or None,
        "assignee": asked.get("who") or None,
    }
    unfinished = store.listed(tx, state=store.UNFINISHED, limit=MOST + 1, **wanted)
    counts = Counter(row["state"] for row in unfinished)
    older = None
    if state == TicketState.DONE:
        rows = store.listed(tx, state=state, after=asked.get("after") or None, limit=PAST, **wanted)
        older = rows[-1]["id"] if len(rows) == PAST else None
    else:
        rows = [row for row in unfinished[:MOST] if state in ("", row["state"])]
    names = names_of(tx, (row["node_id"] for row in rows if row["node_id"]))
    spots: dict[str, list[TicketLine]] = {}
    for row in rows:
        spot, where = _spot(row["place"] or row["slot"] or "")
        spots.setdefault(spot, []).append(TicketLine(dict(row), names.get(row["node_id"] or "", ""), where))
    order = sorted(spots, key=lambda name: (name == UNPLACED, natural(name)))
    kept = {"state": state, "subject": wanted["subject"], "place": wanted["place"], "who": wanted["assignee"]}
    return Tickets(
        now=tx.now,
        position=position(tx),
        spots=[Spot(name, sorted(spots[name], key=_urgency)) for name in order],
        count=len(rows),
        states={one.value: counts[one] for one in STATES if one is not TicketState.DONE},
        asked={name: value for name, value in kept.items() if value},
        more=len(unfinished) > MOST,
        older=older,
    )


def one(tx: Tx, rules: Rules, asked: Mapping[str, str]) -> OneTicket:
    """`asked`: `id`, and `as`, the state that the rest of the page was drawn for. Raises `NotFound`."""
    row = dict(store.get(tx, asked["id"]))
    ids = store.nodes_of(tx, row["id"])
    names = names_of(tx, ids)
    return OneTicket(
        now=tx.now,
        position=position(tx),
        row=row,
        nodes=sorted((names.get(one, one) for one in ids), key=natural),
        recommended=policy.recommended(row["escalation"]),
        history=[dict(past) for past in store.earlier(tx, row["id"])],
        story=[told for told in happened(tx, row["id"]) if told.word != "commented"],
        loaded_as=asked.get("as", ""),
    )


def _spot(place: str) -> tuple[str, str]:
    """`fra1/a/R03/U17` as the rack that hands go to and what of it."""
    parts = [part for part in place.split("/") if part]
    return " / ".join(parts[:3]) or UNPLACED, "/".join(parts[3:])


def _urgency(line: TicketLine) -> tuple[Any, ...]:
    """By unit, so that a person goes through a rack once."""
    return natural(line.where), line.row["opened_at"], line.row["id"]
