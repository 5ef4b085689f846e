"""What the columns of a point-to-point sheet mean: every integrator has words of his own, so by meaning, not by name.

Called by `point_to_point.py`. A header is a side and a thing: `Source Rack`, `A-Node Name`, `Z-Port`, `To Device`.
Where no side is said, side B begins where the first thing stands again: `Rack, U, Name, Port, Rack, U, Name, Port`.
The words are those of NVIDIA's cable validation tool, of structured cabling lists, and of NetBox and Nautobot tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ostler.fabric.designs.table import word

SIDES: Mapping[str, str] = {
    **dict.fromkeys(("a", "src", "source", "from", "start", "local", "near", "origin", "side a", "end a", "a side",
                     "a end", "near end", "point a", "left"), "a"),
    **dict.fromkeys(("b", "z", "dst", "dest", "destination", "to", "end", "remote", "far", "target", "peer", "neighbor",
                     "neighbour", "side b", "end b", "b side", "b end", "side z", "z side", "z end", "far end",
                     "point b", "right"), "b"),
}  # fmt: skip
THINGS: Mapping[str, str] = {
    **dict.fromkeys(("rack", "cabinet", "cab", "rack name", "rack no", "rack number", "rack id", "rack location",
                     "cabinet id", "cabinet name"), "rack"),
    **dict.fromkeys(("u", "ru", "unit", "rack unit", "u position", "position", "elevation", "u location", "u pos",
                     "rack u", "ru position", "u height", "starting u", "rack position"), "unit"),
    **dict.fromkeys(("name", "device", "hostname", "host", "host name", "node", "node name", "system", "equipment",
                     "switch", "server", "device name", "system name", "switch name", "server name", "equipment name",
                     "element", "asset name"), "name"),
    **dict.fromkeys(("port", "interface", "port name", "port number", "port no", "port id", "int", "termination",
                     "interface name", "switch port", "port label", "connector port", "device port"), "port"),
    **dict.fromkeys(("hca", "hca port", "nic", "nic port", "nic name", "hca name", "server port", "adapter",
                     "host port", "rdma device", "rdma name", "hca device"), "hca"),
    **dict.fromkeys(("site", "dc", "data center", "datacenter", "hall", "data hall", "room", "building"), "site"),
    **dict.fromkeys(("row", "aisle", "row name"), "row"),
    **dict.fromkeys(("model", "device type", "device model", "hw model", "platform", "sku"), "model"),
    **dict.fromkeys(("type", "kind", "node type", "device role"), "kind"),
}  # fmt: skip
CABLE_THINGS: Mapping[str, str] = {
    **dict.fromkeys(("serial", "serial number", "cable serial", "cable serial number", "cable sn", "cable s n", "sn",
                     "cable id", "cable label", "label", "cable number", "cable no", "cable"), "serial"),
    **dict.fromkeys(("length", "cable length", "length m", "cable length m", "len", "length in m"), "length"),
    **dict.fromkeys(("length unit", "unit of length"), "length unit"),
    **dict.fromkeys(("speed", "rate", "link speed", "bandwidth", "data rate"), "speed"),
    **dict.fromkeys(("rail", "rail number", "rail no", "rail id"), "rail"),
    **dict.fromkeys(("protocol", "link type", "network", "fabric type"), "protocol"),
}  # fmt: skip


@dataclass
class Columns:
    """Which column holds what: `a rack`, `b port`, `length`, … → index."""

    at: dict[str, int] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether both ends have a name and a port."""
        return all(self.has(side, "name") and (self.has(side, "port") or self.has(side, "hca")) for side in "ab")

    def has(self, side: str, thing: str) -> bool:
        return f"{side} {thing}" in self.at

    def understood(self) -> str:
        """For people: what was taken from where, and what was not."""
        taken = ", ".join(f"{key} from {title!r}" for key, title in self.titles.items())
        return f"columns: {taken}" + (f"; not used: {', '.join(map(repr, self.unused))}" if self.unused else "")


def columns_of(cells: Sequence[str], above: Sequence[str] = ()) -> Columns:
    """The meaning of a header row; `above` is the row over it, where sheets say the sides in merged cells."""
    found = Columns()
    meanings = [_meaning(cell) for cell in cells]
    group = _groups(cells, above)
    sided = [side or (group[index] if thing in THINGS.values() else "") for index, (side, thing) in enumerate(meanings)]
    if not any(sided):
        sided = _by_order(meanings)
    for index, ((_, thing), side, cell) in enumerate(zip(meanings, sided, cells, strict=True)):
        key = thing if thing in CABLE_THINGS.values() else f"{side} {thing}" if thing and side else ""
        if not cell:
            continue
        if not key or (key in found.at and thing != "name"):
            found.unused.append(cell[:40])
            continue
        found.at[key], found.titles[key] = index, cell[:40]  # of two names on one side the later: CVT's own sample
    return found


def _meaning(header: str) -> tuple[str, str]:
    """(side, thing); either may be empty. `Source Rack` → (a, rack); `Device A` → (a, name)."""
    text = word(header)
    if text in CABLE_THINGS:
        return "", CABLE_THINGS[text]
    if text in THINGS:
        return "", THINGS[text]
    words = text.split()
    for count in (2, 1):
        head, tail = " ".join(words[:count]), " ".join(words[count:])
        if head in SIDES and tail in THINGS:
            return SIDES[head], THINGS[tail]
        head, tail = " ".join(words[:-count]), " ".join(words[-count:])
        if tail in SIDES and head in THINGS:
            return SIDES[tail], THINGS[head]
    if words and words[-1] in {"1", "2"} and " ".join(words[:-1]) in THINGS:
        return "ab"[int(words[-1]) - 1], THINGS[" ".join(words[:-1])]
    return ("", "name") if text in SIDES else ("", "")


def _groups(cells: Sequence[str], above: Sequence[str]) -> list[str]:
    """The side that the row above gives each column: a heading holds until the next one."""
    sides: list[str] = []
    side = ""
    for index in range(len(cells)):
        heading = word(above[index]) if index < len(above) else ""
        if heading:
            side = next((SIDES[part] for part in (heading, *heading.split()) if part in SIDES), "")
        sides.append(side)
    return sides


def _by_order(meanings: Sequence[tuple[str, str]]) -> list[str]:
    """Sides by repetition: side B begins where the first thing of the row stands again."""
    order = [thing for _, thing in meanings]
    first = next((thing for thing in order if thing in {"site", "row", "rack", "unit", "name"}), "")
    places = [index for index, thing in enumerate(order) if thing == first and first]
    if len(places) < 2:
        return [""] * len(order)
    return ["a" if index < places[1] else "b" for index in range(len(order))]
