"""What counters say between two looks. Called by `judge`; no counter is ever cleared for it.

- A classic counter stops at its highest value: from there on a delta is a lower bound, and 255 → 255 says nothing.
- A counter that went back was cleared, or its device restarted. Then what it shows was counted since, over a time that
  nobody knows: it counts, but no rate is taken from it.
- Another GUID in the place is another part: what the old one counted says nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import NamedTuple

from ostler.fabric.model import Port, Snapshot

FULL: Mapping[str, int] = {
    "symbol_error": 0xFFFF,
    "link_error_recovery": 0xFF,
    "link_downed": 0xFF,
    "port_rcv_errors": 0xFFFF,
    "port_rcv_remote_physical_errors": 0xFFFF,
    "port_xmit_discards": 0xFFFF,
    "port_xmit_constraint_errors": 0xFF,
    "port_rcv_constraint_errors": 0xFF,
    "local_link_integrity_errors": 0xF,
    "excessive_buffer_overrun_errors": 0xF,
    "vl15_dropped": 0xFFFF,
}
"""Counters that are judged, and where the classic ones stop: PortCounters, InfiniBand specification 1.7, 16.1.3.5.

Switch relay errors are not among them: multicast that has nowhere to go counts there, on healthy switches too."""


class Delta(NamedTuple):
    """What one counter counted between two looks."""

    by: int
    seconds: float | None
    """Over which; None where nobody knows: the counter was cleared in between, or a look has no time."""
    at_least: bool = False
    """The counter is full: there may have been more."""

    def __str__(self) -> str:
        return f"{'at least ' if self.at_least else ''}{self.by}"


_ERRORS = itemgetter(*FULL)
_TRAFFIC = ("port_xmit_data", "port_rcv_data")
"""Not judged, but they only grow: where they went back, the port's counters were cleared or its device restarted."""


def between(after: Snapshot, before: Snapshot) -> tuple[dict[Port, dict[str, Delta]], set[Port]]:
    """Of every port that counted an error, what; and the ports where any counter went back."""
    found: dict[Port, dict[str, Delta]] = {}
    cleared: set[Port] = set()
    seconds = elapsed(after, before)
    old = before.counters
    for port, now in after.counters.items():
        then = old.get(port)
        if then is None or now is then:
            continue
        try:
            if _ERRORS(now) == _ERRORS(then) and _traffic_grew(now, then):
                continue  # of most ports, most of the time
        except KeyError:  # a source that has fewer counters
            if not _went_back(now, then, (*_TRAFFIC, *FULL)) and all(now.get(name) == then.get(name) for name in FULL):
                continue
        if not _same_part(after, before, port):
            continue
        back = _went_back(now, then, (*_TRAFFIC, *FULL))
        if back:
            cleared.add(port)
        if deltas := _deltas(now, then, None if back else seconds):
            found[port] = deltas
    return found, cleared


def full(after: Snapshot, before: Snapshot, port: Port, name: str) -> bool:
    """Whether a counter stood at its end in both looks: then it says nothing of the time between."""
    return after.counters.get(port, {}).get(name) == before.counters.get(port, {}).get(name) == FULL[name]


def _traffic_grew(now: Mapping[str, int], then: Mapping[str, int]) -> bool:
    get, was = now.get, then.get
    return get("port_rcv_data", _ENDLESS) >= was("port_rcv_data", 0) and get("port_xmit_data", _ENDLESS) >= was(
        "port_xmit_data", 0
    )


def _went_back(now: Mapping[str, int], then: Mapping[str, int], names: Iterable[str]) -> bool:
    return any(now.get(name, _ENDLESS) < then.get(name, 0) for name in names)


def _deltas(now: Mapping[str, int], then: Mapping[str, int], seconds: float | None) -> dict[str, Delta]:
    found = {}
    for name, end in FULL.items():
        value, was = now.get(name), then.get(name)
        if not value or was is None or value == was:
            continue
        if value < was:
            found[name] = Delta(value, None, value == end)
        else:
            # In a port that was cleared, one that grew may have been cleared too: it counted at least the difference.
            found[name] = Delta(value - was, seconds, value == end or seconds is None)
    return found


_ENDLESS = 1 << 64


def elapsed(after: Snapshot, before: Snapshot) -> float | None:
    """Seconds from one look to the other; None where one of them has no time, or they stand in the wrong order."""
    if after.taken_at is None or before.taken_at is None or after.taken_at <= before.taken_at:
        return None
    return after.taken_at - before.taken_at


def _same_part(after: Snapshot, before: Snapshot, port: Port) -> bool:
    now, then = after.ends.get(port), before.ends.get(port)
    if now is None or then is None:
        return port not in after.replaced
    return now.guid == then.guid
