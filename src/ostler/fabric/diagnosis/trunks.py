"""Without a design: switches with fewer cables to a switch above them than their peers have. `design_free.py` asks.

Peers are the switches of a level (leaves have hosts; the next level is what leaves are connected to, and so on) that
are connected to the same ones above, or all but a few of them. A director counts as one box; its backplane is no cable.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from ostler.fabric.diagnosis.keys import key
from ostler.fabric.model import Cause, CauseKind, ChassisKind, Port, Snapshot

MOST = 0.8
"""Share of a group that must keep to a rule before the rest is told to break it."""
GROUP = 4
"""Fewer than so many are no group."""
LEAF_SHARE = 0.1
"""One host among so few links makes a leaf; a single host on a switch full of trunks is a plug in the wrong place."""


def most(often: int, of: int) -> bool:
    """Whether a group keeps to a rule: all but a fifth, or, in a small group, all but the two of one exchange."""
    return often >= min(MOST * of, of - 2) and 2 * often > of


def uneven_trunks(snapshot: Snapshot) -> list[Cause]:
    """One cause a switch, with all that it lacks."""
    boxes = snapshot.chassis
    switches = {name for name, box in boxes.items() if box.kind is ChassisKind.SWITCH}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    ports: dict[tuple[str, str], list[Port]] = defaultdict(list)
    level: dict[str, int] = {}
    hosts: Counter[str] = Counter()
    for port, peer in snapshot.links.items():
        if port.chassis not in switches or port.chassis == peer.chassis:
            continue
        if peer.chassis in switches:
            counts[port.chassis][peer.chassis] += 1
            ports[port.chassis, peer.chassis].append(port)
        elif (box := boxes.get(peer.chassis)) is not None and box.kind is ChassisKind.HOST:
            hosts[port.chassis] += 1
    for name, count in hosts.items():
        if count > 1 or count >= LEAF_SHARE * (count + counts[name].total()):
            level[name] = 0
    _levels(level, counts)
    ups: dict[str, dict[str, int]] = {
        name: {upper: count for upper, count in counts[name].items() if level.get(upper, -1) == step + 1}
        for name, step in level.items()
    }
    groups: dict[tuple[int, frozenset[str]], list[str]] = defaultdict(list)
    for name, uppers in ups.items():
        if uppers:
            groups[level[name], frozenset(uppers)].append(name)
    big = {known: members for known, members in groups.items() if len(members) >= GROUP}
    causes = []
    for (step, above), members in sorted(groups.items(), key=lambda item: (item[0][0], min(item[1]))):
        like = members if (step, above) in big else _nearest(step, above, big)
        usual = _usual(like, ups)
        for name in sorted(members):
            lacks = {upper: (ups[name].get(upper, 0), n) for upper, n in usual.items() if ups[name].get(upper, 0) < n}
            if lacks and len(lacks) <= max(1, (1 - MOST) * len(usual)):
                causes.append(_cause(name, lacks, len(like), ports))
    return causes


def _levels(level: dict[str, int], counts: dict[str, Counter[str]]) -> None:
    """From the leaves upwards, each switch one above the lowest that it is connected to."""
    below = list(level)
    step = 0
    while below:
        step += 1
        above = {upper for name in below for upper in counts[name]} - level.keys()
        level.update(dict.fromkeys(above, step))
        below = sorted(above)


def _nearest(step: int, above: frozenset[str], big: dict[tuple[int, frozenset[str]], list[str]]) -> list[str]:
    """The group that this switch would belong to if a few cables were there."""
    for (other, uppers), members in big.items():
        if other == step and above < uppers and len(uppers - above) <= max(1, (1 - MOST) * len(uppers)):
            return members
    return []


def _usual(members: list[str], ups: dict[str, dict[str, int]]) -> dict[str, int]:
    """How many cables the members have to each above them, where most have the same number."""
    if len(members) < GROUP:
        return {}
    usual = {}
    for upper in ups[members[0]]:
        count, often = Counter(ups[name].get(upper, 0) for name in members).most_common(1)[0]
        if most(often, len(members)):
            usual[upper] = count
    return usual


def _cause(name: str, lacks: dict[str, tuple[int, int]], peers: int, ports: dict[tuple[str, str], list[Port]]) -> Cause:
    rows = sorted(lacks.items())
    told = ", ".join(f"{has} of {should} cables to {upper}" for upper, (has, should) in rows[:3])
    more = f" and less to {len(rows) - 3} more" if len(rows) > 3 else ""
    concerned = tuple(sorted(port for upper, _ in rows for port in ports.get((name, upper), ())))
    return Cause(
        CauseKind.TRUNK,
        key(CauseKind.TRUNK, (name, *(upper for upper, _ in rows))),
        (name,),
        concerned,
        f"{name} has {told}{more}; it has {peers} peers.",
        f"Look for cables of {name} that are out, broken or elsewhere.",
    )
