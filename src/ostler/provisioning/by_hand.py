"""A seed without a boot: how a machine that runs already, such as an adopted node, gets its agent. Called by `api.py`.

The token is made as at a boot (`tokens.py`): single use, `join_token_s`, bound to a nonce, and to what the books know
of the machine, its MAC and its serial number. Nothing is bound that the books do not know, but one of the two must be
there: a seed that fits any machine is not made. The join (`joining.py`) keeps the node's state.
"""

from __future__ import annotations

from ostler.audit import service as audit
from ostler.core.actor import Actor
from ostler.core.clock import iso
from ostler.core.errors import BadInput, Conflict
from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.nodes import store as node_store
from ostler.nodes.model import Condition, Node, State
from ostler.provisioning import identity, store, tokens
from ostler.provisioning.model import ProvisioningSettings, Trust
from ostler.provisioning.service import IDENTITY
from ostler.wire.boot import Seed


def issue(
    tx: Tx, name: str, settings: ProvisioningSettings, trust: Trust, *, mac: str | None, actor: Actor, reason: str
) -> Seed:
    """The seed of one node, with the secret; it is nowhere to be seen again. `mac`: which of the node's, when not the
    first (the agent must find it on an interface of its own).

    Raises `NotFound`, `Conflict` (retired, held because of who it is, nothing to bind to), `BadInput` (not its MAC).
    """
    if not settings.server_url:
        raise BadInput("no node can be told where to join; set it to https://HOST:PORT", where="server_url")
    node = node_store.get(tx, name)
    if node.state is State.RETIRED:
        raise Conflict(f"{node.name} is retired; a retired node does not join.")
    held = node_store.active_condition(tx, node.id, Condition.HELD_FOR_PERSON)
    if held is not None and held["reason"] == IDENTITY:
        raise Conflict(f"{node.name} is held for a person: {held['message']}; settle it first (provision identity).")
    bound = _mac_of(node, mac)
    serial = node.serial or ""
    if not bound and not serial:
        raise Conflict(
            f"The books know neither a MAC nor a serial number of {node.name}, so its seed would fit any machine; "
            "say who it is first (provision identity)."
        )
    nonce = tokens.new_nonce()
    token = tokens.derive(trust.token_key, nonce=nonce, mac=bound, serial=serial)
    token_id, expires_at = new_id("join"), tx.real + settings.join_token_s
    store.insert_token(
        tx,
        {
            "id": token_id,
            "node_id": node.id,
            "digest": tokens.digest(token),
            "mac": bound,
            "serial": serial,
            "nonce": nonce,
            "created_at": tx.real,
            "expires_at": expires_at,
        },
    )
    audit.record(
        tx,
        actor,
        "node.seed_issued",
        node.id,
        reason=reason,
        detail={"token": token_id, "mac": bound, "serial": serial, "expires_at": iso(expires_at)},
    )
    return Seed(settings.server_url, token, nonce, trust.ca_sha256, trust.ca_pem, bound or None)


def _mac_of(node: Node, mac: str | None) -> str:
    if mac is None:
        return next(iter(node.macs), "")
    spelt = identity.clean(mac).mac
    if spelt not in node.macs:
        has = ", ".join(node.macs[:8]) or "none"
        raise BadInput(f"{spelt} is no MAC of {node.name}; the books have {has}", where="mac")
    return spelt
