"""The rooms beside the map: each is one question to the database and one template. Routed by `pages.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ostler.console import checks, maintenance, now, rma, tickets, would_act
from ostler.console.model import Rules
from ostler.db.tx import Tx


@dataclass(frozen=True)
class Room:
    """`path` is where it is; `key` marks it in the bar; `asks` are the query parameters that it takes.

    `template` is drawn again when something happens; `page` is the page around it.
    """

    path: str
    key: str
    title: str
    template: str
    ask: Callable[[Tx, Rules, Mapping[str, str]], Any]
    asks: tuple[str, ...] = ()
    page: str = "room.html"


ROOMS = (
    Room("/now", "now", "Now", "now.html", now.now),
    Room("/would-act", "would-act", "Would act", "would_act.html", would_act.report, ("days", "pool")),
    Room(
        "/tickets", "tickets", "Tickets", "tickets.html", tickets.listed, ("state", "subject", "place", "who", "after")
    ),
    Room("/tickets/{id}", "tickets", "Ticket", "ticket_one.html", tickets.one, ("as",), "ticket.html"),
    Room("/maintenance", "maintenance", "Maintenance", "maintenance.html", maintenance.listed, ("after",)),
    Room("/maintenance/{id}", "maintenance", "Maintenance", "maintenance_one.html", maintenance.one),
    Room("/rma", "rma", "RMA cases", "rma.html", rma.listed, ("after",)),
    Room("/rma/{id}", "rma", "RMA case", "rma_one.html", rma.one),
    Room("/checks", "checks", "Checks", "checks.html", checks.checks),
)
