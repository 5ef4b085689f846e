"""Downs, flaps and drops of links, and the restarts that explain them. Called by `judge`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ostler.fabric.links.deltas import Delta, elapsed
from ostler.fabric.links.limits import Limits
from ostler.fabric.links.model import Candidate, EventKind, LinkEvent
from ostler.fabric.model import Port, Snapshot, TroubleKind

Link = tuple[Port, Port | None]
"""Both ends, the lesser first; the second is None where nobody named it."""


def link_of(port: Port, peer: Port | None) -> Link:
    return (port, peer) if peer is None or port < peer else (peer, port)


class Down(NamedTuple):
    """A link that went down since the look before."""

    link: Link
    times: int
    """How often, of the two ends' counters the higher one."""
    at_least: bool
    up: bool
    """Whether it is up again."""


# ── restarts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def restarts(
    after: Snapshot, before: Snapshot, downs: Sequence[Down], cleared: Iterable[Port], known: Mapping[str, float]
) -> set[str]:
    """Chassis that restarted between the looks: all of whose ports were cleared, or all of whose links went down.

    `known` has the times of those that say it themselves; what it knows is not derived. Where the counters of more than
    half of all chassis went back together, somebody cleared them, or another tool read them: nobody restarted.
    """
    suspects: dict[str, int] = defaultdict(int)
    for port in cleared:
        suspects[port.chassis] += 1
    found: set[str] = set()
    if suspects:
        counted: dict[str, int] = defaultdict(int)
        for port, then in before.counters.items():
            if port.chassis not in counted:
                counted[port.chassis] = 0
            if port.chassis in suspects and port in after.counters and any(then.values()):
                counted[port.chassis] += 1
        found = {name for name, ports in suspects.items() if ports >= counted[name]}
        if len(found) > 2 and 2 * len(found) > len(counted):
            found = set()
    hit: dict[str, int] = defaultdict(int)
    for down in downs:
        for end in down.link:
            if end is not None:
                hit[end.chassis] += 1
    if hit:
        links: dict[str, int] = defaultdict(int)
        for port in before.links:
            if port.chassis in hit:
                links[port.chassis] += 1
        found |= {name for name, count in hit.items() if count > 1 and count >= links[name]}
    return {name for name in found if name not in known}


def explained(down: Down, derived: set[str], known: Mapping[str, float], span: tuple[float, float] | None) -> bool:
    """Whether either end's host or switch restarted at that time; `span`: the looks, widened by the filter."""
    for end in down.link:
        if end is None:
            continue
        if end.chassis in derived:
            return True
        at = known.get(end.chassis)
        if at is not None and span is not None and span[0] <= at <= span[1]:
            return True
    return False


# ── what happened ───────────────────────────────────────────────────────────────────────────────────────────────────


def downs(after: Snapshot, before: Snapshot, deltas: Mapping[Port, Mapping[str, Delta]]) -> list[Down]:
    """Every link that went down between two looks, once, whether it came back or not."""
    found: dict[Link, Down] = {}
    for port, counted in deltas.items():
        delta = counted.get("link_downed")
        if delta is None:
            continue
        peer = after.links.get(port) or before.links.get(port)
        if peer is None:
            continue  # a port without a cable, tried out or disabled
        link = link_of(port, peer)
        other = found.get(link)
        if other is None or delta.by > other.times:
            found[link] = Down(link, delta.by, delta.at_least, port in after.links)
    for port, peer in before.links.items():
        if port < peer and port not in after.links and peer not in after.links and _lost(after, port, peer):
            link = (port, peer)
            if link not in found:
                found[link] = Down(link, 1, False, False)
    return list(found.values())


def _lost(after: Snapshot, port: Port, peer: Port) -> bool:
    """Whether a link that nobody names any more is known to be down: both boxes answer, and say so."""
    if not after.answered(port.chassis) or not after.answered(peer.chassis):
        return False
    said = [after.up(end) for end in (port, peer) if after.port_answered(end)]
    if False in said:
        return True
    return not after.states and not after.blinded


def news(
    after: Snapshot, before: Snapshot | None, faults: Sequence[Down], history: Mapping[Link, Sequence[LinkEvent]]
) -> list[LinkEvent]:
    """The events that this look adds: downs and flaps that nothing explains, and links that are back."""
    if after.taken_at is None or (before is not None and elapsed(after, before) is None):
        return []
    found = []
    for down in faults:
        kind = EventKind.FLAP if down.up else EventKind.DOWN
        found.append(LinkEvent(down.link[0], down.link[1], kind, after.taken_at, down.times))
    for link, events in history.items():
        opened = _open(events)
        if opened is not None and opened.at < after.taken_at and link[0] in after.links:
            found.append(LinkEvent(link[0], link[1], EventKind.UP, after.taken_at))
    return found


def histories(events: Iterable[LinkEvent]) -> dict[Link, list[LinkEvent]]:
    """Events by link, oldest first."""
    found: dict[Link, list[LinkEvent]] = defaultdict(list)
    for event in events:
        found[link_of(event.port, event.peer)].append(event)
    for one in found.values():
        one.sort(key=lambda event: event.at)
    return found


