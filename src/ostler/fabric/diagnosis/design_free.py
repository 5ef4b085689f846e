"""What a fabric says against itself where there is no design: a host unlike its peers, a switch unlike its own.

`diagnose` calls it without a blueprint. Three rules of rail-optimised fabrics, each only where most of a group keep to
it, so that a fabric built otherwise gives no lines at all:

- rail: the hosts on a leaf are there with the HCA of one name;
- port number: a host is on the same port number on all its leaves, as its neighbours are;
- trunks (`trunks.py`): leaves with the same spines have the same number of cables to each.

The first misses two plugs of one rail that are exchanged, the second two rails of one host: both are needed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ostler.fabric.diagnosis.evidence import module
from ostler.fabric.diagnosis.keys import key
from ostler.fabric.diagnosis.trunks import most, uneven_trunks
from ostler.fabric.model import Cause, CauseKind, ChassisKind, Port, Snapshot
from ostler.fabric.report import Names

GROUP = 4
"""Fewer than so many are no group."""
TOLD = 100
"""Causes of one kind that are told one by one; more are no oddities but another way of building, and one line."""

Leaf = tuple[str, str]


class Plug(NamedTuple):
    """A host's port and the switch port that it is on."""

    host: Port
    leaf: Port

    @property
    def unit(self) -> Leaf:
        """The switch, or the module of a director."""
        return self.leaf.chassis, module(self.leaf)

    @property
    def number(self) -> str:
        return self.leaf.name.rpartition("/")[2]


def design_free(snapshot: Snapshot) -> list[Cause]:
    """Every oddity, by kind."""
    names = Names(None, snapshot)
    hosts: dict[str, list[Plug]] = defaultdict(list)
    for port, peer in snapshot.links.items():
        box, other = snapshot.chassis.get(port.chassis), snapshot.chassis.get(peer.chassis)
        if box is None or other is None or other.kind is not ChassisKind.SWITCH:
            continue
        if box.kind is ChassisKind.HOST:
            hosts[port.chassis].append(Plug(port, peer))
    rails = _rails(hosts, names)
    crossed = {name for cause in rails for name in cause.where}
    numbers = _numbers({name: plugs for name, plugs in hosts.items() if name not in crossed}, names)
    return [*_few(rails), *_few(numbers), *_few(uneven_trunks(snapshot))]


def _few(causes: Sequence[Cause]) -> Sequence[Cause]:
    """The causes, or one in their place if they are too many to be faults."""
    if len(causes) <= TOLD:
        return causes
    kind, where = causes[0].kind, tuple(name for cause in causes for name in cause.where)
    return [
        Cause(
            kind,
            key(kind, ("*",)),
            where[:TOLD],
            (),
            f"{len(causes)} times {kind.value}, first: {causes[0].message} So many are hardly faults.",
            "Give the design; without one this fabric can not be judged.",
            ticket=False,
        )
    ]


def _rails(hosts: dict[str, list[Plug]], names: Names) -> list[Cause]:
    """Hosts with an HCA on a leaf where the others have another one, if the rest of the host keeps to the rule or its
    own HCAs stand in each other's place."""
    count: dict[Leaf, Counter[str]] = defaultdict(Counter)
    for plugs in hosts.values():
        for plug in plugs:
            count[plug.unit][plug.host.name] += 1
    rail = {unit: name for unit, names_on in count.items() if (name := _majority(names_on)) is not None}
    homes = set(rail.values())
    causes = []
    for host, plugs in sorted(hosts.items()):
        if len(plugs) < 2 or len({plug.host.name for plug in plugs} & homes) < 2:
            continue
        odd = [plug for plug in plugs if rail.get(plug.unit, plug.host.name) != plug.host.name]
        odd = [plug for plug in odd if plug.host.name in homes]
        home = sum(rail.get(plug.unit) == plug.host.name for plug in plugs)
        permuted = {plug.host.name for plug in odd} == {rail[plug.unit] for plug in odd}
        if odd and (permuted or 2 * home >= len(plugs)):
            causes.append(_crossed(host, sorted(odd), rail, count, permuted, names))
    return causes


