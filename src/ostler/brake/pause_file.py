"""`ostler pause --all` as a file: holds all automation even when neither server API nor database can be reached.

The guard reads it before every disruptive call; a schedule mirrors it into the database, so that the brake, the API and
the console know of it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ostler.audit import service as audit
from ostler.brake import store
from ostler.core.actor import Actor
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.events import service as events

ACTOR = Actor("file:pause")


@dataclass(frozen=True)
class PauseFile:
    """The file's place; its presence pauses, its first line is the reason."""

    path: Path

    def reason(self) -> str | None:
        """Why automation is paused, or None when there is no file. A file that cannot be read pauses too."""
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                return file.readline(200).strip() or "no reason given"
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"it cannot be read: {error.strerror}"

    def mirror(self, db: Database) -> None:
        """Make the database agree with the file; a schedule."""
        reason = self.reason()
        if db.read(_in_force) != (reason is not None):
            db.write(lambda tx: _mirror(tx, reason))


def _in_force(tx: Tx) -> bool:
    return any(row["actor"] == ACTOR.name for row in store.pauses(tx, ["fleet"]))


def _mirror(tx: Tx, reason: str | None) -> None:
    if reason is None:
        store.lift_by(tx, "fleet", ACTOR.name)
        kind = "automation.resumed"
    else:
        row = {"id": new_id("pause"), "scope": "fleet", "actor": ACTOR.name, "reason": reason, "since": tx.now}
        store.insert_pause(tx, {**row, "until": None})
        kind = "automation.paused"
    why = reason or "the pause file is gone"
    audit.record(tx, actor=ACTOR, action=kind, subject="fleet", reason=why)
    events.publish(tx, kind, "fleet", {"scope": "fleet", "actor": ACTOR.name, "reason": why})
