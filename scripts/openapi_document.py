"""The operators' API as it is built, in process: for `scripts/generate.py` and the contract tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ostler import app
from ostler.adapters.keys.file import FileSecrets
from ostler.config import load
from ostler.core.clock import SystemClock
from ostler.db.engine import Database
from ostler.http.auth import Doorkeeper
from ostler.http.operator import operator_api

COMMITTED = Path(__file__).parents[1] / "docs" / "api" / "openapi.json"


def document(folder: Path) -> dict[str, Any]:
    """The OpenAPI document; `folder` is an empty place for files that are never looked at."""
    db = Database(f"sqlite:///{folder / 'ostler.db'}", SystemClock())
    try:
        door = Doorkeeper(db)
        routers = app.routers(load(None, {}), db, door.authorize, FileSecrets(folder / "secrets"), lambda: False)
        found: dict[str, Any] = operator_api(routers).openapi()
        return found
    finally:
        db.close()


def text(found: dict[str, Any]) -> str:
    """As it is committed: one key per line, so that a change shows in a diff."""
    return json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
