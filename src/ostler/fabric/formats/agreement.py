"""Both ends of a cable name each other: what a topology's ports say is checked here against what their neighbours say.

Called by every reader of a topology once all of its ports are in the sweep. The rules:

- A link that both ends name stands, whatever a third port says.
- A link that one end names stands where the other end says nothing and no third port names it too; the other end gets
  its peer, width and speed from it.
- Ends that contradict each other (one names a neighbour that names another, or that says it has no link) lose their
  peer, both: either may be the older truth, or have a GUID that is there twice.
- A port that names itself (a loopback plug) has no peer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ostler.fabric.sweep import (
    End,
    Node,
    NodeKind,
    PortFacts,
    PortState,
    ProblemKind,
    Sweep,
    guid_text,
)


class OneSided(NamedTuple):
    """What the neighbours told and the ports themselves did not."""

    links: int
    """Links named by one end only, though the other end's node answered."""
    nodes: int
    """Nodes that only their neighbours named."""


def settle(sweep: Sweep, named: Mapping[int, tuple[NodeKind, str]]) -> OneSided:
    """Make the sweep's links mutual and add the nodes that only neighbours named.

    `named`: kind and description of the neighbours, by GUID.
    """
    ports, nodes = sweep.ports, sweep.nodes
    silent = 0
    for guid in named.keys() - nodes.keys():
        kind, description = named[guid]
        nodes[guid] = Node(guid, kind, description, answered=False)
        silent += 1
    loose: dict[End, PortFacts] = {}
    for end, facts in ports.items():
        peer = facts.peer
        if peer is not None and (peer == end or (other := ports.get(peer)) is None or other.peer != end):
            loose[end] = facts
    claims: dict[End, list[End]] = {}
    torn: set[End] = set()
    for end, facts in loose.items():
        peer = facts.peer
        if peer is None or peer == end:
            sweep.trouble(
                ProblemKind.CONTRADICTION, f"{_show(end)} names itself as its neighbour", guid=end.guid, hides=False
            )
            torn.add(end)
        else:
            claims.setdefault(peer, []).append(end)
    for peer, claimers in claims.items():
        theirs = ports.get(peer)
        rival = theirs.peer if theirs is not None else None
        down = theirs is not None and theirs.state is PortState.DOWN
        if rival is None and not down and len(claimers) == 1:
            continue
        torn.update(claimers)
        if peer in loose:
            torn.add(peer)
        says = f"names {_show(rival)}" if rival else "says it has no link" if down else "names none of them"
        sweep.trouble(
            ProblemKind.CONTRADICTION,
            f"{' and '.join(_show(end) for end in claimers[:3])} {'names' if len(claimers) == 1 else 'name'} "
            f"{_show(peer)}, which {says}: neither is believed",
            guid=peer.guid,
        )
    for end in torn:
        ports[end] = ports[end]._replace(peer=None)
    missing = 0
    for peer, claimers in claims.items():
        end = claimers[0]
        if end in torn:
            continue
        told = loose[end]
        theirs = ports.get(peer, PortFacts())
        ports[peer] = theirs._replace(peer=end, width=theirs.width or told.width, speed=theirs.speed or told.speed)
        missing += nodes[peer.guid].answered
    return OneSided(missing, silent)


def blind(sweep: Sweep) -> None:
    """Note a sweep without any link: the collector then saw nothing but itself."""
    if not any(facts.peer is not None for facts in sweep.ports.values()):
        sweep.trouble(ProblemKind.MONITOR_DOWN, "no link at all was seen: the collector's own port has none")


def _show(end: End | None) -> str:
    return f"{guid_text(end.guid)}[{end.port}]" if end else "nothing"
