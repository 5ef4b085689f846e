"""Links that run narrower or slower than they should. Called by `judge`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ostler.fabric.links.flaps import link_of
from ostler.fabric.links.model import Candidate
from ostler.fabric.model import Blueprint, Port, Snapshot, TroubleKind
from ostler.fabric.sweep import SPEEDS

_LANES = 4
"""No cable for today's ports has more, though simulators and UFM name 8x and 12x. A design may ask for more."""
_ENOUGH = 16
"""Ends of the usual width before it is called usual. Ours."""
_ODD, _ODD_ENDS = 0.02, 4
"""Share, and number, of ends that may differ from it and be ill for it. Ours."""


def reduced(after: Snapshot, blueprint: Blueprint | None) -> Iterator[Candidate]:
    """Links with fewer lanes or less speed than designed; without a design for it, than both ends can."""
    designed = blueprint.by_port if blueprint is not None else {}
    facts = after.facts
    usual = _usual_width(after)
    well: set[tuple[object, ...]] = set()  # pairs of ends that were found well: a fabric has a handful of kinds
    for port, peer in after.links.items():
        if peer < port:
            continue
        here, there = facts.get(port), facts.get(peer)
        if here is None and there is None:
            continue
        kinds = (here and here[3:7], there and there[3:7])  # widths and speeds
        if kinds in well and port not in designed:
            continue
        lanes, speed, can, could = 0, "", 0, ""
        for one in (here, there):
            if one is not None:
                lanes = min(lanes or one.width, one.width or lanes)
                speed = speed or one.speed
        if here is not None and there is not None:
            can = min(here.width_supported, there.width_supported, _LANES)
            if here.speed_supported and there.speed_supported:
                could = min(here.speed_supported, there.speed_supported, key=_gbps)
        cable = designed.get(port)
        wanted = "both ends can"
        if not can and usual:
            can, wanted = usual, "as nearly all others have"
        if cable is not None and peer in cable.ends:
            can, could = cable.width or can, cable.speed or could
            wanted = "designed" if cable.width or cable.speed else wanted
        if 0 < lanes < can:
            yield _candidate(
                TroubleKind.WIDTH,
                port,
                peer,
                f"{port} and {peer} run with {lanes} of {can} lanes ({wanted}): a lane is dirty, bent or dead.",
                {"width": lanes, "expected": can},
            )
        if speed and could and _gbps(speed) < _gbps(could):
            yield _candidate(
                TroubleKind.SPEED,
                port,
                peer,
                f"{port} and {peer} run at {speed} instead of {could} ({wanted}).",
                {"speed": speed, "expected": could},
            )
        elif not 0 < lanes < can and port not in designed:
            well.add(kinds)


def _usual_width(after: Snapshot) -> int:
    """The lanes of nearly every link, where the source does not say what ports can; 0: they differ, or it says.

    A few links with fewer are ill; many are another kind of cable (HDR100 splits have 2).
    """
    widths: Counter[int] = Counter()
    for one in after.facts.values():
        if one.width_supported:
            return 0
        if one.peer is not None and one.width:
            widths[one.width] += 1
    if not widths:
        return 0
    width, often = widths.most_common(1)[0]
    odd = widths.total() - often
    return width if often >= _ENOUGH and odd <= max(_ODD_ENDS, _ODD * widths.total()) else 0


def _gbps(name: str) -> float:
    return SPEEDS.get(name, 0.0)


def _candidate(kind: TroubleKind, port: Port, peer: Port, message: str, measured: dict[str, object]) -> Candidate:
    one, two = link_of(port, peer)
    return Candidate(kind, one, two, True, message, measured, "width and speed of both ends (PortInfo), or the design")
