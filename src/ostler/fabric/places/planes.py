"""XDR: four ASICs share every cable, each with a quarter of its lanes; a technician sees one cable and so do we.

Called by `locate.py` before anything gets a place. In a sweep a Quantum-X800 switch is four nodes, from
`MF0;leaf1:Q3400_RA/U1` to `U4`; port 35 of each is the same plug, and an HCA there has four ports, one a plane. They
become the port of the lowest ASIC seen, with the lanes of all together: a plane that is down shows as a link with fewer
lanes than it can have. Ports beyond the front panel (management, routers between subnets) are no cables and stay with
their ASIC.

Written from published names and sweeps of such switches, never run against one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ostler.fabric.places import front_panel
from ostler.fabric.places.identity import Seat
from ostler.fabric.sweep import End, NodeKind, PortFacts, PortState, ProblemKind, Sweep


class Folded(NamedTuple):
    """A sweep without its planes."""

    ports: Mapping[End, PortFacts]
    leads: Mapping[End, End]
    """Port of a plane → the port that stands for the plug. Only of ports that were folded."""


def plane(seat: Seat) -> int:
    """Which of the ASICs that share every cable of its switch this is, from 1; 0: it shares none."""
    if seat.module[:1] == "U" and seat.module[1:].isdecimal() and front_panel.planes(seat.model) > 1:
        return int(seat.module[1:])
    return 0


def fold(sweep: Sweep, seats: Mapping[int, Seat], problems: Sweep) -> Folded:
    """Put the planes of every plug together; a sweep without such switches comes back as it is."""
    asics: dict[str, dict[int, int]] = {}
    for guid, seat in seats.items():
        if (number := plane(seat)) and sweep.nodes[guid].kind is NodeKind.SWITCH:
            asics.setdefault(seat.chassis, {})[number] = guid
    if not asics:
        return Folded(sweep.ports, {})
    lead_of: dict[int, tuple[int, int]] = {}
    for planes in asics.values():
        lead = planes[min(planes)]
        known = front_panel.panel(seats[lead].model)
        for guid in planes.values():
            lead_of[guid] = (lead, known.ports if known else 0)
    leads = _switch_leads(sweep, lead_of)
    _adapter_leads(sweep, leads)
    return Folded(_together(sweep, leads, problems), leads)


def _switch_leads(sweep: Sweep, lead_of: Mapping[int, tuple[int, int]]) -> dict[End, End]:
    leads: dict[End, End] = {}
    for end, facts in sweep.ports.items():
        for one in (end, facts.peer):
            if one is not None and (found := lead_of.get(one.guid)) is not None and one.port <= found[1]:
                leads[one] = End(found[0], one.port)
    return leads


def _adapter_leads(sweep: Sweep, leads: dict[End, End]) -> None:
    """HCAs of which several ports lead to the same plug."""
    plugs: dict[End, dict[End, None]] = {}
    for end, facts in sweep.ports.items():
        if facts.peer is None:
            continue
        for own, far in ((end, facts.peer), (facts.peer, end)):
            node = sweep.nodes.get(own.guid)
            if far in leads and node is not None and node.kind is NodeKind.HCA:
                plugs.setdefault(leads[far], {})[own] = None
    for ends in plugs.values():
        if len(ends) > 1 and len({end.guid for end in ends}) == 1:
            first = min(ends)
            leads.update(dict.fromkeys(ends, first))


def _together(sweep: Sweep, leads: Mapping[End, End], problems: Sweep) -> dict[End, PortFacts]:
    ports: dict[End, PortFacts] = {}
    for end, facts in sweep.ports.items():
        lead = leads.get(end, end)
        peer = facts.peer if facts.peer is None else leads.get(facts.peer, facts.peer)
        before = ports.get(lead)
        if before is None:
            ports[lead] = facts._replace(peer=peer)
            continue
        if peer is not None and before.peer is not None and peer != before.peer:
            problems.trouble(
                ProblemKind.CONTRADICTION,
                f"the planes of port {lead.port} of 0x{lead.guid:016x} do not lead to the same plug",
                guid=lead.guid,
            )
        ports[lead] = PortFacts(
            before.peer or peer,
            _best(before.state, facts.state),
            before.physical if before.peer or not peer else facts.physical,
            before.width + facts.width,
            before.speed or facts.speed,
            before.width_supported + facts.width_supported,
            before.speed_supported or facts.speed_supported,
            before.lid or facts.lid,
        )
    return ports


_ORDER = (PortState.UNKNOWN, PortState.DOWN, PortState.INIT, PortState.ARMED, PortState.ACTIVE)


def _best(one: PortState, two: PortState) -> PortState:
    return max(one, two, key=_ORDER.index)
