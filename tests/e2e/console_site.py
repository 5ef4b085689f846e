"""A running console on a made-up fleet, and a real Chromium to look at it with: fixtures of the console's tests.

Screenshots are kept in `$OSTLER_ARTIFACTS` (else `build/screenshots`), to be looked at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from prometheus_client import CollectorRegistry

from ostler.access.model import Role
from ostler.access.service import create_token
from ostler.console import Console
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.http.auth import Doorkeeper
from ostler.http.listeners import Listener, Listeners
from ostler.http.operator import operator_app
from tests.e2e import console_fleet

ARTIFACTS = Path(os.environ.get("OSTLER_ARTIFACTS") or Path(__file__).parents[2] / "build" / "screenshots")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium here: apt-get install chromium"
)


@dataclass
class Site:
    """A running console and the database behind it."""

    url: str
    db: Database
    ids: list[str]
    token: str


Serve = Callable[..., Site]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()


@pytest.fixture
def serve(sqlite_url: str) -> Iterator[Serve]:
    """Starts a server on a fleet of so many nodes, open to this machine unless told otherwise."""
    stops: list[Callable[[], None]] = []

    def start(*, nodes: int = 16, per_rack: int = 8, open_to_loopback: bool = True, **settings: Any) -> Site:
        db = Database(sqlite_url, ManualClock(1_795_000_000.0))
        ids = db.write(lambda tx: console_fleet.seed(tx, nodes=nodes, per_rack=per_rack)) if nodes else []
        made = db.write(lambda tx: create_token(tx, name="wall", role=Role.VIEWER, actor=Actor("person:mara")))
        console = Console(db, Doorkeeper(db, open_to_loopback=open_to_loopback), **settings)
        app = operator_app([console.router], registry=CollectorRegistry())
        running = Listeners([Listener("operator", "[operator] listen", "127.0.0.1", 0, app)], before_stop=console.close)
        running.start()
        stops.extend((db.close, running.stop))
        return Site(running.bound["operator"].url, db, ids, made.secret)

    yield start
    while stops:
        stops.pop()()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A dark 1600 × 1000 window in which any error or broken policy fails the test."""
    context = browser.new_context(
        viewport={"width": 1600, "height": 1000}, color_scheme="dark", reduced_motion="reduce"
    )
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    context.close()
    assert said == []


def keep(page: Page, name: str, *, full: bool = False) -> None:
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=full)
