"""The designs in the books: taking one in, and having it at hand. Called by `api.py`, `service.py` and Seatrial."""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock

from ostler.audit import service as audit
from ostler.audit.canonical import clean
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, Permanent
from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.fabric import store
from ostler.fabric.designs import own_csv
from ostler.fabric.model import Blueprint, Lint
from ostler.fabric.report import lint_document

LINTS_KEPT = 500
_KEPT = 8
"""Designs that a process keeps unpacked; 49,152 cables take about half a second to read."""


@dataclass(frozen=True)
class Design:
    """A blueprint with its number in the books."""

    id: str
    blueprint: Blueprint


class Shelf:
    """Blueprints that were read already: they never change, but that a person vouches for one."""

    def __init__(self) -> None:
        self._designs: OrderedDict[tuple[str, bool], Design] = OrderedDict()
        self._lock = Lock()

    def active(self, tx: Tx, fabric: str) -> Design | None:
        """The design that counts now, or None."""
        row = store.active_blueprint(tx, fabric)
        if row is None:
            return None
        with self._lock:
            if (found := self._designs.get((row["id"], row["proven"]))) is not None:
                self._designs.move_to_end((row["id"], row["proven"]))
                return found
        blueprint, _ = own_csv.read(zlib.decompress(store.blueprint_body(tx, row["id"])), row["id"])
        found = Design(row["id"], replace(blueprint, name=fabric, source=row["source"], proven=row["proven"]))
        with self._lock:
            self._designs[row["id"], row["proven"]] = found
            while len(self._designs) > _KEPT:
                self._designs.popitem(last=False)
        return found


def take_in(tx: Tx, fabric: str, blueprint: Blueprint, lints: Sequence[Lint], *, actor: Actor, reason: str = "") -> str:
    """The fabric's new design; the one before is kept as history. Returns its id.

    Raises `BadInput` for a design with errors.
    """
    if error := next((lint for lint in lints if lint.error), None):
        raise BadInput(error.message, where=f"line {error.line}" if error.line else "")
    if not blueprint.cables:
        raise BadInput("The blueprint has no cable.")
    text = own_csv.write(blueprint).encode()
    digest = hashlib.sha256(text).hexdigest()
    present = store.active_blueprint(tx, fabric)
    if present is not None and present["digest"] == digest and present["proven"] == blueprint.proven:
        return str(present["id"])
    blueprint_id = new_id("blueprint")
    store.activate_blueprint(
        tx,
        {
            "id": blueprint_id,
            "fabric": fabric,
            "source": blueprint.source,
            "digest": digest,
            "active": True,
            "proven": blueprint.proven,
            "chassis": len(blueprint.chassis),
            "cables": len(blueprint.cables),
            "lints": clean([lint_document(lint) for lint in lints[:LINTS_KEPT]]),
            "actor": actor.name,
            "imported_at": tx.now,
            "body": zlib.compress(text, 6),
        },
    )
    detail = {"cables": len(blueprint.cables), "digest": digest, "source": blueprint.source, "proven": blueprint.proven}
    audit.record(tx, actor=actor, action="fabric.blueprint", subject=f"fabric:{fabric}", reason=reason, detail=detail)
    return blueprint_id


def prove(tx: Tx, fabric: str, *, actor: Actor, reason: str) -> None:
    """A person vouches for a design that was taken over from a snapshot."""
    row = store.active_blueprint(tx, fabric)
    if row is None:
        raise Permanent(f"The fabric '{fabric}' has no blueprint; import one (ostler fabric import).")
    store.set_proven(tx, row["id"])
    audit.record(tx, actor=actor, action="fabric.blueprint_proven", subject=f"fabric:{fabric}", reason=reason)
