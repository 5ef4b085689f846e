"""What a node had, kept over restarts of the agent: HCAs, disks, memory. Used by the host's monitors.

Without a file the first look of each process is the baseline, and a part that is lost over a reboot is found by the
server's inventory only. The file belongs to one machine: another board serial number, or deleting it, begins anew.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostler.agent.monitors import sysfs

_LIMIT = 1 << 20


class Baseline:
    """Sections of plain JSON, one per monitor; monitors may run in threads of their own. `keep` None: nothing outlives
    the process. Never raises: a lost baseline is a new one."""

    def __init__(self, root: Path = Path("/"), keep: Path | None = None) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._machine = sysfs.text(root / "sys/class/dmi/id/board_serial", 256) or ""
        self.boot_id = sysfs.text(root / "proc/sys/kernel/random/boot_id", 64) or ""
        self._sections: dict[str, Any] = {}
        if keep is not None:
            self._sections = self._load(keep)

    def get(self, section: str) -> Mapping[str, Any]:
        """What was put last, by this process or an earlier one; empty when there is nothing."""
        found = self._sections.get(section)
        return found if isinstance(found, dict) else {}

    def put(self, section: str, values: Mapping[str, Any]) -> None:
        """Remember; written only when it differs from what is kept."""
        with self._lock:
            if self._sections.get(section) == values:
                return
            self._sections[section] = dict(values)
            if self._keep is None:
                return
            document = json.dumps({"machine": self._machine, "sections": self._sections}, sort_keys=True)
            fresh = self._keep.with_name(self._keep.name + ".new")
            with contextlib.suppress(OSError):
                fresh.write_text(document, encoding="utf-8")
                fresh.replace(self._keep)

    def _load(self, path: Path) -> dict[str, Any]:
        try:
            with path.open("rb") as file:
                found = json.loads(file.read(_LIMIT))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(found, dict) or found.get("machine") != self._machine:
            return {}
        sections = found.get("sections")
        return sections if isinstance(sections, dict) else {}
