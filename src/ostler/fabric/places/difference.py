"""What changed from one snapshot to the next: one line per thing that somebody did, for `ostler fabric diff`.

Links that went and links that came, drawn on the same ports, fall into paths and rings in which they alternate, since
no port is in two links of one snapshot. A link that went and one that came at the same port are one plug that moved; a
ring of four is two plugs that were exchanged. What is not covered in one of both snapshots is unknown, neither gone nor
come. A part that is called otherwise now takes its cables along: its GUID tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from ostler.fabric.model import ChassisKind, Port, Snapshot
from ostler.fabric.places import front_panel
from ostler.fabric.sweep import End, PortFacts, PortState, guid_text


class ChangeKind(StrEnum):
    CHASSIS_GONE = "chassis-gone"
    CHASSIS_COME = "chassis-come"
    RENAMED = "renamed"
    REPLACED = "part-replaced"
    MOVED = "plug-moved"
    EXCHANGED = "plugs-exchanged"
    GONE = "cable-gone"
    COME = "cable-come"
    SPEED = "speed"
    WIDTH = "width"
    UNKNOWN = "unknown"
    """Not covered in one of both."""


class Change(NamedTuple):
    """One thing that is otherwise now."""

    kind: ChangeKind
    ports: tuple[Port, ...]
    message: str


Cable = tuple[Port, Port]

CHASSIS_TOLD = 20
"""So many chassis without coverage are named one by one; of more, their number is told."""


def difference(before: Snapshot, after: Snapshot) -> list[Change]:
    """What changed, what matters most first; within a kind by port. Empty: nothing that both cover has changed."""
    work = _Work(before, after)
    work.parts()
    work.cables()
    work.rates()
    work.silence()
    order = {kind: at for at, kind in enumerate(ChangeKind)}
    return sorted(work.changes, key=lambda change: (order[change.kind], change.ports, change.message))


class _Work:
    def __init__(self, before: Snapshot, after: Snapshot) -> None:
        self._before, self._after = before, after
        self._then, self._now = _Cover(before), _Cover(after)
        self._names: dict[Port, Port] = {}
        """Place then → place now, of parts that are called otherwise now."""
        self._silent: dict[tuple[str, bool], list[Cable]] = {}
        """(chassis, whether it was not covered in the second) → its cables of which nothing can be said."""
        self.changes: list[Change] = []

    # ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────

    def parts(self) -> None:
        """Parts with another GUID in their place, and parts in another place."""
        place_now: dict[End, Port] = {end: port for port, end in self._after.ends.items()}
        then, now = self._before.ends, self._after.ends
        seen_then = {end.guid for end in then.values()}
        seen_now = {end.guid for end in now.values()}
        renamed: dict[tuple[str, str, int], list[Port]] = {}
        replaced: dict[tuple[int, int], list[Port]] = {}
        for port, end in then.items():
            here = now.get(port)
            if here is not None and here.guid == end.guid:
                continue
            there = place_now.get(end)
            if there is not None and there != port:
                self._names[port] = there
                renamed.setdefault((port.chassis, there.chassis, end.guid), []).append(there)
            elif here is not None and end.guid not in seen_now and here.guid not in seen_then:
                replaced.setdefault((end.guid, here.guid), []).append(port)
        for (old, new, guid), ports in renamed.items():
            what = f"{old} is called {new} now" if old != new else f"a part of {new} is called otherwise now"
            self._add(ChangeKind.RENAMED, ports, f"{what}, or a part went there: {guid_text(guid)}")
        for (was, found), ports in replaced.items():
            where = self._label(ports[0]) if len(ports) == 1 else ports[0].chassis
            self._add(ChangeKind.REPLACED, ports, f"{where}: {guid_text(was)} was replaced by {guid_text(found)}")

    # ── cables ──────────────────────────────────────────────────────────────────────────────────────────────────

    def cables(self) -> None:
        """Links that went and came, by the component they are in."""
        rename = self._names
        then = self._before.links
        if rename:
            then = {rename.get(port, port): rename.get(peer, peer) for port, peer in then.items()}
        now = self._after.links
        went = {port: peer for port, peer in then.items() if now.get(port) != peer}
        came = {port: peer for port, peer in now.items() if then.get(port) != peer}
        lost: list[Cable] = []
        new: list[Cable] = []
        for component in _components(went, came):
            self._component(component, lost, new)
        self._single(lost, self._now, self._after, ChangeKind.GONE, ChangeKind.CHASSIS_GONE)
        self._single(new, self._then, self._before, ChangeKind.COME, ChangeKind.CHASSIS_COME)

    def _component(self, links: list[_Link], lost: list[Cable], new: list[Cable]) -> None:
        """One path or ring: as many plugs moved as there are links that went next to one that came."""
        if len(links) == 4 and links[3].there == links[0].here:
            pairs = ((links[0].here, links[2].here), (links[0].there, links[2].there))
            one, two = min(pairs, key=lambda pair: (len({port.chassis for port in pair}), sorted(pair)))
            self._add(
                ChangeKind.EXCHANGED,
                (one, two),
                f"the plugs in {self._label(one)} and {self._label(two)} were exchanged",
            )
            return
        moves = min((_moves(links), _moves([link.turned() for link in reversed(links)])), key=_effort)
        for stays, was, now in moves:
            self._add(
                ChangeKind.MOVED,
                (stays, was, now),
                f"the plug in {self._label(was)} moved to {self._label(now)}; its other end stays in "
                f"{self._label(stays)}",
            )
        left = {frozenset((stays, was)) for stays, was, _ in moves}
        left |= {frozenset((stays, now)) for stays, _, now in moves}
        for link in links:
            if frozenset((link.here, link.there)) not in left:
                (lost if link.went else new).append(min((link.here, link.there), (link.there, link.here)))

    def _single(
        self, cables: Iterable[Cable], other: _Cover, seen: Snapshot, kind: ChangeKind, of_chassis: ChangeKind
    ) -> None:
        """Cables that one snapshot has and the other does not, folded by chassis that the other has not at all."""
        absent: dict[str, list[Cable]] = {}
        for cable in cables:
            a, b = cable
            away = [port for port in cable if port.chassis not in seen.chassis]
            if not other.empty(a) and not other.empty(b):
                quiet = away[0] if away else next((port for port in cable if not other.heard(port)), a)
                self._silent.setdefault((quiet.chassis, other is self._now), []).append(cable)
            elif away:
                absent.setdefault(away[0].chassis, []).append(cable)
            else:
                words = "are connected no more" if kind is ChangeKind.GONE else "are connected now"
                self._add(kind, cable, f"{self._label(a)} and {self._label(b)} {words}")
        for chassis, those in absent.items():
            words = "is not there any more" if kind is ChangeKind.GONE else "is new"
            count = f"{len(those)} cable{'' if len(those) == 1 else 's'}"
            self._add(of_chassis, [port for cable in those for port in cable], f"{chassis} {words}, with {count}")

    # ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────

    def rates(self) -> None:
        """Links in both, at another speed or width."""
        rename, then, now = self._names, self._before, self._after
        for port, peer in then.links.items():
            if peer < port:
                continue
            a, b = (rename.get(port, port), rename.get(peer, peer)) if rename else (port, peer)
            if now.links.get(a) != b:
                continue
            old, new = _rate(then.facts.get(port), then.facts.get(peer)), _rate(now.facts.get(a), now.facts.get(b))
            if old == new:
                continue
            where = f"{self._label(a)} and {self._label(b)}"
            if old[0] and new[0] and old[0] != new[0]:
                self._add(ChangeKind.WIDTH, (a, b), f"{where} had {old[0]} lanes, now {new[0]}")
            if old[1] and new[1] and old[1] != new[1]:
                self._add(ChangeKind.SPEED, (a, b), f"{where} ran at {old[1]}, now at {new[1]}")

    def silence(self) -> None:
        """What one of both does not cover."""
        for late in (False, True):
            which = "second" if late else "first"
            groups = {chassis: cables for (chassis, when), cables in self._silent.items() if when is late}
            if len(groups) > CHASSIS_TOLD:
                count = sum(map(len, groups.values()))
                ports = [port for cables in groups.values() for cable in cables for port in cable]
                text = (
                    f"{len(groups)} chassis are not covered in the {which} snapshot: of {count} cables nothing is known"
                )
                self._add(ChangeKind.UNKNOWN, ports, text)
                continue
            for chassis, cables in groups.items():
                names = ", ".join(self._label(port) for port in sorted({p for c in cables for p in c})[:4])
                more = ", …" if len(cables) > 2 else ""
                text = f"{chassis} is not covered in the {which} snapshot, so {names}{more} are not known"
                self._add(ChangeKind.UNKNOWN, [port for cable in cables for port in cable], text)

    def _add(self, kind: ChangeKind, ports: Iterable[Port], message: str) -> None:
        self.changes.append(Change(kind, tuple(ports), message))

    def _label(self, port: Port) -> str:
        for snapshot in (self._after, self._before):
            if (chassis := snapshot.chassis.get(port.chassis)) is not None and chassis.model:
                shown = front_panel.label(chassis.model, port)
                return str(port) if shown == port.name else f"{port} ({shown})"
        return str(port)


class _Cover:
    """What one snapshot can say of ports that are not linked in it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._modules: set[tuple[str, str]] | None = None

    def heard(self, port: Port) -> bool:
        """Whether the part that has this port answered."""
        if self._modules is None:
            self._modules = {(one.chassis, one.name.rpartition("/")[0]) for one in self._snapshot.facts}
        if port in self._snapshot.facts:
            return self._snapshot.answered(port.chassis)
        chassis = self._snapshot.chassis.get(port.chassis)
        if chassis is None or not chassis.answered or chassis.kind is not ChassisKind.SWITCH:
            return False
        return (port.chassis, port.name.rpartition("/")[0]) in self._modules

    def empty(self, port: Port) -> bool:
        """Whether it is known to have no link."""
        if port in self._snapshot.links:
            return False
        facts = self._snapshot.facts.get(port)
        if facts is not None and facts.state is PortState.DOWN:
            return self._snapshot.answered(port.chassis)
        if self._snapshot.states or self._snapshot.blinded or (facts is not None and facts.peer is not None):
            return False
        return self.heard(port)


