"""One row of the catalogue, and how a matching line becomes a Fault. The topical tables (gpu.py, pcie.py, memory.py,
storage.py, network.py, system.py, sel.py) are tuples of these; `catalogue.py` joins them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ostler.faults.model import EMPTY, Action, Fault, Kind, Severity

MESSAGE_LIMIT = 1024
"""Characters of a line that are kept. A kernel record is at most 1 KiB of text (LOG_LINE_MAX in printk)."""

KERNEL = frozenset({"kernel"})
"""The default: only the kernel's own words count."""
FABRIC_MANAGER = frozenset({"nvidia-fabricmanager", "nv-fabricmanager"})
NETWORK_DAEMONS = frozenset({"systemd-networkd", "NetworkManager"})
BMC_LOG = frozenset({"sel", "ipmievd", "ipmi-sel", "ipmiseld", "ipmitool"})

Build = Callable[[re.Match[bytes], str, str | None], Fault | None]
"""(match, printable message, driver version or None) -> the fault, or None when the line is none after all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`anchors`: literals, one of which stands in every line that `pattern` matches; they make the scan fast, so pick
    long and rare ones. `pattern` is matched at the start of the message, so a line that quotes another is no finding.
    Its group `device` becomes the device, `code` the code, every other named group a detail."""

    name: str
    anchors: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    kind: Kind
    component: str
    severity: Severity
    action: Action
    meaning: str
    code: str = ""
    programs: frozenset[str] = KERNEL
    build: Build | None = None
    groups: tuple[tuple[str, int], ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        named = self.pattern.groupindex
        object.__setattr__(self, "groups", tuple((n, i) for n, i in named.items() if n not in ("device", "code")))

    def fault(self, match: re.Match[bytes], message: str, driver: str | None) -> Fault | None:
        """The fault that this match reports. `message` is the printable text of the line."""
        if self.build is not None:
            return self.build(match, message, driver)
        named = self.pattern.groupindex
        return Fault(
            kind=self.kind,
            code=text(match["code"]) or self.code if "code" in named else self.code,
            device=text(match["device"]) if "device" in named else "",
            component=self.component,
            severity=self.severity,
            action=self.action,
            message=message,
            meaning=self.meaning,
            detail={n: text(v) for n, i in self.groups if (v := match[i]) is not None} if self.groups else EMPTY,
        )


def text(raw: bytes | None) -> str:
    """Printable text of a matched group; empty for a group that took no part."""
    return "" if raw is None else printable(raw)


def printable(raw: bytes) -> str:
    """Untrusted bytes as one printable line: bad UTF-8 and control characters (terminal escapes) become U+FFFD."""
    decoded = raw[: MESSAGE_LIMIT * 4].decode("utf-8", "replace")[:MESSAGE_LIMIT]
    if decoded.isprintable():
        return decoded
    return "".join(c if c.isprintable() else " " if c == "\t" else "\ufffd" for c in decoded)
