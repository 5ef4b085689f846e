"""Nodes entered before their first power-on, from an inventory, so that the first boot request finds slot, SKU and BMC.

Called by `api.py`, and by the demo for its twin. Safe to repeat: a node that is in the books with the same MACs keeps
its state and history, and only what was empty is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ostler.audit import service as audit
from ostler.core.actor import Actor
from ostler.core.errors import BadInput
from ostler.db.tx import Tx
from ostler.nodes import adopt
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Node, Service, Slot
from ostler.provisioning import cloud_init, identity

_TEXTS = ("name", "serial", "slot", "pool", "sku", "service", "bmc_address", "bmc_secret")
_KEYS = frozenset({*_TEXTS, "macs", "network", "domains"})


@dataclass(frozen=True)
class Expected:
    """One line of the inventory. `network` and `domains` belong to the slot."""

    name: str
    macs: tuple[str, ...]
    serial: str | None = None
    slot: str | None = None
    pool: str = "default"
    sku: str | None = None
    service: Service = Service.MANAGED
    bmc_address: str | None = None
    bmc_secret: str | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    domains: Mapping[str, str] = field(default_factory=dict)


def parse(row: Mapping[str, Any], where: str) -> Expected:
    """One line, strictly. Raises `BadInput` naming line and key."""
    for key, value in row.items():
        if key not in _KEYS:
            raise BadInput(f"the key '{key[:64]}' is not one of {', '.join(sorted(_KEYS))}", where=where)
        if key in _TEXTS and (not isinstance(value, str) or len(value) > 512):
            raise BadInput("must be text", where=f"{where}.{key}")
    name = row.get("name", "")
    if not name:
        raise BadInput("is missing", where=f"{where}.name")
    cloud_init.check_host_name(name, f"{where}.name")
    macs = row.get("macs", [])
    if not isinstance(macs, list) or not macs or not all(isinstance(mac, str) for mac in macs):
        raise BadInput("must be a list of at least one MAC address", where=f"{where}.macs")
    try:
        spelt = tuple(identity.clean(mac).mac for mac in macs)
    except BadInput as error:
        raise BadInput(error.message, where=f"{where}.macs") from None
    serial = row.get("serial", "")
    if serial and not identity.clean_serial(serial):
        raise BadInput("is a placeholder or no serial number", where=f"{where}.serial")
    try:
        service = Service(row.get("service", Service.MANAGED))
    except ValueError:
        raise BadInput(f"must be one of {', '.join(Service)}", where=f"{where}.service") from None
    tables = {}
    for key in ("network", "domains"):
        tables[key] = row.get(key, {})
        if not isinstance(tables[key], Mapping):
            raise BadInput("must be a table", where=f"{where}.{key}")
        if tables[key] and not row.get("slot"):
            raise BadInput("belongs to a slot; name it", where=f"{where}.{key}")
    slot = adopt.parse_slot(row["slot"], f"{where}.slot").name if row.get("slot") else None
    if tables["network"]:
        cloud_init.check_network(tables["network"], f"{where}.network")
    return Expected(
        name=name,
        macs=spelt,
        serial=identity.clean_serial(serial) or None,
        slot=slot,
        pool=row.get("pool") or "default",
        sku=row.get("sku") or None,
        service=service,
        bmc_address=row.get("bmc_address") or None,
        bmc_secret=row.get("bmc_secret") or None,
        network=tables["network"],
        domains={str(kind): str(value) for kind, value in tables["domains"].items()},
    )


def expect(tx: Tx, row: Expected, *, actor: Actor, reason: str = "") -> Node:
    """Enter the node as `discovered`, or fill in what the books lack. Raises `Conflict` when it is somebody else's."""
    if row.slot is not None:
        _slot(tx, row)
    owners = node_store.by_mac(tx, row.macs)
    if len(owners) == 1 and owners[0].name == row.name:
        return _fill_in(tx, owners[0], row, actor, reason)
    return nodes.register(
        tx,
        name=row.name,
        pool=row.pool,
        actor=actor,
        cause="expected",
        serial=row.serial,
        slot=row.slot,
        sku=row.sku,
        macs=row.macs,
        bmc_address=row.bmc_address,
        bmc_secret=row.bmc_secret,
        service=row.service,
    )


def _fill_in(tx: Tx, node: Node, row: Expected, actor: Actor, reason: str) -> Node:
    missing = {
        key: getattr(row, key)
        for key in ("serial", "slot", "sku", "bmc_address", "bmc_secret")
        if getattr(node, key) is None and getattr(row, key) is not None
    }
    if missing:
        node_store.update(tx, node.id, missing)
        told = {key: value for key, value in missing.items() if key != "bmc_secret"}
        audit.record(tx, actor, "node.completed", node.id, reason=reason, detail=told)
    node_store.add_macs(tx, node.id, [mac for mac in row.macs if mac not in node.macs])
    return node_store.get(tx, node.id)


def _slot(tx: Tx, row: Expected) -> None:
    assert row.slot is not None
    parsed = adopt.parse_slot(row.slot, f"{row.name}: slot")
    present = node_store.get_slot(tx, row.slot)
    if present is None or row.network or row.domains:
        kept = present or parsed
        node_store.put_slot(
            tx,
            Slot(
                kept.name,
                kept.site,
                kept.row,
                kept.rack,
                kept.unit,
                {**kept.domains, **row.domains},
                row.network or kept.network,
            ),
        )
