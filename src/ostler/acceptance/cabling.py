"""Seatrial's look at the node's own cables: asks its agent, judges by the blueprint, tells technicians which plug.

No full sweep is waited for: the agent runs `ib-neighbours`, which takes seconds, and `fabric/own_ports.py` compares the
answer with the design. What is wrong twice in a row ends the visit at once: a person is still at the rack. A cable that
nobody could judge is never passed. Called by `seatrial.py` at each look, and with its verdict.

The tickets are the fabric's: keyed by their ports, so that the next sweep goes on with them, and closed by a later
Seatrial (or sweep) that sees the cables in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from ostler.acceptance.model import AcceptanceSettings
from ostler.acceptance.service import job_key
from ostler.checks.ib_neighbours import NAME as CHECK
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.fabric import hosts
from ostler.fabric.blueprints import Shelf
from ostler.fabric.model import Blueprint, CauseKind, Port, Verdict
from ostler.fabric.own_ports import OwnPorts, judge_ports
from ostler.fabric.report import Names
from ostler.fabric.work import work
from ostler.health import orders
from ostler.jobs.procedure import JobView
from ostler.nodes.model import Node
from ostler.tickets import service as tickets
from ostler.tickets import store as ticket_store
from ostler.trends import service as trends
from ostler.trends.model import Verdict as Outcome
from ostler.wire.agent import Verdict as Answer

VERB = "run-check"
TWICE = 2
"""Answers in a row that say the same wrong thing before it counts."""
_LINES = 8
"""Cables that a message names."""
_CABLES = frozenset(
    kind.value
    for kind in (
        CauseKind.MISCABLED,
        CauseKind.CABLE_ABSENT,
        CauseKind.DEGRADED,
        CauseKind.SHIFTED,
        CauseKind.EXCHANGED,
        CauseKind.NODE_DOWN,
    )
)
"""What a look at the node's own ports can see to be over."""


@dataclass(frozen=True)
class Designed:
    """What one fabric's design says of a node."""

    fabric: str
    """Its name, which is part of its tickets' keys."""
    blueprint: Blueprint
    chassis: str
    """What the node is called in it."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What hosts call themselves → what the design calls them, where that differs."""


CablingOf: TypeAlias = Callable[[Tx, Node], Sequence[Designed]]
"""The designs that have cables for a node; none: no blueprint covers it. Handed in by `app.py`."""


class Designs(Protocol):
    """The books of the server's fabrics: `fabric.service.Fabrics` is one."""

    shelf: Shelf

    def names(self, tx: Tx) -> list[str]:
        """Every fabric."""
        ...


def designed_in(designs: Designs) -> CablingOf:
    """The designs in the books; a node is found in one by its slot, else by its name (`fabric/hosts.py`)."""

    def cabling_of(tx: Tx, node: Node) -> Sequence[Designed]:
        found = []
        for fabric in designs.names(tx):
            design = designs.shelf.active(tx, fabric)
            if design is None:
                continue
            mine = hosts.of(tx, design.blueprint)  # among all nodes, as a sweep has it: who is in which place
            found += [
                Designed(fabric, design.blueprint, chassis, mine.names)
                for chassis, host in mine.by_chassis.items()
                if host.id == node.id and chassis in design.blueprint.by_chassis
            ]
        return found

    return cabling_of


def uncabled(tx: Tx, node: Node) -> Sequence[Designed]:
    """No fabric is known to this server."""
    del tx, node
    return ()


@dataclass(frozen=True)
class Cables:
    """What is known of a node's cables at the end of its visit."""

    verdict: Outcome | None
    """None: nothing was to be compared, `blind` says why."""
    lines: tuple[str, ...] = ()
    """What is wrong, or why nobody can tell."""
    blind: str = ""
    judged: tuple[tuple[Designed, OwnPorts], ...] = ()
    hosts: Mapping[str, Mapping[str, hosts.Host]] = field(default_factory=dict)
    """Of each fabric: chassis → node."""
    order: str = ""
    at: float = 0.0
    """When it was looked (domain time)."""

    @property
    def message(self) -> str:
        more = f"; and {len(self.lines) - _LINES} more" if len(self.lines) > _LINES else ""
        return "; ".join(self.lines[:_LINES]) + more

    @property
    def do(self) -> tuple[str, ...]:
        return tuple(line for _, ports in self.judged for line in ports.do)


