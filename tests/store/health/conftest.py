"""The books of this folder's tests, on either database."""

from __future__ import annotations

import pytest

from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from tests.store.health.books import Books


@pytest.fixture
def books(db: Database, clock: ManualClock) -> Books:
    return Books(db, clock)
