"""The fewest plugs to move for one component, in the fewest chassis, in an order in which it can be done.

Every wrong cable must be touched, and moving one of its plugs is enough to make it one of the designed cables beside
it in the component: so `k` wrong cables take exactly `k` moves (or, where the component has more wrong cables than
designed ones, one of them is taken out). What is free is which end of each stays:

- a cycle: all keep their first end, or all their second;
- a path with a designed cable more than wrong ones: one designed cable stays without, and the wrong cables before it
  fill one way, those behind it the other;
- a path with a wrong cable more: that one is taken out, likewise.

The choice is the one whose plugs sit in the fewest chassis (one visit instead of two); then the one that puts the
fewest plugs into ports of which nothing is known; then the one with the fewest switches, since a plug pulled at a host
disturbs that host alone. One pass along the component decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ostler.fabric.diagnosis.components import Component
from ostler.fabric.diagnosis.evidence import Evidence, Said
from ostler.fabric.model import Blueprint, ChassisKind, DesignedCable, Move, Port

TOLD = 6
"""So many moves are told in words; beyond, the list says it."""


class Plan(NamedTuple):
    """What to do to one component."""

    moves: tuple[Move, ...]
    """In an order in which no plug goes into a port that is in use, unless `around`."""
    removes: tuple[tuple[Port, Port], ...] = ()
    """To be taken out first."""
    lacking: DesignedCable | None = None
    """The designed cable that is still missing afterwards."""
    around: bool = False
    """A cycle: all plugs out first."""
    doubtful: tuple[Port, Port] | None = None
    """A port to be filled of which nothing is known, and where its plug goes if it has one."""

    @property
    def chassis(self) -> tuple[str, ...]:
        """Where hands are needed, those with the fewest plugs first."""
        count = Counter(port.chassis for move in self.moves for port in {move.now, move.then})
        count.update(port.chassis for pair in self.removes for port in pair)
        return tuple(sorted(count, key=lambda name: (count[name], name)))


class _Cost:
    """What a choice costs, kept up to date while the choice slides along the component."""

    def __init__(self, blueprint: Blueprint, evidence: Evidence) -> None:
        self._blueprint, self._evidence = blueprint, evidence
        self._plugs: Counter[str] = Counter()
        self._switches = self._doubtful = 0

    def add(self, move: Move | None, by: int) -> None:
        if move is None:
            return
        self._touch(move.now.chassis, by)
        self._touch(move.then.chassis, by)
        if self._evidence.says(move.then) in {Said.SILENT, Said.UNSURE}:
            self._doubtful += by

    def touch(self, ports: Sequence[Port], by: int) -> None:
        for port in ports:
            self._touch(port.chassis, by)

    def _touch(self, name: str, by: int) -> None:
        known = self._blueprint.chassis.get(name)
        switch = (known is None or known.kind is not ChassisKind.HOST) and self._evidence.kind(
            name
        ) is not ChassisKind.HOST
        before = self._plugs[name]
        self._plugs[name] = before + by
        if before == 0:
            self._switches += switch
        if before + by == 0:
            del self._plugs[name]
            self._switches -= switch

    @property
    def now(self) -> tuple[int, int, int]:
        return len(self._plugs), self._doubtful, self._switches


def plan(component: Component, blueprint: Blueprint, evidence: Evidence) -> Plan:
    """The moves for a component that has at least one wrong cable."""
    ports, around = component.ports, len(component.ports)

    def left(i: int) -> Move:
        """Cable i of the component is kept at its first end: it becomes the designed one before it."""
        return Move(ports[i], ports[(i + 1) % around], ports[i - 1])

    def right(i: int) -> Move:
        return Move(ports[(i + 1) % around], ports[i], ports[(i + 2) % around])

    if component.cycle:
        return _cycle(
            [left(i) for i in range(1, around, 2)], [right(i) for i in range(1, around, 2)], blueprint, evidence
        )
    if component.designed_first:
        wrong = range(1, around - 1, 2)
        if around % 2:  # it ends with a wrong cable: as many designed ones, and no choice
            return _doubt(Plan(tuple(left(i) for i in wrong)), evidence)
        split = _best(wrong, left, right, blueprint, evidence)
        moves = [left(i) for i in wrong[:split]] + [right(i) for i in reversed(wrong[split:])]
        return _doubt(Plan(tuple(moves), lacking=component.cables[split]), evidence)
    wrong = range(0, around - 1, 2)
    if around % 2:
        return _doubt(Plan(tuple(right(i) for i in reversed(wrong))), evidence)
    out = _surplus(wrong, left, right, ports, blueprint, evidence)
    moves = [right(i) for i in reversed(wrong[:out])] + [left(i) for i in wrong[out + 1 :]]
    pair = (ports[wrong[out]], ports[wrong[out] + 1])
    return Plan(tuple(moves), removes=((min(pair), max(pair)),))


def _cycle(first: list[Move], second: list[Move], blueprint: Blueprint, evidence: Evidence) -> Plan:
    costs = []
    for moves in (first, second):
        cost = _Cost(blueprint, evidence)
        for move in moves:
            cost.add(move, 1)
        costs.append(cost.now)
    chosen = first if costs[0] <= costs[1] else second
    start = min(range(len(chosen)), key=lambda i: chosen[i].now)
    return Plan(tuple(chosen[start:] + chosen[:start]), around=True)


def _best(
    wrong: range,
    left: Callable[[int], Move],
    right: Callable[[int], Move],
    blueprint: Blueprint,
    evidence: Evidence,
) -> int:
    """Which designed cable stays without: the wrong ones before it go left, those behind it right."""
    cost = _Cost(blueprint, evidence)
    for i in wrong:
        cost.add(right(i), 1)
    best, found = cost.now, 0
    for split, i in enumerate(wrong, 1):
        cost.add(right(i), -1)
        cost.add(left(i), 1)
        if cost.now < best:
            best, found = cost.now, split
    return found


def _surplus(
    wrong: range,
    left: Callable[[int], Move],
    right: Callable[[int], Move],
    ports: tuple[Port, ...],
    blueprint: Blueprint,
    evidence: Evidence,
) -> int:
    """Which wrong cable is taken out: those before it go right, those behind it left. A tie goes to one that leads out
    of the design."""
    cost = _Cost(blueprint, evidence)
    for i in wrong[1:]:
        cost.add(left(i), 1)
    best: tuple[int, ...] | None = None
    found = 0
    for out, i in enumerate(wrong):
        if out:
            cost.add(left(i), -1)
            cost.add(right(wrong[out - 1]), 1)
        pair = ports[i : i + 2]
        cost.touch(pair, 1)
        count, doubtful, switches = cost.now
        inside = sum(port in blueprint.by_port for port in pair)
        cost.touch(pair, -1)
        if best is None or (count, doubtful, inside, switches) < best:
            best, found = (count, doubtful, inside, switches), out
    return found


def _doubt(done: Plan, evidence: Evidence) -> Plan:
    """If the port to be filled first did not answer it may hold the plug of a cable nobody sees: say where that goes.

    A hidden cable between the two open ends would close the path to a cycle; the one that then has no place goes where
    the last plug came from. Only said where a designed cable stays open, else both its ends are known.
    """
    if done.lacking is None:
        return done
    filled = {move.then for move in done.moves}
    vacated = {move.now for move in done.moves} - filled
    open_ends = [port for port in filled - {move.now for move in done.moves} if evidence.says(port) is Said.SILENT]
    goals = [port for port in vacated if port in done.lacking.ends]
    if len(open_ends) == 1 and len(goals) == 1:
        return done._replace(doubtful=(open_ends[0], goals[0]))
    return done


def told(done: Plan, name: Callable[[Port], str]) -> str:
    """One line for the technician."""
    parts = [f"take out the cable between {name(a)} and {name(b)}" for a, b in done.removes]
    moves = done.moves
    if len(moves) > TOLD:
        before = "take all plugs of the list out, then put" if done.around else "move"
        parts.append(f"{before} {len(moves)} plugs as listed, in that order")
    elif done.around and len(moves) == 2:
        parts.append(f"exchange the plugs in {name(moves[0].now)} and {name(moves[1].now)}")
    elif done.around:
        out = ", ".join(name(move.now) for move in moves[:-1])
        steps = ", ".join(f"{n}) the one from {name(m.now)} into {name(m.then)}" for n, m in enumerate(moves, 1))
        parts.append(f"take out the plugs in {out} and {name(moves[-1].now)}, then put {steps}")
    elif len(moves) == 1:
        parts.append(f"move the plug in {name(moves[0].now)} to {name(moves[0].then)}")
    elif moves:
        steps = ", ".join(f"{n}) the plug in {name(m.now)} to {name(m.then)}" for n, m in enumerate(moves, 1))
        parts.append(f"move in this order: {steps}")
    if done.doubtful is not None:
        port, goal = done.doubtful
        parts.append(f"{name(port)} did not answer: if a plug is in it, that one goes to {name(goal)}")
    elif done.lacking is not None:
        a, b = done.lacking.ends
        parts.append(f"then look for the cable that is missing between {name(a)} and {name(b)}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."
