"""The rail-optimised fat tree, from a few numbers: what most GPU fabrics are, so that nobody has to write 49,152 rows.

The `fat_tree:` part of a YAML blueprint calls it, and whoever needs a fabric of a size: the simulated fabric of the
tests, the benches and the demo.

Rail-optimised: HCA *n* of every host goes to the leaf of rail *n* of its unit, on the same port number on every rail
(NVIDIA DGX SuperPOD reference architecture: scalable units of 32 hosts, eight leaves each). Over the leaves stand
spines (two tiers), or per pod spines and over the pods cores (three). Every pair of switches that is connected has the
same number of cables as its peers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ostler.core.errors import BadInput
from ostler.fabric.model import Blueprint, ChassisKind, DesignedCable, DesignedChassis, Place, Port, Role
from ostler.fabric.sweep import SPEEDS

HOSTS_MOST = 65_536
"""Beyond any subnet: 49,151 unicast LIDs. A bound on what a hostile file can make us build."""
RACK_UNITS = 40


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a tree, worked out and checked."""

    hosts: int
    rails: int
    ports: int
    tiers: int
    per_unit: int
    """Hosts of a unit: what a leaf has below it."""
    units: int
    per_pod: int
    """Units of a pod; with two tiers, all of them."""
    pods: int
    spines: int
    """Of a pod."""
    trunks: int
    """Cables between a leaf and a spine."""
    planes: int
    """Cores over the spines of one number: spine 3 of every pod meets its peers there. 0 with two tiers."""
    core_trunks: int

    @property
    def switches(self) -> int:
        return self.units * self.rails + self.pods * self.spines + self.spines * self.planes


def fat_tree(
    hosts: int,
    rails: int = 8,
    *,
    name: str = "fabric",
    leaf_ports: int = 64,
    tiers: int = 0,
    hosts_per_unit: int = 0,
    units_per_pod: int = 0,
    spines: int = 0,
    trunks: int = 0,
    switch_model: str = "MQM9700",
    host_model: str = "",
    host_name: str = "gpu-####",
    hcas: Sequence[str] = (),
    site: str = "",
    hosts_per_rack: int = 4,
    width: int = 0,
    speed: str = "",
) -> Blueprint:
    """Build it.

    hosts, rails: how many hosts, and how many HCAs of each are in the fabric.
    leaf_ports: of every switch; half of them are for hosts unless `hosts_per_unit` says otherwise.
    tiers: 2 or 3; 0: two while every spine can see every leaf.
    units_per_pod: with three tiers; 0: as many as fill the lower half of a spine.
    spines: of a pod (two tiers: of the fabric); 0: the fewest that take all uplinks evenly.
    trunks: cables between a leaf and a spine; 0: all uplinks, divided evenly.
    host_name: `#` are replaced by the number, from 1. hcas: their device names by rail; empty: `mlx5_0`, `mlx5_1`, …
    width, speed: what every cable must run with; 0 and empty: as fast as both ends can.
    BadInput where the numbers make no tree.
    """
    shape = shape_of(hosts, rails, leaf_ports, tiers, hosts_per_unit, units_per_pod, spines, trunks)
    devices = tuple(hcas) or tuple(f"mlx5_{rail}" for rail in range(rails))
    if len(devices) != rails or len(set(devices)) != rails:
        raise BadInput(f"fat tree: hcas must name {rails} different devices, one a rail; {len(devices)} are named")
    if "#" not in host_name or not 1 <= hosts_per_rack <= RACK_UNITS:
        raise BadInput(f"fat tree: host_name needs a # for the number, hosts_per_rack is 1 to {RACK_UNITS}")
    if speed and speed not in SPEEDS:
        raise BadInput(f"fat tree: speed {speed!r} is not known; one of {', '.join(SPEEDS)}")
    tree = _Tree(shape, width, speed)
    tree.hosts(host_name, host_model, devices, site, hosts_per_rack)
    tree.switches(switch_model, site)
    tree.trunks()
    return Blueprint(name, "fat-tree", tree.chassis, tuple(tree.cables))


