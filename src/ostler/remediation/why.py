"""`ostler nodes why NODE`: the chain of evidence in sentences. Called by `remediation/api.py` and the console.

Everything a person would otherwise look up in six tables, in the order it happened: what the node said, what was made
of it, what was decided and why, what was done, what the checks measured, and what is still open.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ostler.core.clock import iso
from ostler.db.tx import Tx
from ostler.health import store as health
from ostler.jobs import store as jobs
from ostler.nodes import store as nodes
from ostler.nodes.lifecycle import STATES
from ostler.nodes.model import UNMANAGED_NOTICE, Condition, Node, Service
from ostler.remediation import store
from ostler.tickets import store as tickets
from ostler.trends import store as trends


@dataclass(frozen=True)
class Link:
    """One fact of the chain. `kind`: transition, finding, decision, outcome, condition, ticket, waiting, cordon."""

    at: float
    kind: str
    text: str
    ref: str = ""
    """Id of the row that says so."""


def explain(tx: Tx, node: Node, *, now: float, since: float | None = None) -> tuple[str, list[Link]]:
    """One sentence about where the node stands, and the chain behind it: all of it, or since a domain time."""
    links = sorted(_links(tx, node), key=lambda link: link.at)
    return _summary(tx, node, now), [link for link in links if since is None or link.at >= since]


def _summary(tx: Tx, node: Node, now: float) -> str:
    row = STATES[node.state]
    parts = [f"{node.name} is in {node.state} ({row.phase}) for {_span(now - node.state_since)}: {row.does}"]
    if node.pending_state is not None:
        parts.append(f"it will go to {node.pending_state} when its workload ends ({node.pending_reason})")
    if node.power_locked:
        parts.append("its power-on is locked after a leak")
    if node.maintenance_by is not None:
        parts.append(f"{node.maintenance_by} has hands on it")
    conditions = [row["type"] for row in nodes.conditions(tx, [node.id])]
    if conditions:
        parts.append("true of it now: " + ", ".join(conditions))
    if node.service is Service.UNMANAGED:
        parts.append(UNMANAGED_NOTICE)
    return ". ".join([parts[0], *(part[0].upper() + part[1:] for part in parts[1:])]) + "."


def _links(tx: Tx, node: Node) -> Iterator[Link]:
    for row in nodes.transitions(tx, node_id=node.id):
        start = f"{row['from_state']} → " if row["from_state"] else "entered as "
        lasted = f" after {_span(row['seconds_in_from'])}" if row["seconds_in_from"] is not None else ""
        reason = f": {row['reason']}" if row["reason"] else ""
        yield Link(
            row["at"],
            "transition",
            f"{start}{row['to_state']}{lasted} by {row['actor']} ({row['cause']}){reason}",
            row["id"],
        )
    for row in health.listed(tx, node_id=node.id, active_only=False, limit=200):
        on = f" on {row['device']}" if row["device"] else ""
        times = f", {row['count']} times" if row["count"] > 1 else ""
        yield Link(
            row["first_at"],
            "finding",
            f"{row['fault']}{on}: {row['severity']}, {row['confidence']} confidence, asks for {row['action']}{times}: "
            f"{row['message']}",
            row["id"],
        )
        if row["incident_id"]:
            cause = health.get_incident(tx, row["incident_id"])
            yield Link(cause["opened_at"], "incident", f"folded into one cause: {cause['summary']}", cause["id"])
        if row["cleared_at"] is not None:
            yield Link(row["cleared_at"], "finding", f"{row['fault']}{on} cleared by {row['cleared_by']}", row["id"])
    for row in store.of_node(tx, node.id):
        timing = "" if row["timing"] == "none" else f", {row['timing']}"
        yield Link(
            row["at"], "decision", f"{row['verdict']} {row['action']}{timing}: {'; '.join(row['reasons'])}", row["id"]
        )
    for row in trends.of_node(tx, node.id):
        note = f": {row['message']}" if row["message"] else ""
        what = "firmware" if row["firmware"] else "check"
        yield Link(row["finished_at"], "outcome", f"{what} {row['name']} {row['verdict']}{note}", row["id"])
    for row in tickets.listed(tx, node_id=node.id):
        yield Link(
            row["opened_at"], "ticket", f"ticket {row['id']} opened for {row['cause']}: {row['instruction']}", row["id"]
        )
        if row["closed_at"] is not None:
            yield Link(
                row["closed_at"],
                "ticket",
                f"ticket {row['id']} closed: {row['closing'].get('evidence', '')}",
                row["id"],
            )
    for row in nodes.conditions(tx, [node.id]):
        if row["type"] in (Condition.PROBATION, Condition.POWER_LOCKED):
            yield Link(row["since"], "condition", f"{row['type']} ({row['reason']}): {row['message']}", row["id"])
    for row in nodes.holds(tx, [node.id]):
        yield Link(row["since"], "cordon", f"cordon wanted by {row['holder']} ({row['actor']}): {row['reason']}")
    for row in jobs.live(tx, node.id):
        if row["why"]:
            yield Link(row["created_at"], "waiting", f"{row['procedure']} at '{row['step']}': {row['why']}", row["id"])


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def view(summary: str, links: list[Link], node: Node) -> dict[str, object]:
    """The answer of `/v1/nodes/{node}/why`."""
    return {
        "node_id": node.id,
        "name": node.name,
        "summary": summary,
        "chain": [{"at": iso(link.at), "kind": link.kind, "text": link.text, "ref": link.ref} for link in links],
    }
