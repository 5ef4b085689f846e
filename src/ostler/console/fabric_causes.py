"""What is wrong with a fabric now, each cause with its ticket: for all of the fabric's pages. Called by `fabric.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ostler.console.model import Row
from ostler.db.schema import ticket
from ostler.db.tx import Tx
from ostler.fabric import store
from ostler.fabric.model import CauseKind, Port

_CHUNK = 400


@dataclass(frozen=True)
class CauseLine:
    """A cause that is open."""

    row: Row
    ports: Sequence[Port]
    ticket: Row | None
    """`id`, `state`, `assignee`; None: there is none, or it is gone."""

    @property
    def boxes(self) -> Sequence[str]:
        """Where hands are needed, then what else it touches."""
        return list(dict.fromkeys([*map(str, self.row["where"]), *(port.chassis for port in self.ports)]))


def causes(tx: Tx, fabric: str) -> list[CauseLine]:
    """Those that have a ticket first, those that are not confirmed last; in each the oldest first."""
    rows = store.open_causes(tx, fabric)
    tickets = _tickets(tx, sorted({row["ticket_id"] for row in rows if row["ticket_id"]}))
    found = [
        CauseLine(dict(row), [Port(str(a), str(b)) for a, b in row["ports"]], tickets.get(row["ticket_id"] or ""))
        for row in rows
    ]
    return sorted(found, key=lambda one: (one.ticket is None, not one.row["confirmed"], one.row["first_seen"]))


def strays(lines: Iterable[CauseLine]) -> list[tuple[Port, Port]]:
    """The cables that nobody designed."""
    return [
        (one.ports[0], one.ports[1]) for one in lines if one.row["kind"] == CauseKind.UNDESIGNED and len(one.ports) == 2
    ]


def _tickets(tx: Tx, ids: Sequence[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    columns = (ticket.c.id, ticket.c.state, ticket.c.assignee)
    for start in range(0, len(ids), _CHUNK):
        for row in tx.all(sa.select(*columns).where(ticket.c.id.in_(ids[start : start + _CHUNK]))):
            found[row["id"]] = dict(row)
    return found
