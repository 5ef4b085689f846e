"""A small fabric, or one unit of a large one, with every cable as a line. Called by `fabric_drawing.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from markupsafe import escape

from ostler.console.fabric_scene import Scene
from ostler.console.fabric_svg import LETTER, Sheet, Spot, labels, path_of, shape
from ostler.console.fabric_tree import Tree
from ostler.console.queries import natural
from ostler.fabric.model import DesignedCable, Port, Verdict

WIDTH = 1060.0
_LEFT = 56.0
"""Of the drawing: where the rows are named."""
_BETWEEN = 118.0
_BOX = 24.0
_CELL = 11.0
Line = tuple[float, float]


def draw(scene: Scene, tree: Tree, cables: Sequence[DesignedCable], strays: Iterable[tuple[Port, Port]]) -> Sheet:
    """Cores, spines, leaves and hosts from top to bottom."""
    sheet = Sheet()
    rows = [
        ("cores", list(tree.cores)),
        ("spines", [name for pod in tree.pods for name in pod.spines]),
        ("leaves", [name for unit in tree.units for name in unit.leaves]),
    ]
    spots: dict[str, Spot] = {}
    y = 4.0
    for word, names in rows:
        if names:
            _row(sheet, scene, word, names, y, spots)
            y += _BOX + _BETWEEN
    ends: dict[Port, Line] = {}
    _hosts(sheet, scene, [host for unit in tree.units for host in unit.hosts], tree.plugs, y, spots, ends)
    _switch_ends(cables, tree.plugs, spots, ends)
    for cable in cables:
        verdict = scene.verdicts.get(cable, Verdict.OK)
        word = verdict.value if scene.designed else "ok"
        a, b = ends.get(cable.a), ends.get(cable.b)
        if a is None or b is None:
            continue
        told = f"{scene.names.port(cable.a)} to {scene.names.port(cable.b)}: {word if scene.designed else 'seen'}"
        sheet.line(word, (*a, *b), told, 1 if word == "ok" else 3)

    def at(port: Port) -> Line | None:
        spot = spots.get(port.chassis)
        return ends.get(port) or (None if spot is None else (spot.middle, spot.bottom))

    elsewhere(sheet, scene, cables, at, strays)
    return sheet


def elsewhere(
    sheet: Sheet,
    scene: Scene,
    cables: Iterable[DesignedCable],
    at: Callable[[Port], Line | None],
    strays: Iterable[tuple[Port, Port]],
) -> None:
    """Where the plugs of wrong cables are instead, and cables that nobody designed."""
    wrong = (cable for cable in cables if scene.verdicts.get(cable) is Verdict.WRONG)
    pairs = [(port, scene.seen(port)) for cable in wrong for port in cable.ends]
    told: set[frozenset[Port]] = set()
    for one, two in [*pairs, *strays]:
        if two is None or frozenset((one, two)) in told:
            continue
        told.add(frozenset((one, two)))
        a, b = at(one), at(two)
        if a is not None and b is not None and not _designed(scene, one, two):
            sheet.line("seen", (*a, *b), f"seen: {scene.names.port(one)} to {scene.names.port(two)}", 3)


def _designed(scene: Scene, one: Port, two: Port) -> bool:
    cable = None if scene.blueprint is None else scene.blueprint.by_port.get(one)
    return cable is not None and two in cable.ends


def _row(sheet: Sheet, scene: Scene, word: str, names: Sequence[str], y: float, spots: dict[str, Spot]) -> None:
    pitch = (WIDTH - _LEFT) / len(names)
    width = min(pitch - 3, 150.0)
    for index, (name, text) in enumerate(zip(names, labels(names, width - 2), strict=True)):
        spot = Spot(_LEFT + pitch * index + (pitch - width) / 2, y, width, _BOX)
        spots[name] = spot
        sheet.box(spot, kind(scene, name), f"{name}: {scene.told(name)}", path_of(scene.fabric, name), text)
    sheet.text(0, y + _BOX / 2 + 3, word, "row")


def kind(scene: Scene, name: str) -> str:
    """The class of a box: the worst cable that it may have to do with, and whether it answered."""
    return f"box w-{scene.colour(name)}{' silent' if name in scene.silent else ''}"


def _hosts(
    sheet: Sheet,
    scene: Scene,
    hosts: Sequence[str],
    plugs: Mapping[str, Sequence[Port]],
    y: float,
    spots: dict[str, Spot],
    ends: dict[Port, Line],
) -> None:
    """Strips of cells, one a port, with the host's name below."""
    total = sum(len(plugs[host]) for host in hosts) or 1
    gap = 8.0 if len(hosts) < 40 else 4.0
    pitch = min((WIDTH - _LEFT - gap * len(hosts)) / total, 15.0)
    x = _LEFT + (WIDTH - _LEFT - pitch * total - gap * len(hosts)) / 2
    longest = max((len(host) for host in hosts), default=0)
    upright = longest * LETTER > min((len(plugs[host]) for host in hosts), default=0) * pitch + gap - 2
    by_port = {} if scene.blueprint is None else scene.blueprint.by_port
    for host in hosts:
        width = pitch * len(plugs[host])
        spots[host] = Spot(x, y, width, _CELL)
        found: dict[str, list[str]] = defaultdict(list)
        for index, port in enumerate(plugs[host]):
            word = scene.verdicts.get(by_port[port], Verdict.OK).value
            at = x + index * pitch
            found[word].append(shape(word, at + 0.5, y + 1, pitch - 1, _CELL - 2))
            ends[port] = (at + pitch / 2, y)
        sheet.box(Spot(x - 1, y, width + 2, _CELL), "strip", f"{host}: {scene.told(host)}", path_of(scene.fabric, host))
        sheet.cells(3, found)
        if upright:
            middle, top = x + width / 2 + 3, y + _CELL + 6
            text = host if len(host) <= 18 else f"…{host[-17:]}"
            sheet.raw(3, _upright(middle, top, text))
            sheet.reach(x + width, top + len(text) * LETTER)
        else:
            sheet.text(x + width / 2, y + _CELL + 12, host)
            sheet.reach(x + width, y + _CELL + 14)
        x += width + gap
    sheet.text(0, y + _CELL - 1, "hosts", "row")
    sheet.reach(WIDTH, y + _CELL)


def _upright(x: float, y: float, text: str) -> str:
    return f'<text class="up" transform="translate({x:.1f} {y:.1f}) rotate(90)">{escape(text)}</text>'


def _switch_ends(
    cables: Sequence[DesignedCable],
    plugs: Mapping[str, Sequence[Port]],
    spots: Mapping[str, Spot],
    ends: dict[Port, Line],
) -> None:
    """Cables leave a switch in the order of where they go, so that they cross as little as can be."""
    sides: defaultdict[tuple[str, bool], list[tuple[float, Port]]] = defaultdict(list)
    for cable in cables:
        for near, far in ((cable.a, cable.b), (cable.b, cable.a)):
            own, other = spots.get(near.chassis), spots.get(far.chassis)
            if near.chassis not in plugs and own is not None and other is not None:
                sides[near.chassis, other.y < own.y].append((other.middle, near))
    for (name, up), found in sides.items():
        spot = spots[name]
        found.sort(key=lambda one: (one[0], natural(one[1].name)))
        for index, (_, port) in enumerate(found):
            ends[port] = (spot.x + spot.w * (index + 0.5) / len(found), spot.y if up else spot.bottom)
