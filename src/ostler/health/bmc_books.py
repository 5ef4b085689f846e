"""What the out-of-band watch learnt, into the books: one transaction per BMC that has news. Called by `bmc_watch.py`.

Three streams of one node, so that what one reading cannot know ends nothing of another: `bmc` (power, sensors, leaks,
the log), `bmc-parts` (supplies, firmware), `bmc-silence`. What was true when a BMC was read is looked at again here:
a permit or a change of state since explains a node that is off, or a BMC that is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ostler.brake import store as permits
from ostler.db.tx import Tx
from ostler.faults.model import Fault
from ostler.faults.monitored import fault
from ostler.health import bmc_store, findings, levels, store
from ostler.health.model import Cause, Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State

SOURCE, PARTS, SILENCE = "bmc", "bmc-parts", "bmc-silence"
TOGETHER = "bmcs-silent-together"

SHOULD_RUN = (State.SEATRIAL, State.TEST, State.PRODUCTION)
"""States in which nobody switches a node off without a permit."""
FIRMWARE_DECIDED = (State.TEST, State.PRODUCTION)
"""States behind Zap: the firmware is what the SKU declares, or drifted."""
RESTARTING = (State.ZAP, State.REBOOT)
"""States in which a BMC may be gone for a while, and the power too."""

OnDiagnoses = Callable[[Tx, str, list[Diagnosis]], None]


@dataclass(frozen=True)
class News:
    """What one poll brought. None: not read this time."""

    standing: Sequence[Fault]
    parts: Sequence[Fault] | None = None
    before: str = ""
    """The position in the log that the poll began at."""
    position: str | None = None
    log: Sequence[Fault] = ()
    firmware: Mapping[str, str] | None = None
    inventory: Mapping[str, Any] | None = None
    """Both None when they are as the books have them."""


def should_run(state: str, maintenance_by: str | None, power_locked: bool) -> bool:
    """Whether the node is meant to be switched on, as far as its row says."""
    return state in SHOULD_RUN and not maintenance_by and not power_locked


def answered(tx: Tx, node_id: str, news: News, settings: HealthSettings, on_diagnoses: OnDiagnoses) -> None:
    """A BMC answered: what stands, what its log says, and that it is not silent."""
    node = nodes.locked(tx, node_id)
    if node.state in bmc_store.UNWATCHED:
        return
    values: dict[str, Any] = {"polled_at": tx.now, "failures": 0}
    if news.firmware is not None:
        values["firmware"] = dict(news.firmware)
    if news.inventory is not None:
        values["inventory"] = dict(news.inventory)
    bmc_store.put(tx, node_id, values)
    diagnoses = levels.converge(tx, node_id, SILENCE, [], settings)
    diagnoses = levels.converge(tx, node_id, SOURCE, _still(tx, node, news.standing), settings) or diagnoses
    if news.parts is not None:
        diagnoses = levels.converge(tx, node_id, PARTS, news.parts, settings) or diagnoses
    moved = news.position is not None and bmc_store.advance(tx, node_id, news.before, news.position)
    if moved and news.log:
        diagnoses = levels.observe(tx, node_id, SOURCE, news.log, settings) or diagnoses
    if diagnoses:
        on_diagnoses(tx, node_id, diagnoses)


def unanswered(
    tx: Tx, node_id: str, failures: int, silent: Fault | None, settings: HealthSettings, on_diagnoses: OnDiagnoses
) -> None:
    """A BMC did not answer. What it said before stands: silence ends nothing."""
    node = nodes.locked(tx, node_id)
    if node.state in bmc_store.UNWATCHED:
        return
    bmc_store.put(tx, node_id, {"failures": failures})
    if silent is None or _explained(tx, node):
        return
    diagnoses = levels.converge(tx, node_id, SILENCE, [silent], settings)
    if diagnoses:
        on_diagnoses(tx, node_id, diagnoses)


def _still(tx: Tx, node: Node, standing: Sequence[Fault]) -> list[Fault]:
    """What stands, but for what our own work explains; and confirmed leaks, which only a person's word ends: a detector
    that dries has not become tight."""
    kept = list(standing)
    off = [one for one in kept if one.code == "power-off"]
    if off and (not should_run(node.state, node.maintenance_by, node.power_locked) or _explained(tx, node)):
        kept = [one for one in kept if one not in off]
    wet = {one.device.lower() for one in kept if one.code == "leak"}
    for row in store.active(tx, node.id):
        mine = row["fault"] == "bmc-leak" and row["evidence"].get("monitor") == SOURCE
        if mine and row["device"] not in wet:
            kept.append(fault("bmc-leak", row["device"], row["message"]))
    return kept


def _explained(tx: Tx, node: Node) -> bool:
    """Our own work, or a technician's, may have taken the power or the BMC away."""
    return node.state in RESTARTING or bool(node.maintenance_by) or permits.live_of_node(tx, node.id) is not None


def together(tx: Tx, why: str | None) -> None:
    """So many BMCs are silent that Ostler suspects itself: one incident, no finding for each. None: no more."""
    present = store.open_incident(tx, TOGETHER, "fleet", "bmc")
    if why is not None:
        ids = tuple(row["id"] for row in bmc_store.silent(tx))
        if present is None:
            findings.open_incident(tx, Cause(TOGETHER, "fleet", "bmc", why, ids))
        elif ids:
            findings.join(tx, present["id"], ids)
    elif present is not None:
        over = "the BMCs answer again, but for single ones"
        findings.take_out(tx, store.findings_of(tx, present["id"], active_only=True), why=over)
        findings.close_incident(tx, present["id"], outcome=over)
