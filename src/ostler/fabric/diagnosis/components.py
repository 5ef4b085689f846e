"""Designed exclusive-or observed cables as a graph on ports: every port has at most one of each, so all is paths and
cycles in which they alternate. Each is one trouble; `moves.py` mends it. Linear time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ostler.fabric.model import DesignedCable, Port


class Component(NamedTuple):
    """A path or cycle. Cable `i` joins `ports[i]` and the next one; designed ones are those with an even `i` if
    `designed_first`, else the odd ones. A cycle starts with a designed one and its last cable is observed."""

    ports: tuple[Port, ...]
    designed_first: bool
    cycle: bool
    cables: tuple[DesignedCable, ...]
    """The designed cables in it, in order."""

    @property
    def observed(self) -> Iterator[tuple[Port, Port]]:
        """The wrong cables in it, in order."""
        ports, around = self.ports, len(self.ports)
        edges = around if self.cycle else around - 1
        for i in range(1 if self.designed_first else 0, edges, 2):
            yield ports[i], ports[(i + 1) % around]


def components(designed: Iterable[DesignedCable], observed: Sequence[tuple[Port, Port]]) -> list[Component]:
    """All of them, ordered by their first port. `designed`: wrong and absent cables; `observed`: links nobody designed.

    Neither may have a port twice; the two may not have a cable in common.
    """
    wanted: dict[Port, DesignedCable] = {}
    for cable in designed:
        wanted[cable.a] = wanted[cable.b] = cable
    there: dict[Port, Port] = {}
    for a, b in observed:
        there[a], there[b] = b, a
    every = sorted(wanted.keys() | there.keys())
    done: set[Port] = set()
    found: list[Component] = []
    for start in every:
        if start not in done and ((start in wanted) != (start in there)):
            found.append(_walk(start, wanted, there, done, cycle=False))
    for start in every:
        if start not in done:
            found.append(_walk(start, wanted, there, done, cycle=True))
    found.sort(key=lambda one: min(one.ports))
    return found


def _walk(
    start: Port, wanted: dict[Port, DesignedCable], there: dict[Port, Port], done: set[Port], *, cycle: bool
) -> Component:
    ports, cables = [start], []
    designed = first = start in wanted
    port = start
    while True:
        if designed:
            cable = wanted.get(port)
            if cable is None:
                break
            cables.append(cable)
            port = cable.b if cable.a == port else cable.a
        else:
            peer = there.get(port)
            if peer is None:
                break
            port = peer
        designed = not designed
        if port == start:
            break
        ports.append(port)
    done.update(ports)
    return Component(tuple(ports), first, cycle, tuple(cables))
