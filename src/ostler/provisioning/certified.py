"""Which node a verified client certificate speaks for. Handed by `app.py` to the routes of the agents' listener."""

from __future__ import annotations

import threading

from ostler.core.errors import Unauthenticated
from ostler.db.engine import Database
from ostler.provisioning import store

REMEMBER_SECONDS = 30.0
"""A revoked certificate is refused at the latest after so long (real time); until then no report costs a query."""


class CertifiedNodes:
    """Looks up fingerprints, and remembers them for a short while. Thread-safe."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, float]] = {}

    def node_of(self, fingerprint: str | None) -> str:
        """The node's id. Raises `Unauthenticated` for no certificate, an unknown, an expired or a revoked one."""
        if fingerprint is None:
            raise Unauthenticated("No client certificate was shown; join first.")
        now = self._db.clock.real()
        with self._lock:
            node_id, until = self._known.get(fingerprint, ("", 0.0))
        if now < until:
            return node_id
        row = self._db.read(lambda tx: store.certificate(tx, fingerprint))
        if row is None or row["revoked_at"] is not None or row["expires_at"] < now:
            why = "is unknown" if row is None else "was revoked" if row["revoked_at"] is not None else "has expired"
            raise Unauthenticated(f"The client certificate {why}; join again.")
        with self._lock:
            self._known[fingerprint] = (row["node_id"], min(now + REMEMBER_SECONDS, row["expires_at"]))
        return str(row["node_id"])
