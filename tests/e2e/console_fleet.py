"""A made-up fleet in a database, for looking at the console: nodes in every state, with the lives that led there.

Rows are written as tables (`db/schema`), because what is shown must not depend on which procedures exist.
"""

from __future__ import annotations

import random
from typing import Any

from ostler.core.ids import new_id
from ostler.db import schema
from ostler.db.tx import Tx
from ostler.nodes.model import State
from tests.e2e.console_stories import event, node5, node7, past

_RARE = (
    State.DISCOVERED, State.ONBOARD, State.SEATRIAL, State.ZAP, State.ZAP_FAIL, State.TEST, State.REBOOT, State.TRIAGE,
    State.TRIAGE, State.DEBUG, State.RMA, State.TEST, State.REBOOT, State.ZAP,
)  # fmt: skip


def seed(tx: Tx, *, nodes: int, per_rack: int, seed: int = 7) -> list[str]:
    """Fill an empty database; returns node ids by number. Node 7 fell off the bus, node 5 waits for its workload."""
    dice = random.Random(seed)
    tx.execute(
        schema.pool.insert(), [{"name": "train", "capabilities": ["observe", "cordon", "reboot"], "created_at": tx.now}]
    )
    racks = -(-nodes // per_rack)
    slots = [
        {
            "name": f"dc1/A/r{rack + 1:02d}/u{unit + 1:02d}",
            "site": "dc1",
            "row": "A",
            "rack": f"r{rack + 1:02d}",
            "unit": f"{unit + 1:02d}",
            "domains": {},
            "network": {},
        }
        for rack in range(racks)
        for unit in range(per_rack)
    ]
    tx.execute(schema.slot.insert(), slots)
    ids = [new_id("node") for _ in range(nodes)]
    states = {7: State.TRIAGE, 5: State.PRODUCTION, 3: State.REBOOT, 11: State.ZAP, 14: State.ONBOARD}
    if nodes > 48:
        states |= {number: dice.choice(_RARE) for number in dice.sample(range(20, nodes), nodes // 14)}
    tx.execute(
        schema.node.insert(),
        [_node(tx, number, ids[number], slots[number]["name"], states, dice) for number in range(nodes)],
    )
    tx.execute(
        schema.node_mac.insert(),
        [
            {"mac": f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}", "node_id": ids[number]}
            for number in range(nodes)
        ],
    )
    for number in range(nodes):
        _life(tx, ids[number], number, states.get(number, State.PRODUCTION), dice)
    node7(tx, ids[7])
    node5(tx, ids[5])
    silent = ids[9]
    tx.execute(
        schema.condition.insert(),
        [
            {
                "id": new_id("cond"),
                "node_id": silent,
                "type": "Silent",
                "reason": "no heartbeat",
                "message": "last seen 4 min ago",
                "evidence": {},
                "since": tx.now - 240,
            }
        ],
    )
    tx.execute(
        schema.cordon_hold.insert(),
        [
            {
                "node_id": ids[12],
                "holder": "person",
                "reason": "cable swap at 14:00",
                "actor": "person:mara",
                "since": tx.now - 900,
            }
        ],
    )
    return ids


def happen(tx: Tx, node_id: str, name: str, to: State, reason: str) -> None:
    """Node goes to a state now, with its event sealed as the last in the order of all."""
    before = tx.scalar(schema.node.select().with_only_columns(schema.node.c.state).where(schema.node.c.id == node_id))
    tx.execute(schema.node.update().where(schema.node.c.id == node_id).values(state=to, state_since=tx.now))
    event(
        tx,
        "node.state_changed",
        node_id,
        {"node_id": node_id, "node_name": name, "from": before, "to": to, "cause": "finding", "reason": reason},
        at=tx.now,
    )


def _node(
    tx: Tx, number: int, node_id: str, slot: Any, states: dict[int, State], dice: random.Random
) -> dict[str, Any]:
    return {
        "id": node_id,
        "name": f"gpu-{number:04d}",
        "serial": f"SN{7_100_000 + number}",
        "slot": slot,
        "pool": "train",
        "sku": "hgx-h100-8",
        "service": "managed",
        "bmc_address": f"https://10.1.{number >> 8}.{number & 255}",
        "state": states.get(number, State.PRODUCTION),
        "state_since": tx.now - dice.randint(60, 40_000),
        "boot_id": "5f2f3a0e-6d2b-4b53-9a51-0d5b8f6f0c11",
        "last_seen": tx.now - 4,
        "agent_version": "0.1.0",
        "driver": "570.133.20",
        "busy": number % 3 != 0,
        "inventory": {
            "gpus": [
                {"pci": f"0000:{bus:02x}:00.0", "model": "H100 SXM5 80GB"}
                for bus in (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)
            ]
        },
        "created_at": tx.now - 9 * 86400,
    }


def _life(tx: Tx, node_id: str, number: int, state: State, dice: random.Random) -> None:
    """Every node came the whole way; those that are not in production left it since."""
    at = tx.now - 3 * 86400 - dice.randint(0, 80_000)
    way = [
        (None, State.DISCOVERED, 0.0),
        (State.DISCOVERED, State.ONBOARD, 400.0),
        (State.ONBOARD, State.SEATRIAL, 9000.0),
    ]
    way += [
        (State.SEATRIAL, State.ZAP, 1300.0),
        (State.ZAP, State.TEST, 5200.0),
        (State.TEST, State.PRODUCTION, 86400.0),
    ]
    rows = []
    for start, to, lasted in way:
        at += lasted
        rows.append(past(node_id, start, to, at, lasted or None))
    if state is not State.PRODUCTION and number != 7:
        since = tx.now - dice.randint(60, 5000)
        rows.append(
            past(
                node_id,
                State.PRODUCTION,
                state,
                since,
                since - at,
                cause="finding",
                actor="ostler:remediation",
                reason="XID 95: uncontained ECC error",
            )
        )
        event(
            tx,
            "node.state_changed",
            node_id,
            {
                "node_id": node_id,
                "node_name": f"gpu-{number:04d}",
                "from": "production",
                "to": state,
                "cause": "finding",
                "reason": "XID 95: uncontained ECC error",
            },
            at=since,
        )
        if state.value != "production":
            tx.execute(
                schema.cordon_hold.insert(),
                [{"node_id": node_id, "holder": "lifecycle", "reason": state, "actor": "ostler:nodes", "since": since}],
            )
    tx.execute(schema.transition.insert(), rows)
