"""What is known of each port: linked to another, empty, silent, or not to be trusted. `compare.py` asks.

Empty is only what somebody said: the port's own node answered that there is no link, or its source lists links only,
the node answered, and nothing is known to hide a part of the fabric. A port whose node did not answer is silent. All
that contradicts itself is unsure: a link that is up and leads nowhere, two ends that name different neighbours, a GUID
that two nodes bear, two vantage points that disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

from ostler.fabric.model import ChassisKind, Port, Snapshot
from ostler.fabric.sweep import Physical, PortFacts, PortState, ProblemKind


class Said(Enum):
    """What is known of a port that is not known to be linked."""

    EMPTY = "empty"
    SILENT = "silent"
    UNSURE = "unsure"


_NOT_LINKED = frozenset((Physical.POLLING, Physical.SLEEP, Physical.DISABLED))
_TWICE = frozenset((ProblemKind.DUPLICATE_GUID, ProblemKind.DUPLICATE_PLACE))
_NO_PORTS: frozenset[Port] = frozenset()


def module(port: Port) -> str:
    """The part of a chassis that answers for this port: an HCA (`mlx5_0`) or a module (`L11/U1`); else empty."""
    return port.name.rpartition("/")[0]


class View:
    """One vantage point."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.links = snapshot.links
        self.unsure: frozenset[Port] | set[Port] = _NO_PORTS
        """Ports about whose links this source contradicts itself."""
        self._half: dict[Port, Port] = {}
        self._troubled = {problem.guid for problem in snapshot.problems if problem.hides and problem.guid is not None}
        self._blinded = snapshot.blinded
        self._heard: set[tuple[str, str]] | None = None
        self._linked: set[str] | None = None
        self._weigh()

    @property
    def blind(self) -> bool:
        """Whether it saw nothing but itself."""
        found = self.snapshot
        if any(problem.kind is ProblemKind.MONITOR_DOWN for problem in found.problems):
            return True
        answered = (chassis.name for chassis in found.chassis.values() if chassis.answered)
        return not found.links and all(name == found.monitor for name in answered)

    def _weigh(self) -> None:
        links = self.links
        torn: set[Port] = set()
        claims: dict[Port, set[Port]] = {}
        for port, peer in links.items():
            back = links.get(peer)
            if back == port:
                continue
            claims.setdefault(port, set()).add(peer)
            claims.setdefault(peer, set()).add(port)
            if back is not None:
                claims[peer].add(back)
                claims.setdefault(back, set()).add(peer)
        for port, others in claims.items():
            if len(others) > 1:
                torn.update((port, *others))
        for port, others in claims.items():
            if port not in torn and port not in links:
                self._half[port] = next(iter(others))
        twice = {problem.guid for problem in self.snapshot.problems if problem.kind in _TWICE and problem.hides}
        if twice:
            for port, end in self.snapshot.ends.items():
                if end.guid in twice:
                    torn.add(port)
                    if far := links.get(port) or self._half.get(port):
                        torn.add(far)
        self.unsure = torn

    def says(self, port: Port) -> Port | Said:
        """What this source knows of a port."""
        if port in self.unsure:
            return Said.UNSURE
        facts = self.snapshot.facts.get(port)
        peer = self.links.get(port) or self._half.get(port)
        if peer is not None:
            other = self.snapshot.facts.get(peer)
            if _down(facts) or _down(other):
                return Said.UNSURE
            return peer
        if not self.snapshot.answered(port.chassis):
            return Said.SILENT
        if facts is None:
            return self._unlisted(port)
        end = self.snapshot.ends.get(port)
        if end is not None and end.guid in self._troubled:
            return Said.UNSURE
        if facts.peer is not None:
            return Said.UNSURE  # it names a neighbour that names another one
        if _down(facts):
            return Said.EMPTY
        if facts.state is not PortState.UNKNOWN or facts.physical is not Physical.UNKNOWN:
            return Said.UNSURE
        if self.snapshot.states:
            return Said.SILENT
        return Said.UNSURE if self._blinded else Said.EMPTY

    def inferred(self, port: Port) -> bool:
        """Whether "empty" only means that no link was listed there."""
        return not _down(self.snapshot.facts.get(port))

    def _unlisted(self, port: Port) -> Said:
        """A source that lists only links says nothing of an HCA without one, but a switch answers for all its ports."""
        chassis = self.snapshot.chassis[port.chassis]
        if self.snapshot.states or chassis.kind is not ChassisKind.SWITCH:
            return Said.SILENT
        if self._heard is None:
            self._heard = {(known.chassis, module(known)) for known in self.snapshot.facts}
        if (port.chassis, module(port)) not in self._heard:
            return Said.SILENT
        if self._blinded or any(guid in self._troubled for guid in chassis.guids):
            return Said.UNSURE
        return Said.EMPTY

    def sees(self, chassis: str) -> bool:
        """Whether the chassis answered, or anybody is linked to it."""
        if self._linked is None:
            self._linked = {port.chassis for port in self.links}
        return self.snapshot.answered(chassis) or chassis in self._linked


class Evidence:
    """All vantage points together; the first one leads."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        every = [View(snapshot) for snapshot in snapshots]
        self.views = [view for view in every if not view.blind]
        self._known: dict[Port, Port | Said] = {}

    def says(self, port: Port) -> Port | Said:
        """What is known of a port; a link only where both its ends agree."""
        known = self._known.get(port)
        if known is None:
            known = self._together(port)
            if isinstance(known, Port) and self._together(known) != port:
                known = Said.UNSURE
            self._known[port] = known
        return known

    def _together(self, port: Port) -> Port | Said:
        said: Port | Said = Said.SILENT
        weak = False
        for view in self.views:
            more = view.says(port)
            if more is Said.SILENT or more == said:
                continue
            inferred = more is Said.EMPTY and view.inferred(port)
            if said is Said.SILENT:
                said, weak = more, inferred
            elif isinstance(said, Port) and inferred:
                continue  # a list of active links lacks one that has only just come up
            elif isinstance(more, Port) and weak and said is Said.EMPTY:
                return Said.UNSURE
            else:
                return Said.UNSURE
        return said

    def answered(self, chassis: str) -> bool:
        """Whether it answered anybody."""
        return any(view.snapshot.answered(chassis) for view in self.views)

    def disabled(self, port: Port) -> bool:
        """Whether somebody switched this port off."""
        return any(
            (facts := view.snapshot.facts.get(port)) is not None and facts.physical is Physical.DISABLED
            for view in self.views
        )

    def kind(self, chassis: str) -> ChassisKind | None:
        """Of a box that was seen."""
        for view in self.views:
            found = view.snapshot.chassis.get(chassis)
            if found is not None:
                return found.kind
        return None

    def links(self) -> Iterator[tuple[Port, Port]]:
        """Every link that anybody lists, each once per source or twice."""
        for view in self.views:
            yield from view.links.items()


def _down(facts: PortFacts | None) -> bool:
    if facts is None:
        return False
    if facts.state is PortState.UNKNOWN:
        return facts.physical in _NOT_LINKED
    return facts.state is PortState.DOWN
