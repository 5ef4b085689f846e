"""Use cases of the join: a token becomes a certificate, once; a certificate is renewed. Called by `agent_api.py`.

A refusal is a value and no exception, because its audit entry must stay: an exception would roll it back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from ostler.audit import service as audit
from ostler.core.actor import Actor
from ostler.core.errors import Forbidden, Unauthenticated, Unavailable
from ostler.db.tx import Tx
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Condition, Node, State
from ostler.provisioning import policy, store, tokens
from ostler.provisioning.identity import clean_serial, clean_uuid
from ostler.provisioning.model import Joined, JoinFault, JoinRefused, ProvisioningSettings
from ostler.provisioning.service import IDENTITY
from ostler.wire.agent import JoinRequest

_ETHERNET = len("00:00:00:00:00:00")
"""Characters of an Ethernet address; InfiniBand's are longer, and none of the books'."""
RENEWAL_GAP_S = 60.0
"""Real seconds between two certificates of a node that renews, so that none fills database and audit log."""


class Certificate(Protocol):
    """What the certificate authority answers."""

    @property
    def pem(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER form, lower-case hex: what the TLS listener reports of a peer."""
        ...

    @property
    def expires_at(self) -> float:
        """Real time."""
        ...


class Signer(Protocol):
    """`signing.py` as the join needs it: pure computation, so it may run in a transaction."""

    def sign_agent(self, csr_pem: str, node_id: str, days: int) -> Certificate:
        """A client certificate for the key in the request. Raises `BadInput` when the request is no good."""
        ...


def join(
    tx: Tx, request: JoinRequest, *, signer: Signer, settings: ProvisioningSettings, address: str
) -> Joined | JoinRefused:
    """Exchange a join token for a certificate; a new node goes on to `onboard` by itself.

    A node that is known (it was imaged anew, or netboots at every start) keeps its state. Raises `BadInput` when the
    certificate request is no good: then the token is still unused.
    """
    token = _token(tx, request)
    refusal = policy.judge_join(request, token, tx.real)
    if refusal is not None or token is None:
        return _refuse(tx, request, address, refusal or JoinRefused(JoinFault.UNKNOWN, "unknown join token"))
    node = node_store.get(tx, token.node_id)
    learnt = _learn(tx, node, request)
    if isinstance(learnt, JoinRefused):
        return _refuse(tx, request, address, learnt)
    certificate = signer.sign_agent(request.csr_pem, node.id, settings.certificate_days)
    if not store.use_token(tx, token.id):
        used = JoinRefused(JoinFault.USED, "This join token was used already; a token joins once.", node.id)
        return _refuse(tx, request, address, used)
    revoked = store.revoke_certificates(tx, node.id)
    _keep(tx, node.id, certificate)
    node_store.update(tx, node.id, {"agent_version": request.agent_version, **learnt})
    actor = Actor(f"node:{node.id}")
    audit.record(
        tx,
        actor,
        "node.joined",
        node.id,
        detail={
            "mac": request.mac,
            "address": address,
            "agent_version": request.agent_version,
            "certificate": certificate.fingerprint,
            "certificates_revoked": revoked,
        },
    )
    first = node.state is State.DISCOVERED
    if first:
        facts = replace(nodes.facts(tx, node, actor), joined=True)
        nodes.transition(tx, node.id, State.ONBOARD, actor=actor, cause="joined", facts=facts, reason="the node joined")
    return Joined(node.id, node.name, certificate.pem, first)


def renew(
    tx: Tx, fingerprint: str, csr_pem: str, *, signer: Signer, settings: ProvisioningSettings
) -> tuple[str, Certificate]:
    """A new certificate for whoever shows a valid one; returns the node's id, too. The node's state does not matter,
    unless it is retired.

    The old one stays valid to its end, and is not revoked: were the answer lost, it would be all that the node has.
    Raises `Unauthenticated`, `Forbidden` (retired), `Unavailable` (a node gets one certificate a minute), `BadInput`.
    """
    row = store.certificate(tx, fingerprint)
    if row is None or row["revoked_at"] is not None or row["expires_at"] <= tx.real:
        raise Unauthenticated("This certificate is not, or no longer, valid here; boot the node again to join anew.")
    node = node_store.get(tx, row["node_id"])
    if node.state is State.RETIRED:
        raise Forbidden(f"{node.name} is retired; its certificate is not renewed.")
    wait = store.latest_certificate(tx, node.id) + RENEWAL_GAP_S - tx.real
    if wait > 0:
        raise Unavailable(f"{node.name} got a certificate less than {RENEWAL_GAP_S:.0f} s ago.", delay=wait)
    certificate = signer.sign_agent(csr_pem, node.id, settings.certificate_days)
    _keep(tx, node.id, certificate)
    audit.record(
        tx,
        Actor(f"node:{node.id}"),
        "node.certificate_renewed",
        node.id,
        detail={"certificate": certificate.fingerprint, "before": fingerprint},
    )
    return node.id, certificate


@dataclass(frozen=True)
class _Token(policy.IssuedToken):
    id: str


def _token(tx: Tx, request: JoinRequest) -> _Token | None:
    row = store.token_by_digest(tx, tokens.digest(request.token))
    if row is None:
        return None
    return _Token(
        id=row["id"],
        node_id=row["node_id"],
        node_name=row["node_name"],
        node_serial=row["node_serial"],
        retired=row["node_state"] == State.RETIRED,
        mac=row["mac"],
        serial=row["serial"],
        nonce=row["nonce"],
        expires_at=row["expires_at"],
        used_at=row["used_at"],
    )


def _learn(tx: Tx, node: Node, request: JoinRequest) -> dict[str, str] | JoinRefused:
    """Identity that the books did not have: proven as far as anything is on day 0, by token and nonce, and by MAC or
    serial number."""
    learnt: dict[str, str] = {}
    serial = clean_serial(request.serial)
    if node.serial is None and serial:
        if (other := node_store.by_serial(tx, serial)) is not None:
            return _disputed(tx, node, other, f"serial number {serial}")
        learnt["serial"] = serial
    if uuid := clean_uuid(request.uuid):
        learnt["uuid"] = uuid
    if len(request.mac) == _ETHERNET and request.mac not in node.macs:
        for other in node_store.by_mac(tx, (request.mac,)):
            return _disputed(tx, node, other, f"MAC {request.mac}")
        node_store.add_macs(tx, node.id, (request.mac,))
    return learnt


def _disputed(tx: Tx, node: Node, other: Node, what: str) -> JoinRefused:
    message = f"{node.name} joins with {what}, which is that of {other.name}"
    for node_id in (node.id, other.id):
        nodes.raise_condition(tx, node_id, Condition.HELD_FOR_PERSON, reason=IDENTITY, message=message)
    return JoinRefused(JoinFault.IDENTITY, f"{message}; a person must settle it.", node.id)


def _keep(tx: Tx, node_id: str, certificate: Certificate) -> None:
    store.insert_certificate(
        tx,
        {
            "fingerprint": certificate.fingerprint,
            "node_id": node_id,
            "issued_at": tx.real,
            "expires_at": certificate.expires_at,
        },
    )


def _refuse(tx: Tx, request: JoinRequest, address: str, refusal: JoinRefused) -> JoinRefused:
    """Nobody joins; who tried stays in the books, without the token."""
    audit.record(
        tx,
        Actor("node:unproven"),
        "node.join_refused",
        refusal.node_id or "join",
        reason=refusal.message,
        detail={
            "fault": refusal.fault,
            "mac": request.mac,
            "serial": clean_serial(request.serial),
            "address": address,
        },
    )
    return refusal
