"""The routers of access, audit and events behind the real listener, with a sequencer and a sender. Used by flow tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

import ostler.access.api
import ostler.audit.api
import ostler.events.api
import ostler.events.webhooks_api
from ostler.access.model import Role
from ostler.access.service import create_token
from ostler.adapters.keys.file import FileSecrets
from ostler.audit.sequencer import Sequencer
from ostler.cli.client import Client
from ostler.core.actor import Actor
from ostler.db.engine import Database
from ostler.events.sender import Sender
from ostler.http.auth import Doorkeeper
from ostler.http.listeners import Listener, Listeners
from ostler.http.operator import operator_app
from tests.flow.events.memory import LOOPBACK

ADMIN = "the-admin-token-of-this-test"


@dataclass
class Served:
    db: Database
    url: str
    sequencer: Sequencer
    sender: Sender

    def client(self, token: str | None = ADMIN) -> Client:
        return Client(self.url, token)

    def token(self, role: Role, tenant: str | None = None) -> str:
        name = f"{role}-{tenant}"
        return self.db.write(
            lambda tx: create_token(tx, name=name, role=role, tenant=tenant, actor=Actor("person:mara"))
        ).secret

    def seal(self) -> None:
        while self.sequencer.run_once():
            pass


@contextmanager
def serving(db: Database, folder: Path) -> Iterator[Served]:
    """Serve on a free port of 127.0.0.1. Nothing is sealed or sent until the test says so."""
    secrets = FileSecrets(folder / "secrets")
    stopped = False
    authorize = Doorkeeper(db, ADMIN).authorize
    routers = [
        ostler.access.api.router(db, authorize),
        ostler.audit.api.router(db, authorize),
        ostler.events.api.router(db, authorize, stopping=lambda: stopped),
        ostler.events.webhooks_api.router(db, authorize, secrets, LOOPBACK),
    ]
    app = operator_app(routers, registry=CollectorRegistry())
    listeners = Listeners([Listener("operator", "[server] listen", "127.0.0.1", 0, app)])
    listeners.start()
    sender = Sender(db, secrets, LOOPBACK, "a")
    try:
        yield Served(db, f"http://127.0.0.1:{listeners.bound['operator'].port}", Sequencer(db, "a"), sender)
    finally:
        stopped = True
        sender.stop()
        listeners.stop()
