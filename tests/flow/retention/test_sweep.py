"""Retention deletes what is too old, and nothing younger, on both databases."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import signal
from ostler.retention import RetentionSettings, sweep
from tests.flow.fleet import XID13, Fleet

_DAY = 86_400.0


def test_only_old_signals_go(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    fleet = Fleet(db, clock, PauseFile(tmp_path / "pause"))
    (node,) = fleet.add()
    fleet.say(node, XID13, XID13)
    clock.advance(29 * _DAY)
    fleet.say(node, XID13)
    clock.advance(2 * _DAY)
    sweep(db, RetentionSettings())
    left = db.read(lambda tx: tx.all(sa.select(signal.c.seq)))
    assert [row["seq"] for row in left] == [3]