def _crossed(
    host: str,
    odd: Sequence[Plug],
    rail: dict[Leaf, str],
    count: dict[Leaf, Counter[str]],
    permuted: bool,
    names: Names,
) -> Cause:
    first = odd[0]
    peers = count[first.unit][rail[first.unit]]
    ports = tuple(sorted(port for plug in odd for port in plug))
    if permuted and len(odd) == 2:
        one, two = (names.port(plug.host) for plug in odd)
        do = f"Exchange the plugs in {one} and {two}, unless their names are wrong."
    else:
        do = f"At {host} bring the plugs of {', '.join(plug.host.name for plug in odd[:8])} each to its rail."
    more = f" {len(odd) - 1} more of its HCAs are on the wrong rail." if len(odd) > 1 else ""
    return Cause(
        CauseKind.RAIL,
        key(CauseKind.RAIL, ports),
        (host,),
        ports,
        f"{first.host} is on {names.port(first.leaf)}, where {peers} others have their {rail[first.unit]}.{more}",
        do,
    )


def _numbers(hosts: dict[str, list[Plug]], names: Names) -> list[Cause]:
    """Hosts that are not on the same port number everywhere, among neighbours on the same leaves that are."""
    groups: dict[frozenset[Leaf], list[str]] = defaultdict(list)
    for host, plugs in hosts.items():
        units = frozenset(plug.unit for plug in plugs)
        if len(units) == len(plugs) > 1:
            groups[units].append(host)
    causes: list[Cause] = []
    for members in groups.values():
        odd = [name for name in sorted(members) if len({plug.number for plug in hosts[name]}) > 1]
        if len(members) >= GROUP and most(len(members) - len(odd), len(members)):
            causes += _differing({name: hosts[name] for name in odd}, len(members) - len(odd), names)
    return causes


def _differing(odd: dict[str, list[Plug]], peers: int, names: Names) -> Iterable[Cause]:
    """Two hosts that sit on each other's number of one leaf are one cause, the rest one each."""
    usual = {host: _usual(plugs) for host, plugs in odd.items()}
    off = {host: sorted(p for p in plugs if p.number != usual[host]) for host, plugs in odd.items()}
    at = {(plug.unit, plug.number): host for host, plugs in off.items() for plug in plugs}
    done: set[str] = set()
    for host, plugs in off.items():
        if host in done:
            continue
        number = usual[host]
        other = at.get((plugs[0].unit, number)) if number and len(plugs) == 1 else None
        theirs = off[other] if other is not None else []
        mutual = (
            len(theirs) == 1 and theirs[0].unit == plugs[0].unit and usual[theirs[0].host.chassis] == plugs[0].number
        )
        if other is not None and mutual:
            done.add(other)
            ports = tuple(sorted((*plugs[0], *theirs[0])))
            yield Cause(
                CauseKind.PORT_NUMBER,
                key(CauseKind.PORT_NUMBER, ports),
                (plugs[0].leaf.chassis,),
                ports,
                f"{plugs[0].host} and {theirs[0].host} are on each other's port of {plugs[0].leaf.chassis}: "
                f"their other rails are on ports {number} and {usual[other]}.",
                f"Exchange the plugs in {' and '.join(sorted(names.port(plug.leaf) for plug in (*plugs, *theirs)))}.",
            )
            continue
        shown = plugs or sorted(odd[host])
        ports = tuple(sorted(port for plug in shown for port in plug))
        where = ", ".join(names.port(plug.leaf) for plug in shown[:4])
        yield Cause(
            CauseKind.PORT_NUMBER,
            key(CauseKind.PORT_NUMBER, ports),
            (host,),
            ports,
            f"{host} is on {where}{'' if not number else f' and on port {number} of its other leaves'}; "
            f"{peers} hosts beside it are on one number everywhere.",
            "Look where these plugs belong; without a design it is not known which of them is wrong."
            if not number
            else f"Look whether {'this plug belongs' if len(plugs) == 1 else 'these plugs belong'} in port {number}.",
        )


def _usual(plugs: Sequence[Plug]) -> str:
    """The number that more than half of a host's plugs are on; empty: none."""
    number, count = Counter(plug.number for plug in plugs).most_common(1)[0]
    return number if 2 * count > len(plugs) else ""


def _majority(count: Counter[str]) -> str | None:
    name, often = count.most_common(1)[0]
    return name if often >= GROUP - 1 and most(often, count.total()) else None
