"""The site of the tests of looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.fabric.model import Port
from ostler.fabric.settings import FabricSettings
from tests.flow.fabric.site import Site, new_site
from tests.flow.fleet import Fleet

PORT = Port("gpu-0005", "mlx5_3")


@pytest.fixture
def site(db: Database, clock: ManualClock, tmp_path: Path) -> Site:
    found = new_site(db, clock, Fleet(db, clock, PauseFile(tmp_path / "pause")), FabricSettings())
    clock.advance(86_400)  # the nodes' boots explain nothing any more
    return found
