"""What a node's agent asks of Day 0 on the agents' listener: join, renew. Composed by `app.py`.

Joining needs no client certificate: the single-use token is the credential. Renewing needs a valid one; which one was
shown is what TLS verified, handed in by `app.py`, and never a header.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from ostler.core.errors import BadInput, Conflict, Unauthenticated
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.nodes import store as node_store
from ostler.provisioning import joining
from ostler.provisioning.model import JoinFault, JoinRefused, ProvisioningSettings, Trust
from ostler.wire.agent import AgentSettings, JoinAnswer, JoinRequest
from ostler.wire.decode import decode, encode

_log = structlog.get_logger()

_JOIN_LIMIT = 64 << 10
"""Bytes of a join request: a certificate request is at most 8 KiB."""

_CONFLICTS = frozenset({JoinFault.USED, JoinFault.IDENTITY, JoinFault.RETIRED})


SettingsFor: TypeAlias = Callable[[Tx, str], AgentSettings]
"""How the agent of a node (by id) should behave: from the feature that gives it orders."""


def router(
    db: Database,
    settings: ProvisioningSettings,
    trust: Trust,
    signer: joining.Signer,
    *,
    settings_for: SettingsFor,
    peer: Callable[[Request], str | None],
) -> APIRouter:
    """`POST /v1/agent/join`, `POST /v1/agent/renew`, `GET /v1/agent/ca`.

    `peer` answers the verified client certificate's fingerprint, or None.
    """
    api = APIRouter(prefix="/v1/agent", tags=["agent"])

    def answer(node_id: str, certificate_pem: str) -> Response:
        def read(tx: Tx) -> JoinAnswer:
            node = node_store.get(tx, node_id)
            return JoinAnswer(node.id, node.name, certificate_pem, trust.ca_pem, settings_for(tx, node_id))

        return Response(encode(db.read(read)), media_type="application/json")

    @api.post("/join")
    async def join(request: Request) -> Response:
        body = await request.body()
        address = "" if request.client is None else request.client.host
        return await run_in_threadpool(joined, body, address)

    def joined(body: bytes, address: str) -> Response:
        asked = decode(JoinRequest, body, limit=_JOIN_LIMIT)
        outcome = db.write(lambda tx: joining.join(tx, asked, signer=signer, settings=settings, address=address))
        if isinstance(outcome, JoinRefused):
            _log.warning("join.refused", fault=outcome.fault.value, node=outcome.node_id, address=address)
            raise (Conflict if outcome.fault in _CONFLICTS else Unauthenticated)(outcome.message)
        _log.info("join.done", node=outcome.node_name, first=outcome.first, address=address)
        return answer(outcome.node_id, outcome.certificate_pem)

    @api.get("/ca")
    def authority() -> Response:
        """The CA's certificate, for an agent whose seed has only its hash."""
        return Response(trust.ca_pem, media_type="application/x-pem-file")

    @api.post("/renew")
    async def renew(request: Request, fingerprint: str | None = Depends(peer)) -> Response:
        body = await request.body()
        return await run_in_threadpool(renewed, body, fingerprint)

    def renewed(body: bytes, fingerprint: str | None) -> Response:
        if fingerprint is None:
            raise Unauthenticated("Renewing needs the node's present certificate; none was shown.")
        try:
            csr_pem = body[:_JOIN_LIMIT].decode("ascii")
        except UnicodeDecodeError:
            raise BadInput("The body is no PEM certificate request.") from None
        node_id, certificate = db.write(
            lambda tx: joining.renew(tx, fingerprint, csr_pem, signer=signer, settings=settings)
        )
        _log.info("certificate.renewed", node=node_id)
        return answer(node_id, certificate.pem)

    return api
