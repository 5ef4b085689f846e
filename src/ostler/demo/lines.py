"""The kernel lines that strike the demo's nodes: recorded on real machines where such data is at hand, else our own.

`OSTLER_REAL_DATA` names the folder of recorded data; without it `shared/real` is looked for beside and above the
current folder. A recorded line is taken as it is, except that the address in it becomes that of the struck node's own
device.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ostler.faults import Detector

LIMIT = 16 << 20
"""Bytes of recorded lines that are looked at."""

_STAMP = re.compile(r"^(?:<\d+>|kern\s+:\w+\s+:\s+\S+\s|kernel:\s|\[[^\]]{1,40}\]\s*)+")
_PCI = re.compile(r"\b[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(\.[0-7])?")


@dataclass(frozen=True)
class Lines:
    """Lines by the word that the story knows them by, and where they come from."""

    said: Mapping[str, str]
    source: str

    def about(self, word: str, address: str) -> str:
        """The line for `word`, about the device at this PCI address (`0000:18:00.0`)."""
        line = self.said[word]
        return _PCI.sub(lambda match: address if match[1] else address.removesuffix(".0"), line, count=1)


OWN: Mapping[str, str] = {
    "fallen": "NVRM: Xid (PCI:0000:18:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    "app-13": "NVRM: Xid (PCI:0000:2a:00): 13, pid=4711, name=python3, Graphics Exception: ESR 0x50df30=0x107000e",
    "app-31": "NVRM: Xid (PCI:0000:2a:00): 31, pid=4711, name=python3, Ch 00000007, intr 00000000. MMU Fault",
    "contained": "NVRM: Xid (PCI:0000:3a:00): 94, pid=4711, name=python3, Contained: SM (0x1). RST: No, D-RST: Yes",
    "drain-reset": (
        "NVRM: Xid (PCI:0000:3a:00): 154, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)"
    ),
    "solo-45": "NVRM: Xid (PCI:0000:5d:00): 45, pid=4711, name=python3, Ch 00000008",
    "nic-dead": "mlx5_core 0000:19:00.0: poll_health:852:(pid 0): device's health compromised - reached miss count",
    "double-bit": "NVRM: Xid (PCI:0000:ab:00): 48, pid=4711, name=python3, DBE (double bit error) ECC Error",
}
"""One line for each word of the story, in the forms that the drivers print."""

_WANTED: Mapping[str, tuple[str, str, str]] = {
    # word → kind and code that the line must have, and a text that it must hold
    "fallen": ("xid", "79", "fallen off the bus"),
    "app-13": ("xid", "13", ""),
    "app-31": ("xid", "31", "Ch "),
    "contained": ("xid", "94", ""),
    "drain-reset": ("xid", "154", "to 0x4 (Drain and Reset)"),
    "double-bit": ("xid", "48", "double bit"),
    "nic-dead": ("ib-health", "health-compromised", ""),
}


def find(environment: Mapping[str, str] = os.environ, start: Path | None = None) -> Lines:
    """Recorded lines as far as there are some, our own for the rest."""
    folder = _folder(environment, start or Path.cwd())
    recorded = {} if folder is None else _recorded(folder / "logs" / "labelled_lines.jsonl")
    if not recorded:
        return Lines(OWN, "the project's own lines")
    rest = len(OWN) - len(recorded)
    return Lines({**OWN, **recorded}, f"{len(recorded)} lines recorded on real machines, {rest} of the project's own")


def _folder(environment: Mapping[str, str], start: Path) -> Path | None:
    if named := environment.get("OSTLER_REAL_DATA"):
        return Path(named)
    for above in (start, *start.parents):
        if (found := above / "shared" / "real").is_dir():
            return found
    return None


def _recorded(path: Path) -> dict[str, str]:
    """Captured lines first, in the file's order, each for the first word that it fits."""
    try:
        with path.open("rb") as file:
            rows = file.read(LIMIT).splitlines()
    except OSError:
        return {}
    detector = Detector()
    found: dict[str, str] = {}
    for tier in ("captured", "fixture"):
        for raw in rows:
            line = _line(raw, tier)
            fault = None if line is None else detector.detect(line)
            if line is None or fault is None:
                continue
            for word, (kind, code, text) in _WANTED.items():
                if word not in found and (fault.kind.value, fault.code) == (kind, code) and text in line:
                    found[word] = line
                    break
    return found


def _line(raw: bytes, tier: str) -> str | None:
    """The message of one recorded line without its stamp; None for what is no single kernel line of this tier."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or row.get("tier") != tier or not isinstance(row.get("line"), str):
        return None
    line = _STAMP.sub("", row["line"].strip())
    return None if "\n" in line or len(line) > 2000 else line