@dataclass(frozen=True)
class Turn:
    """What a look does about the cables: `write` runs in its transaction and answers what the job remembers."""

    state: Mapping[str, Any]
    write: Callable[[Tx], Mapping[str, Any]]


class Cabling:
    """What a job remembers under `cabling`: {state, order, asked, same, lines, measured, why, at}.

    `state` is blind, asked, ok, bad or unknown.
    """

    def __init__(self, db: Database, settings: AcceptanceSettings, cabling_of: CablingOf) -> None:
        self._db = db
        self._settings = settings
        self._cabling_of = cabling_of

    # ── while the node is observed ──────────────────────────────────────────────────────────────────────────────────

    def turn(self, job: JobView, node: Node, *, regular: bool) -> Turn:
        """Take the answer that has come, or ask. `regular`: a look of the window, and no wake-up by an answer."""
        known: Mapping[str, Any] = job.data.get("cabling", {})
        designs, outcome = self._db.read(lambda tx: self._present(tx, node, known))
        if (blind := self._blind(designs)) is not None:
            state = {"state": "blind", "why": blind}
            return Turn(state, lambda tx: state)
        if known.get("state") == "blind":
            known = {}  # a blueprint was imported meanwhile
        if known.get("state") == "asked":
            if outcome is None:
                return Turn(known, lambda tx: known)
            said, verdict, message = self._answer(known, designs, outcome)

            def keep(tx: Tx) -> Mapping[str, Any]:
                trends.record(
                    tx,
                    node,
                    CHECK,
                    verdict,
                    measured=outcome.measured,
                    message=message,
                    started_at=outcome.given_at,
                    finished_at=outcome.finished_at,
                )
                return said

            return Turn(said, keep)
        if self.settled(known) or not regular:
            return Turn(known, lambda tx: known)
        return Turn(known, lambda tx: self._ask(tx, node, known))

    def settled(self, known: Mapping[str, Any]) -> bool:
        """Whether asking again would tell nothing new."""
        match known.get("state"):
            case "blind" | "ok":
                return True
            case "bad":
                return int(known["same"]) >= TWICE or int(known["asked"]) > TWICE * self._settings.cabling_tries
            case "unknown":
                return bool(known["final"]) or int(known["asked"]) >= self._settings.cabling_tries
        return False

    def _present(
        self, tx: Tx, node: Node, known: Mapping[str, Any]
    ) -> tuple[Sequence[Designed], orders.OrderOutcome | None]:
        designs = self._cabling_of(tx, node) if self._settings.cabling != "off" else ()
        return designs, orders.result(tx, str(known["order"])) if known.get("state") == "asked" else None

    def _blind(self, designs: Sequence[Designed]) -> str | None:
        if self._settings.cabling == "off":
            return "the cabling is not compared: [acceptance] cabling is off"
        return None if designs else "no blueprint covers the node: its cabling was not compared"

    def _ask(self, tx: Tx, node: Node, known: Mapping[str, Any]) -> Mapping[str, Any]:
        deadline = tx.now + self._settings.cabling_deadline_s
        given = orders.give(tx, node.id, VERB, {"check": CHECK}, deadline=deadline, wake_key=job_key(node.id))
        return {**known, "state": "asked", "order": given, "asked": int(known.get("asked", 0)) + 1}

    def _answer(
        self, known: Mapping[str, Any], designs: Sequence[Designed], outcome: orders.OrderOutcome
    ) -> tuple[Mapping[str, Any], Outcome, str]:
        verdict, lines = _verdict([ports for _, ports in _judged(designs, outcome.measured)])
        if verdict is not Outcome.PASSED and not _has_ports(outcome.measured):
            verdict, lines = Outcome.INCONCLUSIVE, (f"{CHECK}: {outcome.message[:300] or 'it measured nothing'}",)
        elif verdict is Outcome.INCONCLUSIVE and outcome.message:
            lines = (outcome.message[:300], *lines)
        same = int(known.get("same", 0)) + 1 if known.get("lines") == list(lines) else 1
        said = {
            "state": {Outcome.PASSED: "ok", Outcome.FAILED: "bad"}.get(verdict, "unknown"),
            "order": known["order"],
            "asked": known["asked"],
            "lines": list(lines),
            "same": same,
            "final": outcome.verdict is Answer.REFUSED,
            "measured": dict(outcome.measured),
            "at": outcome.finished_at,
        }
        return said, verdict, "; ".join(lines[:_LINES])

    # ── the verdict ─────────────────────────────────────────────────────────────────────────────────────────────────

    def cables(self, job: JobView, node: Node) -> Cables:
        """What the last answer says by the design as it is now."""
        known: Mapping[str, Any] = job.data.get("cabling", {})
        designs, _ = self._db.read(lambda tx: self._present(tx, node, {}))
        if (blind := self._blind(designs)) is not None:
            if self._settings.cabling == "required":
                return Cables(Outcome.INCONCLUSIVE, (blind,), blind)
            return Cables(None, (), blind)
        if known.get("state") == "blind":
            return Cables(None, (), str(known["why"]))
        if "measured" not in known:
            return Cables(Outcome.INCONCLUSIVE, (f"{CHECK} was asked for and not answered",))
        judged = _judged(designs, known["measured"])
        verdict, lines = _verdict([ports for _, ports in judged])
        if verdict is Outcome.INCONCLUSIVE or not _has_ports(known["measured"]):
            verdict, lines = Outcome.INCONCLUSIVE, tuple(str(line) for line in known["lines"]) or lines
        found: Mapping[str, Mapping[str, hosts.Host]] = {}
        if verdict is Outcome.FAILED:
            found = self._db.read(lambda tx: {one.fabric: hosts.of(tx, one.blueprint).by_chassis for one, _ in judged})
        return Cables(verdict, lines, "", tuple(judged), found, str(known["order"]), float(known["at"]))


