"""Many wrong components with one reason: boxes exchanged, a bundle one port beside, HCA names in another order.

`causes.py` asks before it makes a cause of each component. A fold is only told where every known cable of the boxes
agrees with it; else the components stay on their own, which is longer and never false.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ostler.fabric.diagnosis.compare import Comparison
from ostler.fabric.diagnosis.components import Component
from ostler.fabric.diagnosis.moves import Plan
from ostler.fabric.model import Blueprint, ChassisKind, Port, Verdict

RUN = 3
"""So many plugs off by the same number of ports are a bundle, and so many hosts with the same order are a wrong map."""

_SEATED = frozenset((Verdict.OK, Verdict.DEGRADED))


class Exchange(NamedTuple):
    """Two boxes in each other's place."""

    one: str
    two: str
    components: tuple[int, ...]


class Order(NamedTuple):
    """Hosts whose HCAs are named in another order than designed."""

    hosts: tuple[str, ...]
    names: tuple[tuple[str, str], ...]
    """(found, designed): the HCA that is found where the design has that one."""
    components: tuple[int, ...]


class Shift(NamedTuple):
    """A run of plugs on one switch that are all `by` ports beside their place."""

    switch: str
    by: int
    components: tuple[int, ...]


def opposite(blueprint: Blueprint, port: Port) -> Port | None:
    """Where the design's cable of this port ends."""
    cable = blueprint.by_port.get(port)
    if cable is None:
        return None
    return cable.b if cable.a == port else cable.a


def exchanged(found: Comparison, every: Sequence[Component]) -> list[Exchange]:
    """Pairs of boxes of a kind whose every known cable is where the other's belongs; two cables and half of them at
    least, since one alone is sooner mended by exchanging two plugs."""
    votes: Counter[tuple[str, str]] = Counter()
    touching: dict[str, list[int]] = defaultdict(list)
    ballots: list[list[frozenset[tuple[str, str]]]] = []
    for number, component in enumerate(every):
        ballots.append([_pairs(found.blueprint, u, v) for u, v in component.observed])
        for ballot in ballots[-1]:
            votes.update(ballot)
        for name in {port.chassis for port in component.ports}:
            touching[name].append(number)
    folds: list[Exchange] = []
    taken: set[str] = set()
    for pair, count in sorted(votes.items(), key=lambda item: (-item[1], item[0])):
        if count < 2 or taken & {*pair}:
            continue
        numbers = sorted({*touching[pair[0]], *touching[pair[1]]})
        if not all(pair in ballot for number in numbers for ballot in ballots[number]):
            continue
        if all(_displaced(found, box, other, numbers, every) for box, other in (pair, pair[::-1])):
            folds.append(Exchange(*pair, tuple(numbers)))
            taken.update(pair)
    return folds


def _pairs(blueprint: Blueprint, u: Port, v: Port) -> frozenset[tuple[str, str]]:
    """The pairs of boxes whose exchange would make this wrong cable right."""
    pairs = set()
    for seen, other in ((u, v), (v, u)):
        wanted = opposite(blueprint, other)
        if wanted is None or wanted.name != seen.name or wanted.chassis == seen.chassis:
            continue
        boxes = [blueprint.chassis.get(name) for name in (wanted.chassis, seen.chassis)]
        if boxes[0] is not None and boxes[1] is not None and boxes[0].kind is boxes[1].kind:
            pairs.add((min(wanted.chassis, seen.chassis), max(wanted.chassis, seen.chassis)))
    return frozenset(pairs)


def _displaced(found: Comparison, box: str, other: str, numbers: Sequence[int], every: Sequence[Component]) -> bool:
    """Whether no cable of the box is in its place, and at least half of them are known to be in the other's."""
    cables = found.blueprint.by_chassis.get(box, ())
    if any(
        found.verdicts.get(cable, Verdict.OK) in _SEATED and {cable.a.chassis, cable.b.chassis} != {box, other}
        for cable in cables
    ):
        return False
    wrong = {cable for number in numbers for cable in every[number].cables}
    moved = sum(cable in wrong for cable in cables)
    return moved >= 2 and 2 * moved >= len(cables)