def _rate(near: PortFacts | None, far: PortFacts | None) -> tuple[int, str]:
    """Lanes and speed of a link, as either end says; the fewest lanes."""
    widths = [facts.width for facts in (near, far) if facts is not None and facts.width]
    speed = (near.speed if near is not None else "") or (far.speed if far is not None else "")
    return (min(widths) if widths else 0), speed


class _Link(NamedTuple):
    """A link of one snapshot only, as it is walked along."""

    here: Port
    there: Port
    went: bool

    def turned(self) -> _Link:
        return _Link(self.there, self.here, self.went)


Moved = tuple[Port, Port, Port]
"""Where the cable's other end stays, where the plug was, where it is now."""


def _components(went: Mapping[Port, Port], came: Mapping[Port, Port]) -> Iterator[list[_Link]]:
    """Paths and rings of alternating links, in order. Paths from one of their ends; rings from a link that went."""
    done: set[Port] = set()
    ends = [port for port in went if port not in came] + [port for port in came if port not in went]
    for start in (*ends, *went):
        if start in done:
            continue
        done.add(start)
        links: list[_Link] = []
        port, use, other = (start, went, came) if start in went else (start, came, went)
        while (peer := use.get(port)) is not None:
            links.append(_Link(port, peer, use is went))
            if peer in done:
                break
            done.add(peer)
            port, use, other = peer, other, use
        yield links


def _moves(links: list[_Link]) -> list[Moved]:
    """Each link that went with the one behind it, which came at the port where its other end stays."""
    ring = len(links) > 2 and links[-1].there == links[0].here
    behind = links[1:] + (links[:1] if ring else [])
    return [(old.there, old.here, new.there) for old, new in zip(links, behind, strict=False) if old.went]


def _effort(moves: list[Moved]) -> tuple[int, int, list[Moved]]:
    """Most moves found, in the fewest chassis."""
    return -len(moves), len({port.chassis for _, was, now in moves for port in (was, now)}), sorted(moves)
