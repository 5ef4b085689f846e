"""The demo's technician: takes the tickets about cables and does with the fleet's plugs what they say.

Used by `cli/demo.py`. It knows nothing of what was done to the cabling, only the tickets' steps. A ticket with a wrong
plan cannot be carried out, or leaves the fabric wrong; either way its act fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ostler.core.errors import Permanent
from ostler.demo.account import Row, Server

NAME = "ada"

Hand = Callable[..., dict[str, Any]]
"""`Stage.hand`."""


class Technician:
    """`turn` does what can be done now; safe to repeat after a busy server broke it off."""

    def __init__(self, operator: Server, hand: Hand) -> None:
        self._operator = operator
        self._own = operator.technician(NAME)
        self._hand = hand
        self._mended: set[str] = set()
        self.hitches: list[str] = []
        """Tickets that could not be carried out, and why."""

    def turn(self, nodes: Sequence[Row]) -> None:
        """`nodes` as `GET /v1/nodes` has them. Raises `Temporary`."""
        for state, deed in (("open", self._claim), ("claimed", self._work)):
            for row in self._own.cable_tickets(state):
                try:
                    deed(str(row["id"]))
                except Permanent as error:
                    self.hitches.append(f"{row['instruction']} {error}")
        names = {str(row["id"]): str(row["name"]) for row in nodes if row["state"] == "triage"}
        for row in self._own.cable_tickets("verifying") if names else ():
            for node_id in self._own.ticket(str(row["id"]))["node_ids"]:
                if node_id in names:
                    self._operator.move(names[node_id], "onboard", f"its cables are mended: {row['id']}")

    def _claim(self, ticket: str) -> None:
        self._own.claim(ticket)

    def _work(self, ticket: str) -> None:
        if ticket not in self._mended:
            follow(self._own.ticket(ticket)["steps"], self._hand)
            self._mended.add(ticket)
        self._own.done(ticket, "Did what the steps say.")


def follow(steps: Sequence[Row], hand: Hand) -> None:
    """Does what a ticket's steps say. Raises `BadInput` where that cannot be done.

    Steps with a place to go to are moves: the plugs all come out before the first goes in. The others reseat the two
    ends of a cable, one after the other.
    """
    moves = [step for step in steps if step["to"] is not None]
    if moves:
        hand("move", moves=[{"now": _at(s["at"]), "then": _at(s["to"]), "stays": _at(s["stays"])} for s in moves])
    ends = [_at(step["at"]) for step in steps if step["to"] is None]
    for one, other in zip(ends[::2], ends[1::2], strict=True):
        hand("connect", plugs=[one, other])


def _at(plug: Row) -> list[str]:
    return [str(plug["chassis"]), str(plug["port"])]
