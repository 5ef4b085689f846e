"""A site with the three listeners' apps in one process: machines that boot, agents that join, people who look."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.requests import Request
from starlette.testclient import TestClient

import ostler.acceptance.api
from ostler.acceptance.model import AcceptanceSettings
from ostler.access.model import Principal, Role
from ostler.adapters.keys.authority import Authority
from ostler.adapters.keys.fake import FakeSecrets
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import audit, condition
from ostler.http.agents import agents_app
from ostler.http.boot import boot_app
from ostler.http.operator import operator_api
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Capability, Node, Pool
from ostler.provisioning import agent_api, api, boot_api, cloud_init
from ostler.provisioning.model import ProvisioningSettings
from ostler.provisioning.signing import AuthoritySigner, trust_of
from ostler.wire.agent import AgentSettings

PERSON = Actor("person:mara")
SETTINGS = ProvisioningSettings(server_url="https://ostler.example:8472", boot_url="http://10.0.0.1:8471")


def certificate_request() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True)
class Answer:
    """Status and body of a join."""

    status_code: int
    body: dict[str, Any]


@dataclass
class Machine:
    """A server with its firmware's idea of itself."""

    site: Site
    mac: str = "02:00:00:00:00:01"
    serial: str = "GPU-0001"
    uuid: str = "4c4c4544-0042-3110-8052-b4c04f563933"
    seed: dict[str, Any] = field(default_factory=dict)

    def ask(self) -> str:
        """The boot script."""
        response = self.site.boot.get("/boot/ipxe", params={"mac": self.mac, "serial": self.serial, "uuid": self.uuid})
        assert response.status_code == 200
        assert response.text.startswith("#!ipxe\n")
        return response.text

    def power_on(self) -> dict[str, Any]:
        """Boot as far as cloud-init's documents; returns the user-data."""
        found = re.search(r"ds=nocloud;s=http://10\.0\.0\.1:8471(/seed/\S+/)", self.ask())
        assert found is not None
        documents = {}
        for name in ("network-config", "meta-data", "user-data", "vendor-data"):
            response = self.site.boot.get(found.group(1) + name)
            assert response.status_code == 200, response.text
            documents[name] = yaml.safe_load(response.text)
        user_data: dict[str, Any] = documents["user-data"]
        files = {file["path"]: file["content"] for file in user_data["write_files"]}
        self.seed = json.loads(files[cloud_init.SEED_PATH])
        assert self.site.boot.get(found.group(1) + "seed.json").json() == self.seed
        return user_data

    def join(self, **forged: str) -> Answer:
        """What the agent sends with its seed."""
        request = {
            "token": self.seed["token"],
            "nonce": self.seed["nonce"],
            "mac": self.mac,
            "serial": self.serial,
            "uuid": self.uuid,
            "csr_pem": certificate_request(),
            "agent_version": "1.0",
            **forged,
        }
        response = self.site.agents.post("/v1/agent/join", json=request)
        return Answer(response.status_code, response.json())


class Site:
    """One server."""

    def __init__(
        self, db: Database, clock: ManualClock, folder: Path, settings: ProvisioningSettings = SETTINGS
    ) -> None:
        self.db = db
        self.clock = clock
        self.peer: str | None = None
        """Fingerprint of the client certificate that TLS would report."""
        authority = Authority.open(folder / "ca", clock)
        trust = trust_of(authority, FakeSecrets())
        self.ca = x509.load_pem_x509_certificate(authority.certificate)
        self.boot = TestClient(boot_app([boot_api.router(db, settings, trust)]), base_url="http://10.0.0.1:8471")

        def peer(_request: Request) -> str | None:
            return self.peer

        self.agents = TestClient(
            agents_app(
                [
                    agent_api.router(
                        db,
                        settings,
                        trust,
                        AuthoritySigner(authority),
                        settings_for=lambda tx, node_id: AgentSettings(verbs=("run-check",)),
                        peer=peer,
                    )
                ]
            )
        )

        def authorize(_needed: Role) -> Callable[..., Principal]:
            return lambda: Principal("person:mara", Role.ADMIN)

        self.operator = operator_api(
            [
                api.router(db, authorize, settings, trust),
                ostler.acceptance.api.router(db, authorize, AcceptanceSettings()),
            ]
        )
        self.people = TestClient(self.operator)
        self.define_pool()

    def define_pool(self, capabilities: frozenset[Capability] = frozenset(Capability)) -> None:
        pool = Pool("default", capabilities)
        self.db.write(lambda tx: nodes.define_pool(tx, pool, actor=PERSON))

    def nodes(self) -> list[Node]:
        return self.db.read(lambda tx: node_store.find(tx, sa.true()))

    def node(self, name: str = "gpu-0001") -> Node:
        return self.db.read(lambda tx: node_store.get(tx, name))

    def audited(self, action: str) -> list[dict[str, Any]]:
        rows = self.db.read(lambda tx: tx.all(sa.select(audit).where(audit.c.action == action)))
        return [dict(row) for row in rows]

    def holds(self) -> dict[str, str]:
        """Node's name → why it is held for a person."""
        rows = self.db.read(lambda tx: tx.all(sa.select(condition).where(condition.c.until.is_(None))))
        names = {node.id: node.name for node in self.nodes()}
        return {names[row["node_id"]]: row["message"] for row in rows if row["type"] == "HeldForPerson"}
