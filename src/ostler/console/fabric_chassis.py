"""One host or switch of a fabric: its ports, what should be and what is plugged in there, its front panel.

Called by `fabric.py`; the table is `fabric_chassis.html`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from ostler.console.fabric_causes import CauseLine
from ostler.console.fabric_scene import Scene
from ostler.console.fabric_svg import shape
from ostler.console.model import Row
from ostler.console.queries import natural
from ostler.core.errors import NotFound
from ostler.db.tx import Tx
from ostler.fabric import hosts, store
from ostler.fabric.hosts import Host
from ostler.fabric.links.model import EventKind
from ostler.fabric.model import ChassisKind, Port, Verdict
from ostler.fabric.places.front_panel import Panel, panel
from ostler.fabric.sweep import guid_text

RECENT_S = 7 * 86_400.0
"""Link events that are told."""
_EMPTY, _UNDESIGNED, _SEEN = "empty", "undesigned", "seen"


@dataclass(frozen=True)
class PortLine:
    """One port."""

    port: Port
    label: str
    """What stands on the front panel where that is another name."""
    anchor: str
    """Its id on the page."""
    designed: Port | None
    seen: Port | None
    word: str
    """A verdict; `empty`, `undesigned`, or without a design `seen`."""
    rate: str
    state: str
    guid: str
    part: str
    """`known`, `replaced`, …; empty: never learnt."""
    events: Sequence[Row]
    causes: Sequence[CauseLine]
    serial: str
    """Of the cable, as designed or as its end says."""

    @property
    def downs(self) -> int:
        return sum(row["count"] for row in self.events if row["kind"] in (EventKind.DOWN, EventKind.FLAP))


@dataclass(frozen=True)
class ChassisPage:
    """What `fabric_chassis.html` shows."""

    name: str
    kind: str
    model: str
    place: str
    rack: str
    unit: int
    """The unit of the drawing that it is in; 0: none."""
    node: Host | None
    answered: bool | None
    """None: nobody has looked."""
    told: str
    lines: Sequence[PortLine]
    front: Markup
    causes: Sequence[CauseLine]
    guids: Sequence[tuple[str, str]]
    """Of a switch: GUID, and what is known of it."""
    empty: Sequence[str]
    """Labels of the ports that have no cable, designed or seen."""


def chassis(tx: Tx, scene: Scene, name: str, causes: Sequence[CauseLine]) -> ChassisPage:
    """Raises `NotFound` for a name that is neither designed nor seen."""
    blueprint, snapshot = scene.blueprint, scene.snapshot
    box = None if blueprint is None else blueprint.chassis.get(name)
    seen = None if snapshot is None else snapshot.chassis.get(name)
    if box is None and seen is None:
        raise NotFound(f"The fabric '{scene.fabric}' has no host or switch '{name[:80]}'.")
    kind = box.kind if box is not None else seen.kind if seen is not None else ChassisKind.OTHER
    model = scene.names.model(name)
    plugs = panel(model) if kind is ChassisKind.SWITCH else None
    events: defaultdict[str, list[Row]] = defaultdict(list)
    for row in store.events(tx, scene.fabric, tx.now - RECENT_S, chassis=name):
        events[row["port"]].append(dict(row))
    parts = {row["guid"]: row["state"] for row in store.parts(tx, scene.fabric, chassis=name)}
    mine = [one for one in causes if name in one.boxes]
    order = sorted(_ports(scene, name, plugs), key=lambda port: natural(port.name))
    lines = [_line(scene, port, index, events[port.name], parts, mine) for index, port in enumerate(order)]
    place = None if box is None else box.place
    node = hosts.of(tx, blueprint if scene.designed else None).by_chassis.get(name)
    return ChassisPage(
        name=name,
        kind=kind.value,
        model=model,
        place=scene.names.place(name),
        rack="/".join(part for part in (place.site, place.row, place.rack) if part) if place and place.rack else "",
        unit=next((one.number for one in scene.tree.units if name in one.hosts or name in one.leaves), 0),
        node=node if kind is ChassisKind.HOST else None,
        answered=None if scene.look is None else name not in scene.silent if box is not None else True,
        told=scene.told(name),
        lines=[line for line in lines if line.word != _EMPTY],
        front=front(lines, plugs) if kind is ChassisKind.SWITCH else Markup(""),
        causes=mine,
        guids=[(guid_text(guid), parts.get(guid_text(guid), "")) for guid in seen.guids]
        if seen is not None and kind is not ChassisKind.HOST
        else [],
        empty=[line.label or line.port.name for line in lines if line.word == _EMPTY],
    )


def _ports(scene: Scene, name: str, plugs: Panel | None) -> set[Port]:
    found = {Port(name, str(number + 1)) for number in range(plugs.ports)} if plugs else set()
    if scene.blueprint is not None:
        cables = scene.blueprint.by_chassis.get(name, ())
        found |= {port for cable in cables for port in cable.ends if port.chassis == name}
    if scene.snapshot is not None:
        for ports in (scene.snapshot.facts, scene.snapshot.links, scene.snapshot.ends):
            found |= {port for port in ports if port.chassis == name}
    return {port for port in found if port.name}


def _line(
    scene: Scene, port: Port, index: int, events: Sequence[Row], parts: Mapping[str, str], causes: Sequence[CauseLine]
) -> PortLine:
    cable = scene.blueprint.by_port.get(port) if scene.blueprint is not None and scene.designed else None
    peer = None if cable is None else cable.b if cable.a == port else cable.a
    seen, snapshot = scene.seen(port), scene.snapshot
    if cable is not None:
        word = scene.verdicts.get(cable, Verdict.OK).value
    else:
        word = _EMPTY if seen is None else _UNDESIGNED if scene.designed else _SEEN
    facts = None if snapshot is None else snapshot.facts.get(port)
    end = None if snapshot is None else snapshot.ends.get(port)
    module = None if snapshot is None else snapshot.modules.get(port)
    guid = "" if end is None else guid_text(end.guid)
    rate = (
        ""
        if facts is None
        else " ".join(part for part in (f"{facts.width}x" if facts.width else "", facts.speed) if part)
    )
    state = "" if facts is None else facts.state.value or facts.physical.value
    return PortLine(
        port=port,
        label=scene.names.label(port),
        anchor=f"p{index}",
        designed=peer,
        seen=seen,
        word=word,
        rate=rate,
        state=state,
        guid=guid,
        part=parts.get(guid, ""),
        events=events,
        causes=[one for one in causes if port in one.ports],
        serial=(cable.serial if cable is not None else "") or (module.serial if module is not None else ""),
    )


def front(lines: Sequence[PortLine], plugs: Panel | None) -> Markup:
    """A switch as it looks from the front: cages in two rows, numbered from the left, odd above even."""
    inside = 1 if plugs is None else plugs.per_cage * (plugs.split if plugs.is_split else 1)
    numbered = {int(line.port.name): line for line in lines if line.port.name.isascii() and line.port.name.isdigit()}
    if not numbered:
        return Markup("")
    cages = -(-max(numbered) // inside) if plugs is None else plugs.cages
    columns = (cages + 1) // 2
    pitch = min(62.0, 1040 / columns)
    width, height = pitch - 4, 26.0
    cell = (width - 2) / inside
    drawn: list[str] = []
    for cage in range(1, cages + 1):
        x = 2 + (cage - 1) // 2 * pitch
        y = 16.0 if cage % 2 else 46.0
        drawn.append(f'<rect class="cage" x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{height:g}"/>')
        drawn.append(f'<text x="{x + width / 2:.1f}" y="{11 if cage % 2 else 84}">{cage}</text>')
        for part in range(inside):
            line = numbered.get((cage - 1) * inside + part + 1)
            if line is None or line.word == _EMPTY:
                continue
            at = x + 1 + part * cell
            peer = line.seen or line.designed
            told = f"{line.label or line.port.name}: {line.word}" + (f", {peer}" if peer is not None else "")
            path = shape(line.word, at + 2, y + 5, cell - 4, height - 10)
            hit = f'<rect class="strip" x="{at:.1f}" y="{y + 1:g}" width="{cell:.1f}" height="{height - 2:g}"/>'
            drawn.append(
                f'<a href="#{line.anchor}"><title>{escape(told)}</title>{hit}'
                f'<path class="cell w-{line.word}" d="{path}"/></a>'
            )
    size = f"{columns * pitch + 2:.0f}"
    return Markup(  # noqa: S704 - made of numbers, fixed words and what `escape` gave
        f'<svg class="fabric front" viewBox="0 0 {size} 88" width="{size}" height="88" role="img" '
        f'aria-label="Front panel">{"".join(drawn)}</svg>'
    )
