"""One answer on the health of all links: asks every rule, and folds what has the same physical cause.

Called by the fabric's service after every look, and by `ostler fabric check`. Pure: the same looks, events and restarts
give the same answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ostler.fabric.links import errors, flaps, optics, rates
from ostler.fabric.links.deltas import Delta, between
from ostler.fabric.links.flaps import Down, Link, link_of
from ostler.fabric.links.limits import Limits
from ostler.fabric.links.model import Candidate, LinkEvent
from ostler.fabric.model import Blueprint, Port, Snapshot, Trouble, TroubleKind

_ORDER = (
    TroubleKind.RX_POWER,
    TroubleKind.BER,
    TroubleKind.HOT,
    TroubleKind.INTEGRITY,
    TroubleKind.SYMBOL_ERRORS,
    TroubleKind.RECOVERIES,
    TroubleKind.WIDTH,
    TroubleKind.SPEED,
    TroubleKind.DROPPED,
    TroubleKind.FLAPPING,
    TroubleKind.RCV_ERRORS,
    TroubleKind.DOWNED,
    TroubleKind.DISCARDS,
)
"""What names the cause comes before what is its effect: an EEPROM's alarm before all, then as NVIDIA CVT has it, light
and bit errors, temperature, counters, and the state of the link last."""


def judge(
    after: Snapshot,
    before: Snapshot | None = None,
    *,
    events: Sequence[LinkEvent] = (),
    restarted: Mapping[str, float] = {},
    limits: Limits = Limits(),
    blueprint: Blueprint | None = None,
) -> tuple[list[Trouble], list[LinkEvent]]:
    """Troubles of links, the severe first, and the events that this look adds to those kept.

    `events` are what earlier calls returned, of the last `Limits.window_s` at least; `restarted` is when a host or
    switch last started, UTC seconds by chassis name, where that is known. With `blueprint` a cable's designed width and
    speed go before what its ends can. Without `before` only readings and states are judged, no counters.
    """
    deltas, cleared = between(after, before) if before is not None else ({}, set())
    history = flaps.histories(events)
    faults: list[Down] = []
    if before is not None:
        faults = _unexplained(after, before, flaps.downs(after, before, deltas), cleared, restarted, limits)
    fresh = flaps.news(after, before, faults, history)
    found: list[Candidate] = []
    found += _errors(after, before, deltas, history, limits, fresh)
    for event in fresh:
        if event not in history[link := link_of(event.port, event.peer)]:
            history[link].append(event)
    found += flaps.candidates(after, before, faults, history, restarted, limits)
    for port in after.modules:
        peer = after.links.get(port)
        found += optics.heat(after, before, port, peer, limits)
        found += optics.light(after, port, peer, limits)
    for port in after.bers:
        found += optics.rates(after, port, after.links.get(port), limits)
    found += rates.reduced(after, blueprint)
    return _fold(found), fresh


def _unexplained(
    after: Snapshot,
    before: Snapshot,
    downs: list[Down],
    cleared: Iterable[Port],
    restarted: Mapping[str, float],
    limits: Limits,
) -> list[Down]:
    """The downs that no restart explains. One restart explains a few of them, and not the hundred after it."""
    if not downs:
        return []
    derived = flaps.restarts(after, before, downs, cleared, restarted)
    span = None
    if after.taken_at is not None and before.taken_at is not None:
        span = (before.taken_at - limits.restart_s, after.taken_at + limits.restart_s)
    found = []
    for down in downs:
        if flaps.explained(down, derived, restarted, span):
            if down.times > limits.restart_downs:
                found.append(down._replace(times=down.times - limits.restart_downs))
        else:
            found.append(down)
    return found


def _errors(
    after: Snapshot,
    before: Snapshot | None,
    deltas: Mapping[Port, Mapping[str, Delta]],
    history: Mapping[Link, Sequence[LinkEvent]],
    limits: Limits,
    fresh: list[LinkEvent],
) -> list[Candidate]:
    found: list[Candidate] = []
    for port, counted in deltas.items():
        found += errors.counted(after, port, _peer(after, before, port), counted, limits)
    asked = {port for port, counted in deltas.items() if "symbol_error" in counted}
    asked.update(port for port, reading in after.bers.items() if reading.symbol_errors)
    asked.update(event.port for events in history.values() for event in events if event.kind == "errors")
    for port in asked:
        peer = _peer(after, before, port)
        candidate, event = errors.symbols(
            after,
            before,
            port,
            peer,
            deltas.get(port, {}).get("symbol_error"),
            history.get(link_of(port, peer), ()),
            limits,
        )
        if candidate is not None:
            found.append(candidate)
        if event is not None:
            fresh.append(event)
    return found


def _peer(after: Snapshot, before: Snapshot | None, port: Port) -> Port | None:
    return after.links.get(port) or (before.links.get(port) if before is not None else None)


def _fold(found: Iterable[Candidate]) -> list[Trouble]:
    """One trouble a link for all that is physical, named after its most telling sign; the other signs are measured."""
    links: dict[tuple[Link, bool], list[Candidate]] = defaultdict(list)
    for one in found:
        links[link_of(one.port, one.peer), one.physical].append(one)
    troubles = []
    for signs in links.values():
        signs.sort(key=_telling)
        first = signs[0]
        measured = dict(first.measured)
        if len(signs) > 1:
            measured["also"] = [{"kind": str(one.kind), "message": one.message, **one.measured} for one in signs[1:]]
        troubles.append(
            Trouble(
                first.kind,
                first.port,
                first.peer,
                any(one.severe for one in signs),
                first.message,
                measured,
                first.source,
            )
        )
    return sorted(troubles, key=lambda one: (not one.severe, _ORDER.index(one.kind), one.port))


def _telling(one: Candidate) -> tuple[bool, bool, int, int]:
    counts = [value for value in one.measured.values() if isinstance(value, int) and not isinstance(value, bool)]
    return not one.strong, not one.severe, _ORDER.index(one.kind), -max(counts, default=0)
