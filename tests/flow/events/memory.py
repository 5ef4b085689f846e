"""What the tests of webhooks stand on: a secret store in memory, endpoints, publications."""

from __future__ import annotations

from ostler.core.actor import Actor
from ostler.db.engine import Database
from ostler.events import endpoints, service
from ostler.events.model import Attempt, Delivery, Endpoint, Secrets, WebhookSettings

SECRET = "the-secret-of-this-test"
MARA = Actor("person:mara")
LOOPBACK = WebhookSettings(allow_networks=("127.0.0.0/8",), timeout_s=20.0, poll_s=0.02)


class MemorySecrets:
    """A `Secrets` that forgets everything at the end of the test."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def put(self, name: str, value: str) -> None:
        self.kept[name] = value

    def get(self, name: str) -> str:
        return self.kept[name]

    def delete(self, name: str) -> None:
        self.kept.pop(name, None)


def subscribe(
    db: Database,
    secrets: Secrets,
    url: str,
    *events: str,
    settings: WebhookSettings = LOOPBACK,
    tenant: str | None = None,
) -> Endpoint:
    return endpoints.register(
        db, secrets, settings, url=url, events=events or ("*",), secret=SECRET, tenant=tenant, actor=MARA
    )


def publish(db: Database, subject: str = "node_1", count: int = 1, tenant: str | None = None) -> list[str]:
    return [
        db.write(lambda tx: service.publish(tx, "node.healthy", subject, {"node_id": subject}, tenant=tenant))
        for _ in range(count)
    ]


def log_of(db: Database, endpoint: Endpoint) -> list[tuple[Delivery, list[Attempt]]]:
    """Deliveries with their tries, oldest first."""
    return db.read(lambda tx: endpoints.deliveries(tx, endpoint.id, limit=1000))[::-1]


def states(db: Database, endpoint: Endpoint) -> list[str]:
    return [delivery.state.value for delivery, _ in log_of(db, endpoint)]
