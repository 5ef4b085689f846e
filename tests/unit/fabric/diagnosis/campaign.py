"""Random fabrics, broken at random: the moves restore them, are the fewest, and nothing false is ever claimed.

`test_campaign.py` runs a few hundred, `scripts/proof.py` thousands: `campaign(count, seed)`.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter

from ostler.fabric.diagnosis import diagnose
from ostler.fabric.model import Blueprint, Cause, CauseKind, ChassisKind, Diagnosis, Port, Verdict
from tests.unit.fabric.diagnosis.worlds import FAULTS, World, break_it, world


def campaign(count: int, seed: int) -> dict[str, int]:
    """Raises AssertionError with the seed of the case that failed; else says how much was tried."""
    total: Counter[str] = Counter()
    for number in range(count):
        case = f"{seed}:{number}"
        try:
            total.update(restored(random.Random(case)))
            total.update(sound(random.Random(case + "s")))
        except AssertionError as wrong:
            raise AssertionError(f"case {case}: {wrong}") from wrong
    return dict(total)


def broken(rng: random.Random, kinds: tuple[str, ...] = FAULTS) -> World:
    rails = rng.choice((1, 2, 3, 4))
    it = world(rng.choice((2, 4, 6, 9)), rails, rng.choice((8, 12)))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5, 9))):
        break_it(it, rng.choice(kinds), rng)
    return it


def restored(rng: random.Random) -> Counter[str]:
    """With all in sight: its own moves leave only designed cables, are the fewest, fill the most, can be done in order."""
    states = rng.random() < 0.7  # a source of links only can not tell a guest from a silent host under another name
    it = broken(rng, tuple(kind for kind in FAULTS if not kind.endswith("-off") and (states or kind != "guest")))
    design = {frozenset(cable.ends) for cable in it.blueprint.cables}
    before = {frozenset(pair) for pair in it.plugged.items() if any(port.chassis not in it.more for port in pair)}
    told = diagnose(it.blueprint, it.snapshot(states=states))
    assert told.counts[Verdict.UNKNOWN] == 0, "unknown with all in sight"
    assert told.counts[Verdict.OK] == len(before & design)
    steps = 0
    for cause in told.causes:
        if cause.kind is CauseKind.UNDESIGNED and not cause.ticket:
            for port in cause.ports:
                it.pull(port)
                steps += 1
            continue
        steps += len(cause.moves) + len(cause.removes)
        carry_out(it, cause)
        if cause.kind is CauseKind.MISCABLED and len(cause.moves) <= 6:
            assert visits(cause) == fewest_visits(it.blueprint, cause, before), f"more visits than needed: {cause}"
    after = {frozenset(pair) for pair in it.plugged.items() if any(port.chassis not in it.more for port in pair)}
    assert after <= design, f"left over: {after - design}"
    wrong = before - design
    assert steps == len(wrong), f"{steps} steps for {len(wrong)} wrong cables"
    if 0 < len(wrong) <= 5:
        cost, filled = cheapest(before - design, design - before)
        assert (cost, filled) == (steps, len(after) - len(before & design)), (cost, filled)
    once = [cable for cause in told.causes for cable in cause.cables]
    assert len(once) == len(set(once)), "a cable in two causes"
    assert set(once) == {cable for cable, verdict in told.verdicts.items()}, "a cable in no cause"
    assert len({cause.key for cause in told.causes}) == len(told.causes)
    return Counter(fabrics=1, moves=steps, wrong=len(wrong))


def carry_out(it: World, cause: Cause) -> None:
    """As the technician would: cables to remove first, then plug by plug; a circle is taken out first."""
    for a, _ in cause.removes:
        it.pull(a)
    around = {move.now for move in cause.moves} == {move.then for move in cause.moves}
    if around or cause.kind in {CauseKind.EXCHANGED, CauseKind.HCA_ORDER}:
        for move in cause.moves:
            assert it.pull(move.now) == move.stays
        for move in cause.moves:
            it.plug(move.stays, move.then)
        return
    for move in cause.moves:
        it.move(move)


def cheapest(wrong: set[frozenset[Port]], lacking: set[frozenset[Port]]) -> tuple[int, int]:
    """By trying all: the least number of plugs moved (a cable taken out counts as one), and with it the most designed
    cables filled."""
    cables, places = sorted(wrong, key=sorted), [*sorted(lacking, key=sorted)]
    best = (len(cables) * 2 + 1, 0)

    def go(index: int, used: frozenset[int], cost: int, filled: int) -> None:
        nonlocal best
        if cost > best[0]:
            return
        if index == len(cables):
            if (cost, -filled) < (best[0], -best[1]):
                best = (cost, filled)
            return
        go(index + 1, used, cost + 1, filled)
        for number, place in enumerate(places):
            shared = len(cables[index] & place)
            if number not in used and shared:
                go(index + 1, used | {number}, cost + 2 - shared, filled + 1)

    go(0, frozenset(), 0, 0)
    return best


def visits(cause: Cause) -> int:
    plugs = {port for move in cause.moves for port in (move.now, move.then)}
    return len({port.chassis for port in plugs | {port for pair in cause.removes for port in pair}})


def fewest_visits(blueprint: Blueprint, cause: Cause, before: set[frozenset[Port]]) -> int:
    """By trying all ways to touch every wrong cable of the component once and fill as many designed ones."""
    inside = set(cause.ports)
    wrong = [tuple(sorted(cable)) for cable in before if cable <= inside and frozenset(cable) not in _pairs(blueprint)]
    choices: list[list[tuple[Port | None, set[str]]]] = []
    for a, b in wrong:
        ways: list[tuple[Port | None, set[str]]] = [(None, {a.chassis, b.chassis})]
        for stays, now in ((a, b), (b, a)):
            cable = blueprint.by_port.get(stays)
            if cable is not None:
                then = cable.b if cable.a == stays else cable.a
                ways.append((cable.a, {now.chassis, then.chassis}))
        choices.append(ways)
    best, most = 1 << 30, -1
    for way in itertools.product(*choices):
        filled = [place for place, _ in way if place is not None]
        if len(filled) != len(set(filled)):
            continue
        count = len(set[str]().union(*(names for _, names in way)))
        if len(filled) > most or (len(filled) == most and count < best):
            best, most = count, len(filled)
    return best


def _pairs(blueprint: Blueprint) -> set[frozenset[Port]]:
    return {frozenset(cable.ends) for cable in blueprint.cables}


def sound(rng: random.Random) -> Counter[str]:
    """With parts hidden: whatever is claimed is true of the real cabling."""
    it = broken(rng)
    nodes = sorted(it.nodes())
    share = rng.choice((0.0, 0.05, 0.2, 0.5, 0.9))
    hidden = {node for node in nodes if rng.random() < share}
    states, named = rng.random() < 0.6, rng.random() < 0.5
    monitor = rng.choice([node for node in nodes if node[1]]) if rng.random() < 0.5 else None
    told = diagnose(it.blueprint, it.snapshot(hidden, states=states, named=named, monitor=monitor))
    checked = true_of(it, told, all_asked=not hidden)
    if rng.random() < 0.4:
        second = {node for node in nodes if rng.random() < share}
        both = diagnose(
            it.blueprint,
            it.snapshot(hidden, states=states, named=named, monitor=monitor),
            [it.snapshot(second, states=rng.random() < 0.6, named=rng.random() < 0.5)],
        )
        checked += true_of(it, both, all_asked=not hidden)
        down = {cause.where[0] for cause in both.causes if cause.kind is CauseKind.SWITCH_DOWN and cause.confirmed}
        trunks = {other.chassis for name in down for other in _neighbours(it, name)} - down
        assert all(it.kind(name) is ChassisKind.HOST for name in trunks), f"confirmed down: {down}, linked to {trunks}"
    return Counter(partial=1, claims=checked)


def _neighbours(it: World, chassis: str) -> list[Port]:
    return [peer for port, peer in it.links().items() if port.chassis == chassis]


def true_of(it: World, told: Diagnosis, *, all_asked: bool) -> int:
    """How many claims there were; AssertionError for a false one."""
    links = it.links()
    claims = 0
    for cable in it.blueprint.cables:
        verdict = told.verdicts.get(cable, Verdict.OK)
        at_a, at_b = links.get(cable.a), links.get(cable.b)
        if verdict is Verdict.UNKNOWN:
            continue
        claims += 1
        if verdict is Verdict.OK:
            assert at_a == cable.b, f"{cable} is not ok"
        elif verdict is Verdict.WRONG:
            assert (at_a is not None and at_a != cable.b) or (at_b is not None and at_b != cable.a), (
                f"{cable} not wrong"
            )
        else:
            assert verdict is Verdict.ABSENT and at_a != cable.b, f"{cable} is not {verdict}"
    for cause in told.causes:
        claims += 1
        for move in cause.moves:
            assert links.get(move.stays) == move.now, f"{move} moves what is not there"
            assert it.blueprint.by_port[move.stays] is it.blueprint.by_port[move.then], f"{move} is not designed"
        for a, b in cause.removes:
            assert links.get(a) == b and frozenset((a, b)) not in _pairs(it.blueprint), f"{a} to {b} is no stranger"
        if cause.kind is CauseKind.NODE_DOWN and all_asked:
            assert not any(
                port in links for cable in cause.cables for port in cable.ends if port.chassis == cause.where[0]
            )
        assert all(told.verdicts.get(cable) not in {None, Verdict.UNKNOWN} for cable in cause.cables), cause
    return claims