def reordered(found: Comparison, every: Sequence[Component]) -> list[Order]:
    """The same order of HCA names on at least `RUN` hosts, and on most of those that share their leaves or their model:
    nobody plugs 32 hosts wrong in the same way; the list that the design was made from is wrong."""
    by_host: dict[str, list[tuple[int, frozenset[tuple[str, str]]]]] = defaultdict(list)
    elsewhere: set[str] = set()
    for number, component in enumerate(every):
        found_in = _inside(found.blueprint, component)
        if found_in is not None:
            by_host[found_in[0]].append((number, found_in[1]))
        else:
            elsewhere.update(port.chassis for port in component.ports)
    orders: dict[frozenset[tuple[str, str]], list[str]] = defaultdict(list)
    for host, parts in by_host.items():
        if host not in elsewhere:
            orders[frozenset().union(*(names for _, names in parts))].append(host)
    folds = []
    for names, hosts in orders.items():
        chosen = _most(found, hosts, {wanted for _, wanted in names}) if len(hosts) >= RUN else []
        if chosen:
            numbers = sorted(number for host in chosen for number, _ in by_host[host])
            folds.append(Order(tuple(sorted(chosen)), tuple(sorted(names)), tuple(numbers)))
    return folds


def _inside(blueprint: Blueprint, component: Component) -> tuple[str, frozenset[tuple[str, str]]] | None:
    """If only plugs of one host are mixed up among themselves: which host, and (found, designed) of every HCA."""
    hosts = {
        port.chassis
        for port in component.ports
        if (box := blueprint.chassis.get(port.chassis)) is not None and box.kind is ChassisKind.HOST
    }
    if not component.cycle or len(hosts) != 1:
        return None
    (host,) = hosts
    names = set()
    for u, v in component.observed:
        seen, other = (u, v) if u.chassis == host else (v, u)
        wanted = opposite(blueprint, other)
        if wanted is None or wanted.chassis != host or seen.chassis != host:
            return None
        names.add((seen.name, wanted.name))
    return host, frozenset(names)


def _most(found: Comparison, hosts: list[str], names: set[str]) -> list[str]:
    """Those of the hosts that are most of their leaf group, or all if they are most of their model."""
    same = set(hosts)
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for box in found.blueprint.chassis.values():
        if box.kind is not ChassisKind.HOST:
            continue
        cables = found.blueprint.by_chassis.get(box.name, ())
        keys = [("leaves", *sorted({port.chassis for cable in cables for port in cable.ends} - {box.name}))]
        if box.model:
            keys.append(("model", box.model))
        if box.name in same:
            side = 0
        elif any(
            found.verdicts.get(cable, Verdict.OK) in _SEATED
            for cable in cables
            for port in cable.ends
            if port.chassis == box.name and port.name in names
        ):
            side = 1
        else:
            continue
        for key in keys:
            groups.setdefault(key, [[], []])[side].append(box.name)
    chosen = {name for like, other in groups.values() if len(like) >= RUN and len(like) > len(other) for name in like}
    return sorted(chosen)


def shifted(numbers: Sequence[int], plan: Callable[[int], Plan]) -> list[Shift]:
    """Runs of at least `RUN` plugs on one switch that are all one port, or one twin-port cage, beside their place."""
    runs: dict[tuple[str, str, int], list[tuple[int, int, int]]] = defaultdict(list)
    for number in numbers:
        step = _step(plan(number))
        if step is not None:
            runs[step[:3]].append((step[3], step[4], number))
    folds = []
    for (switch, _, by), parts in sorted(runs.items()):
        run: list[int] = []
        plugs, reach = 0, -1
        for low, high, number in [*sorted(parts), (1 << 30, 1 << 30, -1)]:
            if run and low > reach + abs(by):
                if plugs >= RUN:
                    folds.append(Shift(switch, by, tuple(run)))
                run, plugs, reach = [], 0, -1
            run.append(number)
            plugs += len(plan(number).moves) if number >= 0 else 0
            reach = max(reach, high)
    return folds


def _step(done: Plan) -> tuple[str, str, int, int, int] | None:
    """(switch, module, by, lowest, highest port) if all plugs of a plan are off by the same one or two ports."""
    if done.removes or done.around or not done.moves:
        return None
    places = set()
    numbers = []
    for move in done.moves:
        module, _, now = move.now.name.rpartition("/")
        other, _, then = move.then.name.rpartition("/")
        if not (now.isascii() and now.isdigit() and then.isascii() and then.isdigit() and len(now) < 5 > len(then)):
            return None
        if move.now.chassis != move.then.chassis or module != other:
            return None
        places.add((move.now.chassis, module, int(now) - int(then)))
        numbers.append(int(now))
    if len(places) != 1:
        return None
    switch, module, by = places.pop()
    return (switch, module, by, min(numbers), max(numbers)) if abs(by) in {1, 2} else None
