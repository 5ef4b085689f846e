"""A node as every face shows it (HTTP, CLI `--json`, console). Called by `nodes/api.py` and `console/`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ostler.core.clock import iso, iso_or_none
from ostler.db.tx import Tx
from ostler.nodes import store
from ostler.nodes.lifecycle import STATES
from ostler.nodes.model import UNMANAGED_NOTICE, Node, Service


def view(tx: Tx, nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """JSON objects for nodes, with their conditions and cordon holds read in bulk."""
    ids = [node.id for node in nodes]
    conditions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in store.conditions(tx, ids):
        conditions[row["node_id"]].append(
            {"type": row["type"], "reason": row["reason"], "message": row["message"], "since": iso(row["since"])}
        )
    holds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in store.holds(tx, ids):
        holds[row["node_id"]].append({"holder": row["holder"], "reason": row["reason"], "since": iso(row["since"])})
    slots = store.slots(tx, {node.slot for node in nodes if node.slot is not None})
    return [
        {
            "id": node.id,
            "name": node.name,
            "serial": node.serial,
            "slot": node.slot,
            "rack": slots[node.slot].domains.get("rack") if node.slot in slots else None,
            "pool": node.pool,
            "sku": node.sku,
            "service": node.service,
            "state": node.state,
            "phase": STATES[node.state].phase,
            "since": iso(node.state_since),
            "deadline": iso_or_none(node.state_deadline),
            "pending": None
            if node.pending_state is None
            else {
                "to": node.pending_state,
                "reason": node.pending_reason,
                "deadline": iso_or_none(node.pending_deadline),
            },
            "conditions": conditions[node.id],
            "cordoned": node.cordoned,
            "cordon_holds": holds[node.id],
            "maintenance_by": node.maintenance_by,
            "busy": node.busy,
            "last_seen": iso_or_none(node.last_seen),
            "driver": node.driver,
            "agent_version": node.agent_version,
            "gpus": node.gpu_count,
            "macs": list(node.macs),
            "bmc": node.bmc_address,
            "revision": node.revision,
            **({"notice": UNMANAGED_NOTICE} if node.service is Service.UNMANAGED else {}),
        }
        for node in nodes
    ]
