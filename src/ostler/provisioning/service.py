"""Use cases of Day 0 before the join: a machine asks to boot, its seed is rendered, a person settles who it is.

Called by `boot_api.py` (the boot listener: plain HTTP, nothing here is proven) and `api.py` (people). One transaction
each, no I/O. Joining is in `joining.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ostler.audit import service as audit
from ostler.core.actor import Actor, ostler
from ostler.core.errors import BadInput, Conflict, Gone, NotFound
from ostler.core.ids import new_id
from ostler.db.schema import node as node_table
from ostler.db.tx import Tx
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Condition, Node, State
from ostler.provisioning import cloud_init, identity, policy, store, tokens
from ostler.provisioning.model import (
    Boot,
    BootAsk,
    BootDecision,
    Held,
    Known,
    New,
    ProvisioningSettings,
    SeedFacts,
    Served,
    Trust,
)

ACTOR = ostler("provisioning")

IDENTITY = "identity"
"""Reason of the condition HeldForPerson: what a machine says of itself does not fit the books."""
SEED_INVALID = "seed-invalid"
"""Reason of the condition HeldForPerson: the documents for this node would be no good."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


# A machine asks what to boot ------------------------------------------------------------------------------------------


def boot(tx: Tx, ask: BootAsk, settings: ProvisioningSettings, trust: Trust) -> Served:
    """Recognise the machine, enter it into the books if it is new, and say what it boots. Always answers something.

    Asking again is harmless: it gets a fresh nonce and token, and unused ones end by themselves.
    """
    verdict = _identify(tx, ask)
    if isinstance(verdict, New):
        tx.lock("provisioning.register")  # two interfaces of one machine may ask at the same moment
        verdict = _identify(tx, ask)
    match verdict:
        case Held(node_ids, reason):
            for node_id in node_ids:
                _hold(tx, node_id, IDENTITY, reason)
            return _wait(ask, f"held for a person: {reason}", node_id=node_ids[0])
        case New(held):
            return _unknown(tx, ask, held, settings, trust)
        case Known(node_id):
            return _known(tx, ask, node_store.get(tx, node_id), settings, trust)


def _identify(tx: Tx, ask: BootAsk) -> Known | New | Held:
    return identity.identify(ask, store.candidate_by_mac(tx, ask.mac), store.candidate_by_serial(tx, ask.serial))


def _unknown(tx: Tx, ask: BootAsk, held: str, settings: ProvisioningSettings, trust: Trust) -> Served:
    if not settings.register_unknown:
        return _wait(ask, f"the machine {ask.mac} is unknown, and unknown machines are not registered here")
    if node_store.count(tx, node_table.c.state == State.DISCOVERED.value) >= settings.unjoined_limit:
        return _wait(ask, f"{settings.unjoined_limit} machines that never joined are in the books; clear them first")
    try:
        node = nodes.register(
            tx,
            name=_name_for(tx, ask),
            pool=settings.default_pool,
            actor=ACTOR,
            cause="boot-request",
            serial=ask.serial or None,
            uuid=ask.uuid or None,
            macs=(ask.mac,),
        )
    except NotFound:
        return _wait(ask, f"there is no pool '{settings.default_pool}' to register unknown machines in")
    if held:
        _hold(tx, node.id, IDENTITY, held)
        return _wait(ask, f"held for a person: {held}", node_id=node.id)
    return _known(tx, ask, node, settings, trust)


def _known(tx: Tx, ask: BootAsk, node: Node, settings: ProvisioningSettings, trust: Trust) -> Served:
    decision = policy.decide_boot(node, node_store.get_pool(tx, node.pool))
    if decision.boot is Boot.IMAGE and (fault := _seed_fault(tx, node, settings)) is not None:
        _hold(tx, node.id, SEED_INVALID, fault)
        decision = BootDecision(Boot.WAIT, f"held for a person: {fault}")
    elif decision.boot is Boot.IMAGE:
        _release(tx, node.id, SEED_INVALID)
    nonce = tokens.new_nonce()
    expires_at = tx.real + settings.join_token_s
    store.insert_request(
        tx,
        {
            "id": new_id("boot"),
            "node_id": node.id,
            "mac": ask.mac,
            "serial": ask.serial,
            "uuid": ask.uuid,
            "nonce": nonce,
            "address": ask.address,
            "at": tx.now,
            "expires_at": expires_at,
        },
    )
    if decision.boot is not Boot.IMAGE:
        return Served(decision, ask, node.id, node.name)
    token = tokens.derive(trust.token_key, nonce=nonce, mac=ask.mac, serial=ask.serial)
    store.insert_token(
        tx,
        {
            "id": new_id("join"),
            "node_id": node.id,
            "digest": tokens.digest(token),
            "mac": ask.mac,
            "serial": ask.serial,
            "nonce": nonce,
            "created_at": tx.real,
            "expires_at": expires_at,
        },
    )
    return Served(decision, ask, node.id, node.name, nonce)


def _seed_fault(tx: Tx, node: Node, settings: ProvisioningSettings) -> str | None:
    """Why this node's documents could not be served, before it is sent to fetch them."""
    if not settings.server_url:
        return "[provisioning] server_url is not set, so no node can be told where to join"
    slot = None if node.slot is None else node_store.get_slot(tx, node.slot)
    if slot is not None and slot.network:
        try:
            cloud_init.check_network(slot.network, f"slot {slot.name}")
        except BadInput as error:
            return str(error)
    return None


def _name_for(tx: Tx, ask: BootAsk) -> str:
    """The serial number where it makes a host name that is free, else the MAC."""
    label = ask.serial.lower()
    if _LABEL.fullmatch(label) and not node_store.find(tx, node_table.c.name == label, limit=1):
        return label
    return "node-" + ask.mac.replace(":", "")


