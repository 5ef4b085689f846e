"""A tree of /sys and /proc that a test writes, and what a monitor says of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ostler.agent.monitors.port import Monitor

LONG_UP = "900000.00 1.00"
"""/proc/uptime of a machine that booted long ago."""


class Machine:
    """Files below a root; `at` is the monitor's time, which `look` moves."""

    def __init__(self, root: Path, up: str = LONG_UP) -> None:
        self.root = root
        self.at = 1000.0
        self.write({"proc/uptime": up})

    def write(self, files: Mapping[str, object]) -> None:
        for path, content in files.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                file.write_bytes(content)
            else:
                file.write_text(f"{content}\n")

    def remove(self, path: str) -> None:
        if (self.root / path).is_dir():
            shutil.rmtree(self.root / path)
        else:
            (self.root / path).unlink()

    def link(self, path: str, target: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        (self.root / target).mkdir(parents=True, exist_ok=True)
        file.symlink_to(self.root / target)

    def look(self, monitor: Monitor, seconds: float | None = None, times: int = 1) -> set[str]:
        """`FAULT@DEVICE` of what stands after so many looks, each a period (or `seconds`) after the last."""
        found: set[str] = set()
        for _ in range(times):
            self.at += monitor.period_s if seconds is None else seconds
            found = {f"{one.kind}-{one.code}@{one.device}" for one in monitor.look(self.at).standing}
        return found
