"""What a person orders: reboot, power, a drain, a new installation, a lock that is cleared. Called by `api.py`.

An order goes through the same procedure, brake and guard as what Ostler decides; it does not ask for the pool's grants.
What cannot be done is refused before anything moves.
"""

from __future__ import annotations

from collections.abc import Sequence

from ostler.adapters.cluster.port import DrainMode
from ostler.audit import service as audit
from ostler.brake import service as brake
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, Conflict, NotFound, Refused
from ostler.db.tx import Tx
from ostler.faults.model import Action
from ostler.jobs import store as jobs
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State, Timing
from ostler.remediation import leaks, parts, policy, service

POWER = ("on", "off", "reset-bmc")
"""What `order_power` takes beside a cycle, which in production is a repair of its own."""
REPROVISION = "reprovision"


def order(tx: Tx, node_id: str, action: Action, *, timing: Timing, actor: Actor, reason: str) -> str:
    """Reboot or power cycle a node of production in place, and verify it. Returns the job's id."""
    node = nodes.get(tx, node_id)
    if node.state is not State.PRODUCTION:
        raise Refused(f"{node.name} is in {node.state}; only a node in production is rebooted this way.")
    if action not in policy.IN_PLACE:
        raise Refused(f"{action} is nothing that is done in place.")
    _may_be_powered(tx, node, action)
    ordered = {"action": action, "timing": timing, "actor": actor.name, "reason": reason}
    job_id = service.start_ordered(tx, node.id, ordered)
    audit.record(tx, actor=actor, action=f"node.{action}.ordered", subject=node.id, reason=reason, detail=ordered)
    return job_id


def order_gpu_reset(tx: Tx, node_id: str, devices: Sequence[str], *, timing: Timing, actor: Actor, reason: str) -> str:
    """Reset GPUs of a node of production, drained and verified like a repair of our own. Returns the job's id.

    `devices` are PCI addresses of the node's inventory. Raises `NotFound` for one that the node does not have.
    """
    node = nodes.get(tx, node_id)
    if node.state is not State.PRODUCTION:
        raise Refused(f"{node.name} is in {node.state}; only the GPUs of a node in production are reset this way.")
    if strangers := [device for device in devices if parts.gpu_index(node.inventory, device) is None]:
        has = ", ".join(str(gpu.get("pci")) for gpu in node.inventory.get("gpus", ())) or "none"
        raise NotFound(f"{node.name} has no GPU '{strangers[0][:40]}'; it has {has}.", where="gpu")
    if (stopped := brake.stopped(tx, node)) is not None:
        raise Refused(f"The reset of GPUs of {node.name} is held: {stopped}. Order it again when that is over.")
    chosen = [parts.parent_gpu(device) for device in devices]
    ordered = {"action": Action.RESET_GPU, "timing": timing, "actor": actor.name, "reason": reason, "devices": chosen}
    job_id = service.start_ordered(tx, node.id, ordered)
    audit.record(tx, actor=actor, action="node.reset-gpu.ordered", subject=node.id, reason=reason, detail=ordered)
    return job_id


def order_power(tx: Tx, node_id: str, what: str, *, timing: Timing, actor: Actor, reason: str) -> str:
    """Switch a node on or off, cycle its power, or restart its BMC. Returns the job's id.

    A node of production is only cycled (drained, verified) and its BMC restarted; to be switched off it leaves first.
    """
    node = nodes.get(tx, node_id)
    if what == "cycle" and node.state is State.PRODUCTION:
        return order(tx, node_id, Action.POWER_CYCLE, timing=timing, actor=actor, reason=reason)
    if what not in (*POWER, "cycle"):
        raise BadInput(f"'{what[:40]}' is none of on, off, cycle, reset-bmc.", where="action")
    refuse_in_service(node, what)
    return _hand(tx, node, what, actor=actor, reason=reason)