def _open(events: Sequence[LinkEvent]) -> LinkEvent | None:
    """The down that no up has ended."""
    found = None
    for event in events:
        if event.kind == EventKind.DOWN:
            found = found or event
        elif event.kind == EventKind.UP:
            found = None
    return found


# ── what ails ───────────────────────────────────────────────────────────────────────────────────────────────────────


def candidates(
    after: Snapshot,
    before: Snapshot | None,
    faults: Sequence[Down],
    history: Mapping[Link, Sequence[LinkEvent]],
    known: Mapping[str, float],
    limits: Limits,
) -> Iterator[Candidate]:
    """`history` is with the events of this look."""
    now = after.taken_at
    fresh = {down.link: down for down in faults}
    seconds = elapsed(after, before) if before is not None else None
    for link in {**dict.fromkeys(history), **dict.fromkeys(fresh)}:
        events = [event for event in history.get(link, ()) if not _at_restart(event, known, limits)]
        down = fresh.get(link)
        if now is None:
            recent, lasting, dropped = (down.times if down else 0), 0, None
        else:
            window = [event for event in events if now - limits.window_s <= event.at <= now]
            recent = sum(e.count for e in window if e.kind in (EventKind.FLAP, EventKind.DOWN))
            lasting = sum(1 for length in _lengths(window, now) if length >= limits.flap_down_s)
            dropped = _dropped(after, link, events, now)
        if dropped is not None and dropped >= limits.drop_s:
            yield _candidate(
                TroubleKind.DROPPED,
                link,
                True,
                f"{_names(link)}: no link since {dropped / 60:.0f} min.",
                {"down_s": dropped},
                "gpud: down for 4 min",
            )
        if lasting >= limits.flap_downs:
            yield _candidate(
                TroubleKind.FLAPPING,
                link,
                True,
                f"{_names(link)} flaps: {lasting} times down for {limits.flap_down_s:g} s or longer within "
                f"{limits.window_s / 3600:g} h.",
                {"downs": recent, "lasting": lasting, "window_s": limits.window_s},
                "gpud: 3 downs of 25 s and more",
            )
        elif down is not None and _burst(down.times, seconds, events, now, limits):
            yield _candidate(
                TroubleKind.FLAPPING,
                link,
                True,
                f"{_names(link)} flaps: {'at least ' if down.at_least else ''}{down.times} times down since the look "
                f"{seconds / 60 if seconds else 0:.0f} min ago; {limits.burst_downs:g} an hour is too often.",
                {"downs": down.times, "at_least": down.at_least, "seconds": seconds},
                "NVSentinel: 3 degradations of a port in 1 h",
            )
        elif recent >= limits.flap_downs:
            yield _candidate(
                TroubleKind.FLAPPING,
                link,
                False,
                f"{_names(link)}: {recent} times down within {limits.window_s / 3600:g} h, each shorter than a look "
                "can tell.",
                {"downs": recent, "lasting": lasting, "window_s": limits.window_s},
                "gpud: window of 12 h",
            )
        elif down is not None:
            yield _candidate(
                TroubleKind.DOWNED,
                link,
                False,
                f"{_names(link)} went down{f' {down.times} times' if down.times > 1 else ''} since the last look, and "
                "neither end restarted.",
                {"downs": down.times, "at_least": down.at_least, "seconds": seconds},
                "NVSentinel and UFM: any LinkDowned at run time",
            )


def _burst(count: int, seconds: float | None, events: Sequence[LinkEvent], now: float | None, limits: Limits) -> bool:
    if seconds is None or now is None:
        return False
    if seconds > 3600:
        return count * 3600 / seconds >= limits.burst_downs
    hour = (e.count for e in events if e.kind in (EventKind.FLAP, EventKind.DOWN) and now - 3600 < e.at <= now)
    return sum(hour) >= limits.burst_downs


def _at_restart(event: LinkEvent, known: Mapping[str, float], limits: Limits) -> bool:
    """Whether an event that was kept is explained by a restart that was heard of later."""
    if event.kind == EventKind.ERRORS or event.count > limits.restart_downs:
        return False
    ends = (event.port.chassis, event.peer.chassis if event.peer else "")
    return any(name in known and abs(event.at - known[name]) <= limits.restart_s for name in ends)


def _lengths(events: Sequence[LinkEvent], now: float) -> Iterator[float]:
    """Seconds that each down lasted of which begin and end were seen; one that lasts until now too."""
    began: float | None = None
    for event in events:
        if event.kind == EventKind.DOWN:
            began = event.at if began is None else began
        elif event.kind == EventKind.UP and began is not None:
            yield event.at - began
            began = None
    if began is not None:
        yield now - began


def _dropped(after: Snapshot, link: Link, events: Sequence[LinkEvent], now: float) -> float | None:
    """Seconds that a link has been without, as far as looks have shown; None where it has one, or nobody can say."""
    opened = _open(events)
    if opened is None or link[1] is None or link[0] in after.links or link[1] in after.links:
        return None
    return now - opened.at if _lost(after, link[0], link[1]) else None


def _names(link: Link) -> str:
    return f"The link of {link[0]} and {link[1]}" if link[1] is not None else f"The link of {link[0]}"


def _candidate(
    kind: TroubleKind, link: Link, severe: bool, message: str, measured: dict[str, object], source: str
) -> Candidate:
    return Candidate(kind, link[0], link[1], severe, message, measured, source)