def _wait(ask: BootAsk, why: str, *, node_id: str | None = None) -> Served:
    return Served(BootDecision(Boot.WAIT, why), ask, node_id)


def _hold(tx: Tx, node_id: str, reason: str, message: str) -> None:
    present = node_store.active_condition(tx, node_id, Condition.HELD_FOR_PERSON)
    if present is not None and (present["reason"], present["message"]) == (reason, message):
        return  # a machine asks every few seconds: nothing new, nothing written
    if present is not None and present["reason"] != reason and reason != IDENTITY:
        return  # what holds it already comes first
    nodes.raise_condition(tx, node_id, Condition.HELD_FOR_PERSON, reason=reason, message=message)
    audit.record(tx, ACTOR, "node.held", node_id, reason=message, detail={"hold": reason})


def _release(tx: Tx, node_id: str, reason: str) -> None:
    present = node_store.active_condition(tx, node_id, Condition.HELD_FOR_PERSON)
    if present is not None and present["reason"] == reason:
        nodes.clear_condition(tx, node_id, Condition.HELD_FOR_PERSON)


# The seed -------------------------------------------------------------------------------------------------------------


def seed(tx: Tx, nonce: str, settings: ProvisioningSettings, trust: Trust) -> cloud_init.Documents:
    """The documents of one boot; reading them any number of times uses nothing up.

    Raises `NotFound` for a nonce nobody was given, `Gone` when it is too old, `BadInput` when they would be no good.
    """
    row = store.request_by_nonce(tx, nonce)
    if row is None:
        raise NotFound("No boot request has this nonce; boot the node again.")
    if tx.real >= row["expires_at"]:
        raise Gone("The seed of this boot request has expired; boot the node again.")
    node = node_store.get(tx, row["node_id"])
    token = tokens.derive(trust.token_key, nonce=nonce, mac=row["mac"], serial=row["serial"])
    return cloud_init.render(_facts(tx, node, row["mac"], nonce, token), settings, trust)


def _facts(tx: Tx, node: Node, mac: str, nonce: str, token: str) -> SeedFacts:
    slot = None if node.slot is None else node_store.get_slot(tx, node.slot)
    return SeedFacts(node.id, node.name, mac, {} if slot is None else slot.network, nonce, token)


# People ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """One boot request as people are shown it; times: `at` domain, `expires_at` real."""

    mac: str
    serial: str
    uuid: str
    address: str
    at: float
    expires_at: float


@dataclass(frozen=True)
class Preview:
    """What a node would get if it asked now, and why."""

    node: Node
    decision: BootDecision
    mac: str
    documents: cloud_init.Documents | None
    """None where no image would be served; the token is redacted."""
    held: str
    requests: Sequence[Request]


def preview(tx: Tx, name: str, settings: ProvisioningSettings, trust: Trust) -> Preview:
    """Exactly what a node would be served, with the secret left out. Raises `NotFound`, `BadInput`, `Conflict`."""
    node = node_store.get(tx, name)
    rows = store.requests(tx, node.id, limit=5)
    mac = rows[0]["mac"] if rows else next(iter(node.macs), "")
    held = node_store.active_condition(tx, node.id, Condition.HELD_FOR_PERSON)
    decision = policy.decide_boot(node, node_store.get_pool(tx, node.pool))
    documents = None
    if decision.boot is Boot.IMAGE:
        if not mac:
            raise Conflict(f"{node.name} has no MAC in the books, so no boot request can be recognised as its own.")
        facts = _facts(tx, node, mac, cloud_init.REDACTED, cloud_init.REDACTED)
        documents = cloud_init.render(facts, settings, trust)
    fields = ("mac", "serial", "uuid", "address", "at", "expires_at")
    requests = [Request(**{field: row[field] for field in fields}) for row in rows]
    return Preview(node, decision, mac, documents, "" if held is None else held["message"], requests)


def settle_identity(
    tx: Tx,
    name: str,
    *,
    serial: str | None,
    macs: tuple[str, ...] | None,
    actor: Actor,
    reason: str,
) -> Node:
    """A person says who a node is: an approved swap of board or interface, or a machine without a serial number.

    `None` leaves that part as it is; `serial=""` says that the machine has none. The node keeps its id and history, and
    its hold ends. Raises `Conflict` when serial number or MAC belong to another node, `BadInput` for a bad MAC.
    """
    node = node_store.get(tx, name)
    change: dict[str, object] = {}
    if serial is not None:
        wanted = identity.clean_serial(serial)
        if serial and not wanted:
            raise BadInput(f"'{serial[:64]}' is a placeholder or no serial number", where="serial")
        if wanted and (other := node_store.by_serial(tx, wanted)) is not None and other.id != node.id:
            raise Conflict(f"The serial number {wanted} belongs to {other.name}; settle that node first.")
        change["serial"] = wanted or None
    if macs is not None:
        spelt = tuple(identity.clean(mac).mac for mac in macs)
        for other in node_store.by_mac(tx, spelt):
            if other.id != node.id:
                raise Conflict(f"A MAC of these belongs to {other.name}; settle that node first.")
        store.replace_macs(tx, node.id, spelt)
        change["macs"] = list(spelt)
    node_store.update(tx, node.id, {"serial": change["serial"]} if "serial" in change else {"uuid": node.uuid})
    nodes.clear_condition(tx, node.id, Condition.HELD_FOR_PERSON)
    before = {"serial": node.serial, "macs": list(node.macs)}
    audit.record(tx, actor, "node.identity_settled", node.id, reason=reason, detail={"before": before, **change})
    return node_store.get(tx, node.id)
