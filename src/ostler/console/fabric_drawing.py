"""The drawing of a fabric, at three distances. Called by `fabric.py`.

Up to `LINES` cables every one is a line (`fabric_lines.py`). Beyond, a host is a strip with a cell for each port, its
leaves stand over the columns, trunks are bundled by pair of switches, and only what is not ok is a line. Beyond
`NAMED` hosts a strip has no name, trunks are bundled by unit, and a click on a unit shows that one with all its lines.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ostler.console.fabric_lines import WIDTH, elsewhere, kind
from ostler.console.fabric_lines import draw as draw_lines
from ostler.console.fabric_scene import Scene
from ostler.console.fabric_svg import Sheet, Spot, fit, labels, path_of, shape
from ostler.console.fabric_tree import Pod, Tree, Unit, part, worst
from ostler.core.errors import NotFound
from ostler.fabric.model import DesignedCable, Port, Role, Verdict

LINES = 600
NAMED = 640
STACK = 32
"""Hosts below each other in a unit; more stand beside them."""
MOST_LINES = 400
"""Lines of what is not ok; beyond, they would hide what they should show."""
_PAIRS = 4000
"""Pairs of switches whose bundles are drawn; beyond, they are one bundle a unit."""


_RANK = (Verdict.OK, Verdict.UNKNOWN, Verdict.DEGRADED, Verdict.ABSENT, Verdict.WRONG).index
"""A bundle is drawn as the best of its cables; what is worse lies on top of it."""


@dataclass(frozen=True)
class Drawing:
    """What `fabric.html` shows."""

    svg: Markup
    unit: Unit | None
    notes: Sequence[str]


def draw(scene: Scene, strays: Sequence[tuple[Port, Port]] = (), number: int | None = None) -> Drawing:
    """The whole fabric, or its unit of that number. Raises `NotFound` where there is none."""
    cables: Sequence[DesignedCable] = () if scene.blueprint is None else scene.blueprint.cables
    tree, unit = scene.tree, None
    if number is not None:
        found = part(tree, number)
        if found is None:
            raise NotFound(f"The fabric '{scene.fabric}' has no unit {number}; it has {len(tree.units)}.")
        tree, unit = found, found.units[0]
        inside = {*unit.hosts, *unit.leaves}
        cables = [cable for cable in cables if cable.a.chassis in inside or cable.b.chassis in inside]
    label = f"The fabric {scene.fabric}" + (f", unit {number}" if unit else "")
    if _fits_lines(tree, cables):
        return Drawing(draw_lines(scene, tree, cables, strays).svg(label), unit, ())
    panels = _Panels(scene, tree, named=tree.hosts <= NAMED)
    notes = panels.draw(cables, strays)
    return Drawing(panels.sheet.svg(label), unit, notes)


def _fits_lines(tree: Tree, cables: Sequence[DesignedCable]) -> bool:
    plugs = sum(len(tree.plugs[host]) for unit in tree.units for host in unit.hosts)
    leaves, spines = sum(len(unit.leaves) for unit in tree.units), sum(len(pod.spines) for pod in tree.pods)
    return len(cables) <= LINES and plugs <= 300 and max(leaves, spines, len(tree.cores)) <= 64


class _Panels:
    """Pods as panels: spines on top, units with their leaves and hosts below."""

    def __init__(self, scene: Scene, tree: Tree, *, named: bool) -> None:
        self.scene, self.tree, self.named = scene, tree, named
        self.sheet = Sheet()
        self._spots: dict[str, Spot] = {}
        self._ends: dict[Port, tuple[float, float]] = {}
        self._cell = 8.0 if named else 5.0
        self._pitch_y = 11.0 if named else 4.0
        self._name = 48.0 if named else 0.0
        self._gap = 12.0 if named else 8.0
        self._box = 17.0 if named else 8.0
        self._trunk = 92.0 if named else 30.0
        if named and len(tree.pods) == 1:
            self._spread(tree.pods[0])

    def _spread(self, pod: Pod) -> None:
        """Use the whole width where there are few units."""
        width, columns = self._pod_size(pod)
        cells = max((self._unit_size(unit)[1] * self._unit_size(unit)[2] for unit in pod.units), default=1)
        spare = (WIDTH - width) / columns / max(cells, 1)
        self._cell = max(self._cell, min(self._cell + spare, 16.0))
        self._gap += max(0.0, (WIDTH - self._pod_size(pod)[0]) / columns)

    def draw(self, cables: Sequence[DesignedCable], strays: Sequence[tuple[Port, Port]]) -> list[str]:
        """Returns what has to be said beside it."""
        y = self._cores()
        x = tallest = 0.0
        for number, pod in enumerate(self.tree.pods, 1):
            width, columns = self._pod_size(pod)
            if x and x + width > WIDTH + 1:
                x, y, tallest = 0.0, y + tallest + 14, 0.0
            tallest = max(tallest, self._pod(pod, number, x, y, width, columns))
            x += width + 14
        self._bundles()
        return self._not_ok(cables, strays)

    def _cores(self) -> float:
        cores = self.tree.cores
        if not cores:
            return 0.0
        self.sheet.text(0, 9, f"{len(cores)} cores", "row")
        self._switches(cores, Spot(0, 14, WIDTH, self._box))
        return 14 + self._box + (60 if self.named else 34)

    def _switches(self, names: Sequence[str], within: Spot) -> None:
        pitch = within.w / len(names)
        width = max(min(pitch - (2 if pitch > 8 else 1), 110.0), 1.5)
        texts = labels(names, width - 3) if width > 14 and self.named else [""] * len(names)
        for index, (name, text) in enumerate(zip(names, texts, strict=True)):
            self._switch(name, Spot(within.x + index * pitch + (pitch - width) / 2, within.y, width, within.h), text)

    def _switch(self, name: str, spot: Spot, text: str = "") -> None:
        self._spots[name] = spot
        scene = self.scene
        self.sheet.box(spot, kind(scene, name), f"{name}: {scene.told(name)}", path_of(scene.fabric, name), text)

    def _unit_size(self, unit: Unit) -> tuple[float, int, int]:
        """Width, cells of a host, hosts beside each other."""
        columns = max((len(self.tree.plugs[host]) for host in unit.hosts), default=1)
        stacks = max(1, -(-len(unit.hosts) // STACK))
        return max((self._name + columns * self._cell + 6) * stacks, 24.0), columns, stacks

    def _pod_size(self, pod: Pod) -> tuple[float, int]:
        """Width, and how many units stand beside each other."""
        widest = max(self._unit_size(unit)[0] for unit in pod.units) + self._gap
        columns = min(len(pod.units), max(1, int((WIDTH - 16) // widest)))
        return max(columns * widest + 16, min(len(pod.spines) * 3.0 + 16, WIDTH)), columns

    def _pod(self, pod: Pod, number: int, x: float, y: float, width: float, columns: int) -> float:
        hosts = sum(len(unit.hosts) for unit in pod.units)
        head = f"{len(pod.spines)} spines, {hosts} hosts"
        title = f"pod {number}: {head}" if len(self.tree.pods) > 1 else head
        self.sheet.text(x + 8, y + 14, fit(title, width - 12), "row")
        inner = width - 16
        top = y + 21
        if pod.spines:
            self._switches(pod.spines, Spot(x + 8, top, inner, self._box))
            top += self._box + self._trunk
        tall = 0.0
        step = inner / columns
        for index, unit in enumerate(pod.units):
            if index and index % columns == 0:
                top, tall = top + tall + 12, 0.0
            tall = max(tall, self._unit(unit, x + 8 + step * (index % columns) + self._gap / 2, top))
        height = top + tall - y + 6
        self.sheet.raw(0, f'<rect class="pod" x="{x:.1f}" y="{y + 2:.1f}" width="{width:.1f}" height="{height:.1f}"/>')
        self.sheet.reach(x + width, y + height + 2)
        return height + 2

    def _unit(self, unit: Unit, x: float, y: float) -> float:
        """A unit's leaves over the columns of its hosts' cells. Returns its height."""
        width, columns, stacks = self._unit_size(unit)
        per_stack = width / stacks
        left = self._name if stacks == 1 else 0.0
        pitch = (columns * self._cell if stacks == 1 else width - 6) / max(len(unit.leaves), 1)
        for index, leaf in enumerate(unit.leaves):
            rail = self.tree.rails.get(leaf, "")
            text = rail if self.named and len(rail) * 5 <= pitch else ""
            self._switch(leaf, Spot(x + left + index * pitch, y, max(pitch - 1, 1), self._box), text)
        top = y + self._box + 4
        found: dict[str, list[str]] = defaultdict(list)
        rows = min(len(unit.hosts), STACK)
        for index, host in enumerate(unit.hosts):
            self._host(host, x + per_stack * (index // STACK), top + self._pitch_y * (index % STACK), columns, found)
        self.sheet.cells(3, found)
        bottom = top + rows * self._pitch_y
        text = fit(unit.name, width + self._gap - 4) if self.named else str(unit.number)
        bad = Counter(word for host in unit.hosts for word in self.scene.bad.get(host, ()))
        told = f"unit {unit.number}, {unit.name}: {len(unit.hosts)} hosts" + "".join(
            f", {count} with {word}" for word, count in sorted(bad.items())
        )
        self.sheet.box(
            Spot(x, bottom + 2, width, 12), "unit", told, f"{path_of(self.scene.fabric)}?unit={unit.number}", text
        )
        return bottom + 14 - y

    def _host(self, host: str, x: float, y: float, columns: int, found: dict[str, list[str]]) -> None:
        scene, cell, height = self.scene, self._cell, self._pitch_y - (2 if self.named else 1)
        by_port = {} if scene.blueprint is None else scene.blueprint.by_port
        bad = scene.bad.get(host)
        for index, port in enumerate(self.tree.plugs[host]):
            word = "ok" if not bad else scene.verdicts.get(by_port[port], Verdict.OK).value
            at = x + self._name + index * cell
            found[word].append(shape(word, at, y, cell - 1, height))
            self._ends[port] = (at + cell / 2 - 0.5, y + height / 2)
        spot = Spot(x, y, self._name + columns * cell, height)
        title = f"{host}: {scene.told(host)}"
        self.sheet.box(spot, "strip", title, path_of(scene.fabric, host))
        if self.named:
            text = fit(host, self._name - 2, 5.2)
            self.sheet.text(x + self._name - 4, y + height - 0.5, text, "host bad" if bad else "host")

    def _bundles(self) -> None:
        """Healthy trunks, faint: by pair of switches while there are not too many, else by unit."""
        cables = self.scene.blueprint.cables if self.scene.blueprint and self.named else ()
        pairs: defaultdict[tuple[str, str], set[Verdict]] = defaultdict(set)
        for cable in cables:
            if cable.role is Role.TRUNK:
                verdict = self.scene.verdicts.get(cable, Verdict.OK)
                pairs[cable.a.chassis, cable.b.chassis].add(verdict)
        if self.named and len(pairs) <= _PAIRS:
            for word in (Verdict.OK, Verdict.UNKNOWN):  # others have lines of their own
                lines = [self._between(*pair) for pair, found in sorted(pairs.items()) if min(found, key=_RANK) is word]
                if lines:
                    self.sheet.raw(1, f'<path class="bundle w-{word.value}" d="{"".join(lines)}"/>')
            return
        for pod in self.tree.pods:
            if pod.spines:
                self._fan(pod)

    def _fan(self, pod: Pod) -> None:
        first, last = self._spots[pod.spines[0]], self._spots[pod.spines[-1]]
        high, low = first.bottom + 2, first.bottom + self._trunk - 2
        inside = {*pod.spines}
        cables = {} if self.scene.blueprint is None else self.scene.blueprint.by_chassis
        for unit in pod.units:
            if not unit.leaves or self._spots[unit.leaves[0]].y > low + 4:
                continue
            found: Counter[str] = Counter()
            for leaf in unit.leaves:
                for cable in cables.get(leaf, ()):
                    if cable.a.chassis in inside or cable.b.chassis in inside:
                        found[self.scene.verdicts.get(cable, Verdict.OK).value] += 1
            left, right = self._spots[unit.leaves[0]].x, self._spots[unit.leaves[-1]]
            words = ", ".join(f"{count} {word}" for word, count in sorted(found.items()))
            title = f"unit {unit.number} to its spines: {sum(found.values())} cables: {words}"
            edge = f"M{left:.0f} {low:.0f}H{right.x + right.w:.0f}L{last.x + last.w:.0f} {high:.0f}H{first.x:.0f}z"
            self.sheet.raw(
                1, f'<path class="fan w-{worst(found)}" d="{edge}"><title>{Markup.escape(title)}</title></path>'
            )

    def _between(self, one: str, two: str) -> str:
        a, b = self._spots.get(one), self._spots.get(two)
        if a is None or b is None:
            return ""
        high, low = (a, b) if a.y < b.y else (b, a)
        return f"M{low.middle:.0f} {low.y:.0f}L{high.middle:.0f} {high.bottom:.0f}"

    def _not_ok(self, cables: Sequence[DesignedCable], strays: Iterable[tuple[Port, Port]]) -> list[str]:
        """Lines on top, the worst first."""
        order = (Verdict.WRONG, Verdict.ABSENT, Verdict.DEGRADED, Verdict.UNKNOWN)
        by_word: dict[Verdict, list[DesignedCable]] = {word: [] for word in order}
        for cable, verdict in self.scene.verdicts.items():
            # A cable at a host that nobody saw is a cell; a line adds nothing to it.
            if verdict is not Verdict.UNKNOWN or cable.role is Role.TRUNK:
                by_word[verdict].append(cable)
        if len(by_word[Verdict.UNKNOWN]) > MOST_LINES:
            by_word[Verdict.UNKNOWN] = []  # so much was hidden: lines would hide the rest, the boxes say it
        rows = [(cable, word) for word in order for cable in by_word[word]]
        shown = rows[:MOST_LINES]
        for cable, word in shown:
            a, b = self._end(cable.a, cable.b), self._end(cable.b, cable.a)
            if a is not None and b is not None:
                told = f"{self.scene.names.port(cable.a)} to {self.scene.names.port(cable.b)}: {word.value}"
                cell = cable.a in self._ends or cable.b in self._ends
                self.sheet.line(word.value, (*a, *b), told, 3, sign=not cell)
        elsewhere(self.sheet, self.scene, [cable for cable, _ in shown], self._at, strays)
        if len(rows) > len(shown):
            return [f"The first {len(shown)} of {len(rows)} are drawn as lines; cells and boxes show all of them."]
        return []

    def _end(self, port: Port, other: Port) -> tuple[float, float] | None:
        """Where a line begins: the host's cell, or the side of the switch that faces the other end."""
        if (cell := self._ends.get(port)) is not None:
            return cell
        own, far = self._spots.get(port.chassis), self._spots.get(other.chassis)
        if own is None:
            return None
        up = far is not None and far.y < own.y
        return own.middle, own.y if up else own.bottom

    def _at(self, port: Port) -> tuple[float, float] | None:
        """Where a plug is: the host's cell, or below the switch."""
        spot = self._spots.get(port.chassis)
        return self._ends.get(port) or (None if spot is None else (spot.middle, spot.bottom))
