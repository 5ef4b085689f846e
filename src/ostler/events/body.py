"""An event as its consumers see it: the same JSON in a webhook's body, in `GET /v1/events` and in the stream."""

from __future__ import annotations

import json
from typing import Any

from ostler.core.clock import iso
from ostler.events.model import Event


def document(event: Event) -> dict[str, Any]:
    """The event as plain JSON. Without its ledger position, which a webhook does not wait for."""
    return {
        "id": event.id,
        "type": event.type,
        "version": event.version,
        "subject": event.subject,
        "seq": event.seq,
        "time": iso(event.at),
        "tenant": event.tenant,
        "data": dict(event.data),
    }


def body(event: Event) -> bytes:
    """The bytes that are signed and sent: the same for every try."""
    return json.dumps(document(event), ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
