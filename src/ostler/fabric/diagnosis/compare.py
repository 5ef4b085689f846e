"""Every designed cable against what was seen: ok, wrong, absent, degraded or unknown. Nothing is claimed unseen.

`diagnose` calls it first; what differs goes on as a graph to `components.py`. One pass over the design with two
look-ups a port for the cables that are in their place; the evidence is weighed only for the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from ostler.fabric.diagnosis.evidence import Evidence, Said, View
from ostler.fabric.model import Blueprint, DesignedCable, Port, Verdict
from ostler.fabric.sweep import SPEEDS, Physical, PortFacts, PortState

_DIGITS = re.compile(r"\d+")


@dataclass(slots=True)
class Comparison:
    """What differs between the design and what was seen."""

    blueprint: Blueprint
    evidence: Evidence
    verdicts: dict[DesignedCable, Verdict] = field(default_factory=dict)
    """Of the cables that are not ok."""
    counts: Counter[Verdict] = field(default_factory=Counter)
    strays: list[tuple[Port, Port]] = field(default_factory=list)
    """Links that nobody designed, each once, the smaller port first; none that an unknown cable might explain."""
    veiled: list[tuple[DesignedCable, Port, Port]] = field(default_factory=list)
    """Unknown cables of which one end leads to a box that nobody designed, and the other is silent: it may be that box
    under another name. With that end and the port that it leads to."""

    def of(self, verdict: Verdict) -> list[DesignedCable]:
        return [cable for cable, found in self.verdicts.items() if found is verdict]


def compare(blueprint: Blueprint, evidence: Evidence) -> Comparison:
    """Judge every cable. Without a vantage point that sees anything, all are unknown."""
    found = Comparison(blueprint, evidence)
    if not evidence.views:
        found.verdicts = dict.fromkeys(blueprint.cables, Verdict.UNKNOWN)
    else:
        rest = _in_place(found, evidence.views[0])
        for cable in rest:
            verdict = _judge(found, cable)
            if verdict is not Verdict.OK:
                found.verdicts[cable] = verdict
        found.strays = _strays(found)
    for verdict, count in Counter(found.verdicts.values()).items():
        found.counts[verdict] = count
    found.counts[Verdict.OK] = len(blueprint.cables) - len(found.verdicts)
    return found


def _in_place(found: Comparison, view: View) -> list[DesignedCable]:
    """Settle the cables that are where they belong; the rest is returned. The loop that has to be fast."""
    links, facts, unsure = view.links, view.snapshot.facts, view.unsure
    rest: list[DesignedCable] = []
    down = PortState.DOWN
    for cable in found.blueprint.cables:
        a, b = cable[0], cable[1]
        if links.get(a) != b or (unsure and (a in unsure or b in unsure)):
            rest.append(cable)
            continue
        near, far = facts.get(a), facts.get(b)
        if (near is not None and near[1] is down) or (far is not None and far[1] is down):
            rest.append(cable)
        elif _slower(cable, near, far):
            found.verdicts[cable] = Verdict.DEGRADED
    return rest


def _judge(found: Comparison, cable: DesignedCable) -> Verdict:
    a, b = cable.a, cable.b
    by_port = found.blueprint.by_port
    if a == b or by_port[a] is not cable or by_port[b] is not cable:
        return Verdict.UNKNOWN  # readers refuse such designs; one built by hand must not lead anybody astray
    at_a, at_b = found.evidence.says(a), found.evidence.says(b)
    if at_a == b:
        for view in found.evidence.views:
            if _slower(cable, view.snapshot.facts.get(a), view.snapshot.facts.get(b)):
                return Verdict.DEGRADED
        return Verdict.OK
    veiled = False
    for end, there, other, otherwise in ((a, at_a, b, at_b), (b, at_b, a, at_a)):
        if isinstance(there, Port):
            if otherwise in {Said.SILENT, Said.UNSURE} and _may_be(found.blueprint, there, other):
                found.veiled.append((cable, end, there))
                veiled = True
            else:
                return Verdict.WRONG
    if veiled:
        return Verdict.UNKNOWN
    said = {at_a, at_b}
    if Said.EMPTY in said and Said.UNSURE not in said:
        return Verdict.ABSENT
    return Verdict.UNKNOWN


def _may_be(blueprint: Blueprint, there: Port, designed: Port) -> bool:
    """Whether a port that nobody designed may be the designed one under another name: `localhost mlx5_0`, `gpu-1 ibp3`.

    Not if its chassis is a designed one whose ports are named alike: `mlx5_9` is not `mlx5_0`.
    """
    if there in blueprint.by_port:
        return False
    if there.chassis not in blueprint.chassis:
        return True
    return there.chassis == designed.chassis and _DIGITS.sub("#", there.name) != _DIGITS.sub("#", designed.name)


def _slower(cable: DesignedCable, near: PortFacts | None, far: PortFacts | None) -> bool:
    """Whether a link has fewer lanes or runs slower than designed or, where the design is silent, than both can."""
    if near is None or far is None:
        near = far = near or far
        if near is None or far is None:
            return False
        can_width, can_speed = 0, ""  # what one end can is no measure
    else:
        can_width, can_speed = min(near[5], far[5]), near[6] if near[6] == far[6] else min(near[6], far[6], key=_rate)
    if near[2] is Physical.TRAINING or far[2] is Physical.TRAINING:
        return False  # InfiniBand trains at its lowest speed and then goes up
    wide = cable[6] or can_width
    if 0 < near[3] < wide or 0 < far[3] < wide:
        return True
    wanted = cable[7] or can_speed
    if near[4] == wanted == far[4]:
        return False
    return any(0.0 < _rate(speed) < _rate(wanted) for speed in (near[4], far[4]))


def _rate(speed: str) -> float:
    return SPEEDS.get(speed, 0.0)


def _strays(found: Comparison) -> list[tuple[Port, Port]]:
    """Links beside the design. What may be a designed cable under another name is left out, and so is a chassis' own
    backplane."""
    in_place = 2 * (len(found.blueprint.cables) - sum(v is not Verdict.DEGRADED for v in found.verdicts.values()))
    views = found.evidence.views
    if len(views) == 1 and len(views[0].links) == in_place:
        return []
    by_port, says = found.blueprint.by_port, found.evidence.says
    hidden = {port for _, end, there in found.veiled for port in (end, there)}
    strays: set[tuple[Port, Port]] = set()
    for port, peer in found.evidence.links():
        cable = by_port.get(port)
        if cable is not None and (cable[1] if cable[0] == port else cable[0]) == peer:
            continue
        if port in hidden or peer in hidden or port == peer:
            continue
        if cable is None and peer not in by_port and _backplane(port, peer):
            continue
        if says(port) == peer:
            strays.add((port, peer) if port < peer else (peer, port))
    return sorted(strays)


def _backplane(port: Port, peer: Port) -> bool:
    """A link between two modules of one director: no cable."""
    return port.chassis == peer.chassis and "/" in port.name and "/" in peer.name
