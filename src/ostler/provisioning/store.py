"""SQL about boot requests, join tokens and agents' certificates; no decisions. Called by `service.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.db.schema import agent_certificate, boot_request, condition, join_token, node, node_mac
from ostler.db.tx import Tx
from ostler.nodes.model import Condition, State
from ostler.provisioning.model import Candidate

KEPT_REQUESTS = 20
"""Boot requests that stay in the books per node: what a person looks back at."""


def candidate_by_mac(tx: Tx, mac: str) -> Candidate | None:
    """The node that owns a MAC."""
    return _candidate(tx, node.c.id == sa.select(node_mac.c.node_id).where(node_mac.c.mac == mac).scalar_subquery())


def candidate_by_serial(tx: Tx, serial: str) -> Candidate | None:
    """The node with a serial number."""
    return _candidate(tx, node.c.serial == serial) if serial else None


def _candidate(tx: Tx, where: sa.ColumnElement[bool]) -> Candidate | None:
    held = (
        sa.select(condition.c.id)
        .where(
            condition.c.node_id == node.c.id,
            condition.c.type == Condition.HELD_FOR_PERSON.value,
            condition.c.until.is_(None),
        )
        .exists()
    )
    columns = (node.c.id, node.c.name, node.c.state, node.c.serial, node.c.uuid, held.label("held"))
    row = tx.one(sa.select(*columns).where(where))
    if row is None:
        return None
    macs = tx.all(sa.select(node_mac.c.mac).where(node_mac.c.node_id == row["id"]).order_by(node_mac.c.mac))
    return Candidate(
        row["id"],
        row["name"],
        State(row["state"]),
        row["serial"],
        row["uuid"],
        tuple(entry["mac"] for entry in macs),
        bool(row["held"]),
    )


def insert_request(tx: Tx, values: Mapping[str, Any]) -> None:
    """Note a boot request and forget those of this node that nobody will look at any more."""
    tx.execute(boot_request.insert().values(**values))
    of_node = boot_request.c.node_id == values["node_id"]
    kept = (
        sa.select(boot_request.c.id)
        .where(of_node)
        .order_by(boot_request.c.at.desc(), boot_request.c.id.desc())
        .limit(KEPT_REQUESTS)
    )
    tx.execute(boot_request.delete().where(of_node, boot_request.c.id.not_in(kept)))


def request_by_nonce(tx: Tx, nonce: str) -> sa.RowMapping | None:
    return tx.one(sa.select(boot_request).where(boot_request.c.nonce == nonce).limit(1))


def requests(tx: Tx, node_id: str, *, limit: int) -> Sequence[sa.RowMapping]:
    """A node's latest boot requests, newest first."""
    return tx.all(
        sa.select(boot_request)
        .where(boot_request.c.node_id == node_id)
        .order_by(boot_request.c.at.desc(), boot_request.c.id.desc())
        .limit(limit)
    )


def insert_token(tx: Tx, values: Mapping[str, Any]) -> None:
    """Note a join token and drop this node's tokens that ended a day ago or longer."""
    tx.execute(join_token.insert().values(**values))
    day = 86_400.0
    tx.execute(
        join_token.delete().where(
            join_token.c.node_id == values["node_id"], join_token.c.expires_at < values["created_at"] - day
        )
    )


def token_by_digest(tx: Tx, digest: str) -> sa.RowMapping | None:
    """The token with its node."""
    return tx.one(
        sa.select(
            join_token,
            node.c.name.label("node_name"),
            node.c.serial.label("node_serial"),
            node.c.state.label("node_state"),
        )
        .join(node, node.c.id == join_token.c.node_id)
        .where(join_token.c.digest == digest)
    )


def use_token(tx: Tx, token_id: str) -> bool:
    """Burn a token; False if somebody was faster."""
    burnt = tx.execute(
        join_token.update().where(join_token.c.id == token_id, join_token.c.used_at.is_(None)).values(used_at=tx.real)
    )
    return burnt.rowcount == 1


def insert_certificate(tx: Tx, values: Mapping[str, Any]) -> None:
    """Note a certificate and drop this node's that ended before: TLS refuses those by itself."""
    tx.execute(
        agent_certificate.delete().where(
            agent_certificate.c.node_id == values["node_id"], agent_certificate.c.expires_at < values["issued_at"]
        )
    )
    tx.execute(agent_certificate.insert().values(**values))


def latest_certificate(tx: Tx, node_id: str) -> float:
    """When this node last got one, real time; 0: never."""
    issued = sa.select(sa.func.max(agent_certificate.c.issued_at)).where(agent_certificate.c.node_id == node_id)
    return float(tx.scalar(issued) or 0.0)


def revoke_certificates(tx: Tx, node_id: str) -> int:
    """A node that joins anew has lost its key; what spoke for it before does so no longer."""
    return tx.execute(
        agent_certificate.update()
        .where(agent_certificate.c.node_id == node_id, agent_certificate.c.revoked_at.is_(None))
        .values(revoked_at=tx.real)
    ).rowcount


def certificate(tx: Tx, fingerprint: str) -> sa.RowMapping | None:
    return tx.one(sa.select(agent_certificate).where(agent_certificate.c.fingerprint == fingerprint))


def replace_macs(tx: Tx, node_id: str, macs: Sequence[str]) -> None:
    """These are the node's MACs from now on."""
    tx.execute(node_mac.delete().where(node_mac.c.node_id == node_id))
    if macs:
        tx.execute(node_mac.insert(), [{"mac": mac, "node_id": node_id} for mac in dict.fromkeys(macs)])
