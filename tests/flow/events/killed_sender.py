"""A sender in a process of its own, to be killed: `python -m tests.flow.events.killed_sender DATABASE_URL`."""

from __future__ import annotations

import sys
import threading

from ostler.core.clock import SystemClock
from ostler.db.engine import Database
from ostler.events.model import WebhookSettings
from ostler.events.sender import Sender
from tests.flow.events.memory import SECRET


class OneSecret:
    """Every name has the test's secret."""

    def put(self, name: str, value: str) -> None: ...

    def get(self, name: str) -> str:
        return SECRET

    def delete(self, name: str) -> None: ...


if __name__ == "__main__":
    settings = WebhookSettings(allow_networks=("127.0.0.0/8",), poll_s=0.02)
    Sender(Database(sys.argv[1], SystemClock()), OneSecret(), settings, f"killed-{sys.argv[2]}").start()
    threading.Event().wait()
