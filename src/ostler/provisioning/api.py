"""What people ask of Day 0: what would this node get, and who is it. Mounted by `app.py`; used by `cli/provision.py`.

| route | role | does |
|---|---|---|
| `GET /v1/nodes/{node}/provision` | operator | exactly what the node would be served now, and why; no token |
| `POST /v1/nodes/{node}/identity` | operator | a person says who a node is: approved swap, no serial number |
| `POST /v1/nodes/{node}/seed` | operator | a seed by hand, for a machine that runs already; the answer is a secret |
| `POST /v1/expected-nodes` | operator | enters nodes before their first power-on, from an inventory |
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.core.clock import iso
from ostler.core.errors import Unavailable
from ostler.db.engine import Database
from ostler.provisioning import by_hand, expected, ipxe, service
from ostler.provisioning.cloud_init import REDACTED
from ostler.provisioning.model import BootAsk, ProvisioningSettings, Served, Trust


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class IdentityIn(_Body):
    serial: str | None = Field(default=None, max_length=64, description="empty: none; left out: as it is")
    macs: list[str] | None = Field(default=None, max_length=64, description="all of them; left out: as they are")
    reason: str = Field(min_length=1, max_length=500)


class SeedIn(_Body):
    mac: str | None = Field(default=None, max_length=64, description="which of the node's MACs; left out: its first")
    reason: str = Field(default="", max_length=500)


class ExpectedIn(_Body):
    nodes: list[dict[str, Any]] = Field(
        max_length=10_000,
        description="each with name and macs; optional: serial, slot, domains, network, pool, sku, service, "
        "bmc_address, bmc_secret",
    )
    reason: str = Field(default="", max_length=500)


def router(db: Database, authorize: Authorize, settings: ProvisioningSettings, trust: Trust | None = None) -> APIRouter:
    """`trust` is what seeds are made of; without it (where only the OpenAPI document is wanted) nothing is rendered."""
    api = APIRouter(tags=["provisioning"])
    operator = Depends(authorize(Role.OPERATOR))

    @api.get("/v1/nodes/{node}/provision", summary="What a node would be served at its next boot, and why")
    def provision(node: str, _who: Principal = operator) -> dict[str, Any]:
        if trust is None:
            raise Unavailable("This server renders no seeds: it was started without its certificate authority.")
        seen = db.read(lambda tx: service.preview(tx, node, settings, trust))
        ask = BootAsk(seen.mac, seen.node.serial or "", seen.node.uuid or "")
        served = Served(seen.decision, ask, seen.node.id, seen.node.name, REDACTED)
        documents = seen.documents
        return {
            "node": seen.node.name,
            "node_id": seen.node.id,
            "boot": seen.decision.boot.value,
            "why": seen.decision.why,
            "held": seen.held or None,
            "script": ipxe.script(served, settings, settings.boot_url or "http://BOOT-LISTENER"),
            "documents": None
            if documents is None
            else {
                "meta-data": documents.meta_data,
                "user-data": documents.user_data,
                "vendor-data": documents.vendor_data,
                "network-config": documents.network_config,
            },
            "requests": [
                {
                    "mac": request.mac,
                    "serial": request.serial,
                    "uuid": request.uuid,
                    "address": request.address,
                    "at": iso(request.at),
                    "seed_expires_at": iso(request.expires_at),
                }
                for request in seen.requests
            ],
        }

    @api.post("/v1/nodes/{node}/identity", summary="Say who a node is; ends its hold")
    def identity(node: str, body: IdentityIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        macs = None if body.macs is None else tuple(body.macs)
        settled = db.write(
            lambda tx: service.settle_identity(
                tx, node, serial=body.serial, macs=macs, actor=who.actor(request_id(request)), reason=body.reason
            )
        )
        return {
            "node": settled.name,
            "node_id": settled.id,
            "serial": settled.serial,
            "macs": list(settled.macs),
            "state": settled.state.value,
        }

    @api.post("/v1/nodes/{node}/seed", status_code=201, summary="A single-use seed for a machine that runs already")
    def seed(node: str, body: SeedIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        """What `ostler agent --seed FILE` reads (`wire.boot.Seed`): a secret, given once, valid for `join_token_s`."""
        if trust is None:
            raise Unavailable("This server issues no seeds: it was started without its certificate authority.")
        actor = who.actor(request_id(request))
        issued = db.write(
            lambda tx: by_hand.issue(tx, node, settings, trust, mac=body.mac, actor=actor, reason=body.reason)
        )
        return asdict(issued)

    @api.post("/v1/expected-nodes", status_code=201, summary="Enter nodes before their first power-on")
    def expect(body: ExpectedIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        rows = [expected.parse(row, f"nodes[{index}]") for index, row in enumerate(body.nodes)]
        actor = who.actor(request_id(request))
        made = db.write(lambda tx: [expected.expect(tx, row, actor=actor, reason=body.reason) for row in rows])
        return {"items": [{"node": node.name, "node_id": node.id, "state": node.state.value} for node in made]}

    return api
