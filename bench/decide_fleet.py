"""A fleet that stands in the books from the start, and what its agents say, as bytes. For `bench/decide.py`.

The nodes are entered into the tables in bulk: how they come there is Day 1's business (`bench/twin.py`). Their parts
are the twin's; their place is a rack of 16 nodes and a leaf switch of 512.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from ostler import __version__
from ostler.agent.translate import signal_of
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.schema import agent_session, node, node_mac, pool, sku, slot
from ostler.db.tx import Tx
from ostler.faults import Detector
from ostler.faults import monitored as faults
from ostler.faults.model import Fault
from ostler.twin.spec import DRIVER, GPU_ADDRESSES, SKU, NodeSpec, fleet, sku_document
from ostler.wire.agent import Heartbeat, Signal
from ostler.wire.decode import encode

RACK = 16
SWITCH = 512
"""Nodes of one rack, and of one leaf switch."""
CLUSTER = "bench"
POOL = "bench"
CAPABILITIES = ["observe", "cordon", "gpu-reset", "reboot", "power"]
XID = "NVRM: Xid (PCI:{device}): {code}, pid=1234, name=python3, Ch 00000008"
_CHUNK = 2000


@dataclass(slots=True)
class Sender:
    """A node's agent, as far as its reports go: what it has to number."""

    id: str
    name: str
    switch: str
    boot: str
    seq: int = 0
    """The last sequence given."""
    acked: int = 0
    """The last one that the server has acknowledged."""

    def report(self, signals: Sequence[bytes], now: float) -> bytes:
        """A report as it comes over the wire; sequences are given here."""
        first = self.seq + 1
        told = b",".join(b'{"seq":%d%s' % (first + n, one) for n, one in enumerate(signals))
        self.seq += len(signals)
        return b'{"boot_id":"%s","sent_at":%.3f,"first_seq":%d,"signals":[%s],"heartbeat":%s,"agent_version":"%s"}' % (
            self.boot.encode(),
            now,
            first,
            told,
            _HEARTBEAT,
            __version__.encode(),
        )


_HEARTBEAT = encode(Heartbeat(86_400.0, busy=True, driver=DRIVER))


def rendered(signal: Signal) -> bytes:
    """A signal as it travels, from behind its sequence on."""
    raw = encode(signal)
    head = b'{"seq":1'
    assert raw.startswith(head)
    return raw[len(head) :]


def kernel(line: str, at: float) -> bytes:
    """What an agent makes of a kernel line; the line must be a fault."""
    fault = Detector(DRIVER).detect(line)
    assert fault is not None, line
    return rendered(signal_of(fault, at))


def monitored(fault: Fault, monitor: str, at: float) -> bytes:
    """What an agent's monitor says."""
    made = signal_of(fault, at, "monitor")
    return rendered(replace(made, detail={**made.detail, "monitor": monitor}))


def load(db: Database, count: int) -> list[Sender]:
    """Enter `count` nodes in production, heard of a moment ago. Returns their agents, in order of their places."""
    now = db.clock.now()
    db.write(lambda tx: _ground(tx, now))
    senders: list[Sender] = []
    specs = iter(fleet(count, 1))
    for start in range(0, count, _CHUNK):
        rows = [_rows(spec, start + n, now) for n, spec in enumerate(islice(specs, _CHUNK))]
        db.write(partial(_enter, rows=rows))
        senders += [
            Sender(one["id"], one["name"], place["domains"]["fabric"], one["boot_id"]) for one, place, _ in rows
        ]
    if db.dialect == "postgresql":
        db.write(lambda tx: tx.conn.exec_driver_sql("analyze"))
    return senders


def _ground(tx: Tx, now: float) -> None:
    tx.execute(sku.insert().values(name=SKU, spec=sku_document(), updated_at=now))
    tx.execute(pool.insert().values(name=POOL, capabilities=CAPABILITIES, cluster=CLUSTER, created_at=now))


def _rows(spec: NodeSpec, number: int, now: float) -> tuple[dict[str, Any], dict[str, Any], str]:
    rack, switch = f"b/a/r{number // RACK:05d}", f"leaf-{number // SWITCH:04d}"
    place = {
        "name": f"{rack}/u{number % RACK:02d}",
        "site": "b",
        "row": "a",
        "rack": rack,
        "unit": f"u{number % RACK:02d}",
        "domains": {"rack": rack, "fabric": switch},
        "network": {},
    }
    one = {
        "id": new_id("node"),
        "name": spec.name,
        "serial": spec.serial,
        "uuid": spec.uuid,
        "slot": place["name"],
        "pool": POOL,
        "sku": SKU,
        "bmc_address": f"https://bmc-{number}.invalid",
        "state": "production",
        "state_since": now - 86_400.0,
        "cordoned": False,
        "cordon_checked_at": now,
        "boot_id": f"b{number:07d}",
        "last_seen": now,
        "agent_version": __version__,
        "driver": DRIVER,
        "busy": True,
        "inventory": json.loads(json.dumps(asdict(spec.inventory(spec.firmware)))),
        "created_at": now - 86_400.0,
    }
    return one, place, spec.mac


def _enter(tx: Tx, rows: list[tuple[dict[str, Any], dict[str, Any], str]]) -> None:
    tx.execute(slot.insert(), [place for _, place, _ in rows])
    tx.execute(node.insert(), [one for one, _, _ in rows])
    tx.execute(node_mac.insert(), [{"mac": mac, "node_id": one["id"]} for one, _, mac in rows])
    sessions = [
        {
            "node_id": one["id"],
            "boot_id": one["boot_id"],
            "last_seq": 0,
            "first_seen": one["state_since"],
            "last_seen": one["last_seen"],
        }
        for one, _, _ in rows
    ]
    tx.execute(agent_session.insert(), sessions)


def chatter(at: float) -> list[bytes]:
    """What a node says whose eight GPUs all complain at once: none of it asks for more than watching.

    The agent folds what is equal within 10 s, so a node says each of these once in that time: 4 a second.
    """
    codes = (13, 31, 43, 45, 92)
    return [kernel(XID.format(device=device[:-2], code=code), at) for code in codes for device in GPU_ADDRESSES]


def lost_gpu(at: float) -> bytes:
    """A fatal fault: the node is cordoned at once, and rebooted when what else is reported is known."""
    return kernel(XID.format(device=GPU_ADDRESSES[0][:-2], code=79), at)


def dead_link(at: float) -> bytes:
    """What the agent's InfiniBand monitor says on each node behind a dead switch."""
    return monitored(faults.fault("ib-port-down", "mlx5_0/1"), "ib", at)