def reprovision(tx: Tx, node_id: str, *, actor: Actor, reason: str) -> str:
    """Boot a node from the network once more and take it through `onboard` again. Returns the job's id."""
    node = nodes.get(tx, node_id)
    refuse_in_service(node, REPROVISION)
    return _hand(tx, node, REPROVISION, actor=actor, reason=reason)


def refuse_in_service(node: Node, what: str) -> None:
    """Raise `Refused` where this order would hit what the node does now. Asked again right before the deed."""
    if what == REPROVISION and node.state not in (State.TRIAGE, State.DEBUG):
        raise Refused(f"{node.name} is in {node.state}; only a node in triage or debug is provisioned anew.")
    if what in ("off", "cycle") and node.state in (State.PRODUCTION, State.REBOOT):
        raise Refused(
            f"{node.name} is in {node.state}; take it out first ('ostler nodes triage'), then switch it {what}."
        )


def order_drain(tx: Tx, node_id: str, mode: DrainMode, deadline_s: float, *, actor: Actor, reason: str) -> str:
    """Cordon a node for a person and empty it; it stays so until `uncordon`. Returns the job's id."""
    node = nodes.get(tx, node_id)
    if node.state is not State.PRODUCTION:
        raise Refused(f"{node.name} is in {node.state}; only a node in production has work to drain.")
    if (stopped := brake.stopped(tx, node)) is not None and mode is not DrainMode.ALLOW_COMPLETION:
        raise Refused(f"The drain of {node.name} is held: {stopped}. Order it again when that is over.")
    nodes_service.hold_cordon(tx, node.id, "person", reason, actor)
    ordered = {"mode": mode, "deadline": tx.now + deadline_s, "actor": actor.name, "reason": reason}
    job_id = jobs.enqueue(
        tx,
        service.PROCEDURE,
        node.id,
        step="hand-drain",
        version=service.VERSION,
        key=f"drain:{node.id}",
        data={"ordered": ordered},
    )
    jobs.wake(tx, job_id=job_id, data={"ordered": ordered})  # a drain that is under way gets the new deadline and mode
    audit.record(tx, actor=actor, action="node.drain.ordered", subject=node.id, reason=reason, detail=ordered)
    return job_id


def clear_power_lock(tx: Tx, node_id: str, *, actor: Actor, reason: str) -> None:
    """See `leaks.clear_lock`; only a person may."""
    if actor.name.startswith(("ostler:", "node:")):
        raise Refused("Only a named person may clear a power lock.")
    leaks.clear_lock(tx, nodes.locked(tx, node_id), actor=actor, reason=reason)


def _hand(tx: Tx, node: Node, what: str, *, actor: Actor, reason: str) -> str:
    _may_be_powered(tx, node, what)
    if node.power_locked and what not in ("off", "reset-bmc"):
        raise Refused(
            f"Power-on of {node.name} is locked after a leak; clear it with 'ostler nodes power {node.name} "
            "--clear-lock --reason …' first."
        )
    if (flashing := brake.flashing(tx, node)) is not None:
        raise Refused(f"{what} of {node.name} is refused: {flashing}.")
    ordered = {"action": what, "actor": actor.name, "reason": reason}
    key = f"power:{node.id}"
    if jobs.wake(tx, key=key):
        raise Conflict(f"{node.name} has an order to its power that is not carried out yet.")
    job_id = jobs.enqueue(
        tx,
        service.PROCEDURE,
        node.id,
        step="hand-power",
        version=service.VERSION,
        key=key,
        data={"ordered": ordered},
    )
    audit.record(tx, actor=actor, action=f"node.{what}.ordered", subject=node.id, reason=reason, detail=ordered)
    return job_id


def _may_be_powered(tx: Tx, node: Node, what: str) -> None:
    if node.bmc_address is None:
        raise Refused(f"{node.name} has no BMC address, so nothing can power it.")
    if (stopped := brake.stopped(tx, node)) is not None:
        raise Refused(f"{what} of {node.name} is held: {stopped}. Order it again when that is over.")