def settle_tickets(tx: Tx, node: Node, cables: Cables) -> list[str]:
    """Open or update a ticket for each cause, close those that are seen to be over. Returns the ids of the standing."""
    standing = []
    for designed, ports in cables.judged:
        for cause in ports.causes:
            wanted = work(
                designed.fabric,
                cause,
                Names(designed.blueprint, ports.snapshot),
                cables.hosts.get(designed.fabric, {}),
                ports.snapshot,
                snapshot_id=cables.order,
                seen_at=cables.at,
            )
            standing.append(tickets.report(tx, wanted))
        right = {port for one in ports.cables if one.verdict is Verdict.OK for port in one.cable.ends}
        for row in ticket_store.of_chassis(tx, designed.fabric, designed.chassis):
            about = {Port(*port) for port in ticket_store.ports_of(tx, row["id"])}
            if row["evidence"].get("kind") in _CABLES and about <= right:
                evidence = f"Seatrial of {node.name} sees its cables in their place"
                tickets.confirm(tx, row["key"], evidence, detail={"order_id": cables.order}, seen_at=cables.at)
    return standing


def _judged(designs: Sequence[Designed], measured: Mapping[str, Any]) -> list[tuple[Designed, OwnPorts]]:
    return [(one, judge_ports(one.blueprint, one.chassis, measured, names=one.names)) for one in designs]


def _verdict(judged: Sequence[OwnPorts]) -> tuple[Outcome, tuple[str, ...]]:
    """Wrong outweighs unknown, unknown outweighs right."""
    bad = tuple(one.line for ports in judged for one in ports.bad)
    unknown = tuple(one.line for ports in judged for one in ports.unknown)
    if bad:
        return Outcome.FAILED, (*bad, *unknown)
    if unknown or not all(ports.ok for ports in judged):
        return Outcome.INCONCLUSIVE, unknown
    return Outcome.PASSED, ()


def _has_ports(measured: Mapping[str, Any]) -> bool:
    return bool(measured.get("ports"))