def shape_of(
    hosts: int,
    rails: int,
    leaf_ports: int = 64,
    tiers: int = 0,
    hosts_per_unit: int = 0,
    units_per_pod: int = 0,
    spines: int = 0,
    trunks: int = 0,
) -> Shape:
    """Work out what the caller left open; BadInput where it cannot be built."""
    if not 1 <= hosts <= HOSTS_MOST or not 1 <= rails <= 64 or not 2 <= leaf_ports <= 254:
        raise BadInput(f"fat tree: hosts is 1 to {HOSTS_MOST}, rails 1 to 64, leaf_ports 2 to 254")
    if tiers not in {0, 2, 3} or min(hosts_per_unit, units_per_pod, spines, trunks) < 0:
        raise BadInput("fat tree: tiers is 2 or 3 (0: as needed), and no number may be below 0")
    per_unit = hosts_per_unit or leaf_ports // 2
    if per_unit >= leaf_ports:
        raise BadInput(f"fat tree: {per_unit} hosts on a leaf of {leaf_ports} ports leave no port for a spine")
    units = -(-hosts // per_unit)
    leaves = units * rails
    tiers = tiers or (2 if leaves <= leaf_ports else 3)
    per_pod, below = units, leaf_ports
    if tiers == 3:
        below = leaf_ports // 2
        per_pod = min(units_per_pod or max(below // rails, 1), units)
    pods = -(-units // per_pod)
    uplinks = leaf_ports - per_unit
    spines, trunks = _spread(uplinks, per_pod * rails, below, spines, trunks, "spines")
    planes = core_trunks = 0
    if tiers == 3:
        planes, core_trunks = _spread(leaf_ports - below, pods, leaf_ports, 0, 0, "cores")
    return Shape(hosts, rails, leaf_ports, tiers, per_unit, units, per_pod, pods, spines, trunks, planes, core_trunks)


def _spread(uplinks: int, lower: int, ports: int, upper: int, trunks: int, word: str) -> tuple[int, int]:
    """How many switches stand above `lower` ones with `uplinks` each, and how many cables a pair has."""
    if trunks and not upper:
        upper = uplinks // trunks
    if not upper:
        upper = next((n for n in range(1, uplinks + 1) if uplinks % n == 0 and lower * (uplinks // n) <= ports), 0)
    trunks = trunks or (uplinks // upper if upper else 0)
    if not upper or not trunks or upper * trunks > uplinks or lower * trunks > ports:
        raise BadInput(
            f"fat tree: {lower} switches with {uplinks} uplinks each do not fit under {word} of {ports} ports "
            f"({upper} of them, {trunks} cables a pair); change spines, trunks, units_per_pod or tiers"
        )
    return upper, trunks


class _Tree:
    """A tree while it grows."""

    def __init__(self, shape: Shape, width: int, speed: str) -> None:
        self.shape = shape
        self.chassis: dict[str, DesignedChassis] = {}
        self.cables: list[DesignedCable] = []
        self._width, self._speed = width, speed
        self._numbers = [str(n) for n in range(shape.ports + 1)]
        s = shape
        unit_digits, pod_digits = _digits(s.units), _digits(s.pods)
        spine_digits, core_digits = _digits(s.spines), _digits(s.spines * s.planes)
        self.leaves = [
            [f"leaf-r{rail}-{unit + 1:0{unit_digits}d}" for rail in range(s.rails)] for unit in range(s.units)
        ]
        pod_names = [f"p{pod + 1:0{pod_digits}d}-" if s.tiers == 3 else "" for pod in range(s.pods)]
        self.spines = [[f"spine-{pod}{n + 1:0{spine_digits}d}" for n in range(s.spines)] for pod in pod_names]
        self.cores = [
            [f"core-{spine * s.planes + n + 1:0{core_digits}d}" for n in range(s.planes)] for spine in range(s.spines)
        ]

    def hosts(self, pattern: str, model: str, devices: Sequence[str], site: str, per_rack: int) -> None:
        """The hosts and their cables: host *n* of a unit on port *n* of all its leaves."""
        before, hashes, after = _pattern(pattern)
        height = RACK_UNITS // per_rack
        for index in range(self.shape.hosts):
            unit, seat = divmod(index, self.shape.per_unit)
            name = f"{before}{index + 1:0{hashes}d}{after}"
            rack, slot = divmod(seat, per_rack)
            place = Place(site, f"{unit + 1:02d}", f"{unit + 1:02d}-{rack + 1:02d}", f"U{1 + slot * height}")
            self.chassis[name] = DesignedChassis(name, ChassisKind.HOST, model, place)
            seat_port = self._numbers[seat + 1]
            for rail, device in enumerate(devices):
                leaf = Port(self.leaves[unit][rail], seat_port)
                self._cable(Port(name, device), leaf, Role.HOST, str(rail))

    def switches(self, model: str, site: str) -> None:
        """Leaves in a rack of their unit, spines and cores in racks of their own."""
        for unit, row in enumerate(self.leaves):
            self._rack(row, model, site, f"{unit + 1:02d}", f"{unit + 1:02d}-N")
        for pod, row in enumerate(self.spines):
            self._rack(row, model, site, "N", f"N-S{pod + 1:02d}")
        self._rack([core for plane in self.cores for core in plane], model, site, "N", "N-C")

    def trunks(self) -> None:
        """Leaf to spine within the pod, spine to the cores of its number."""
        s = self.shape
        for unit, row in enumerate(self.leaves):
            pod, place = divmod(unit, s.per_pod)
            for rail, leaf in enumerate(row):
                self._up(leaf, s.per_unit, self.spines[pod], place * s.rails + rail, s.trunks)
        for pod, row in enumerate(self.spines):
            for number, spine in enumerate(row):
                if s.planes:
                    self._up(spine, s.ports // 2, self.cores[number], pod, s.core_trunks)

    def _up(self, lower: str, offset: int, uppers: Sequence[str], place: int, trunks: int) -> None:
        """All cables from one switch to those above it; `place` is its number among its peers there."""
        port = offset
        for upper in uppers:
            for trunk in range(trunks):
                port += 1
                above = Port(upper, self._numbers[place * trunks + trunk + 1])
                self._cable(Port(lower, self._numbers[port]), above, Role.TRUNK, "")

    def _cable(self, one: Port, two: Port, role: Role, rail: str) -> None:
        a, b = (one, two) if one < two else (two, one)
        self.cables.append(DesignedCable(a, b, role, rail, "", 0.0, self._width, self._speed))

    def _rack(self, names: Sequence[str], model: str, site: str, row: str, rack: str) -> None:
        for index, name in enumerate(names):
            number, slot = divmod(index, RACK_UNITS // 2)
            place = Place(site, row, f"{rack}{number + 1:02d}", f"U{1 + slot * 2}")
            self.chassis[name] = DesignedChassis(name, ChassisKind.SWITCH, model, place)


def _digits(count: int) -> int:
    return max(2, len(str(count)))


def _pattern(pattern: str) -> tuple[str, int, str]:
    """`gpu-####` → before, how many digits, after: the last run of `#`."""
    end = pattern.rindex("#") + 1
    start = end
    while start and pattern[start - 1] == "#":
        start -= 1
    return pattern[:start], end - start, pattern[end:]
