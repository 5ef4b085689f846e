"""Which switch port each InfiniBand port of this node is plugged into, asked hop by hop with infiniband-diags.

`smpquery -D` sends its question by the way out (port 1 of this HCA, then one cable) and not by address: so it works
before a subnet manager has given any, and says in milliseconds what a full sweep says in minutes. It measures only:
whether that is the cabling that was designed is judged by the server (`fabric/own_ports.py`, in Seatrial).

A port without a link is looked at by reading its state. Virtual functions and ports of link layer Ethernet are left
out, as the agent's monitor leaves them out.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ostler.checks.commands import Runner, run_command
from ostler.checks.model import Arguments, CheckResult, number
from ostler.checks.tally import Tally

NAME = "ib-neighbours"
PER_KEY = 14
"""Ports under one key of `measured`: the wire takes 512 values under a key, and a port is at most 34."""
MOST_PORTS = 70
"""Looked at in one run: five keys full."""
_QUERY_S = 4.0
"""For one question; smpquery itself gives up after 4 tries of `_ANSWER_MS`."""
_ANSWER_MS = "500"
_TEXT = 64
"""Characters of a node's description: NodeDescription has 64 bytes (InfiniBand Architecture 1.7, 14.2.5.2)."""
_SPEEDS = {
    "2.5": "SDR", "5.0": "DDR", "10.0": "QDR", "10.3125": "FDR10", "14.0625": "FDR", "25.78125": "EDR",
    "53.125": "HDR", "106.25": "NDR", "212.5": "XDR",
}  # fmt: skip
"""Gb/s of a lane, as smpquery prints them, to names: InfiniBand Architecture 1.7, volume 1, 14.2.5.6."""
_ORDER = tuple(_SPEEDS.values())
_STATES = {"1": "down", "2": "init", "3": "armed", "4": "active"}
_RATE = re.compile(r"[\d.]{1,10} Gb/sec \((\d{1,2})X(?: (\w{2,6}))?\)")
_KINDS = {"switch": "switch", "channel adapter": "hca", "router": "router"}
_HCA = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What is at the other end of a cable."""

    kind: str
    """switch, hca or router"""
    guid: str
    port: int
    description: str = ""
    system_guid: str = ""


@dataclass(frozen=True, slots=True)
class OwnPort:
    """One port of this node and its neighbour. Also made by the twin, so that both say the same."""

    hca: str
    port: int
    guid: str = ""
    """Of the HCA: 0x and 16 digits."""
    state: str = ""
    """down, init, armed, active; empty: cannot be read"""
    width: int = 0
    """Lanes in use; 0: not known."""
    speed: str = ""
    width_able: int = 0
    """The most that both ends can; 0: not known."""
    speed_able: str = ""
    neighbour: Neighbour | None = None
    why: str = ""
    """Why there is no neighbour to tell of."""

    def row(self) -> dict[str, Any]:
        """As JSON. What is not known is left out, except that `neighbour` is there always."""
        said: dict[str, Any] = {"hca": self.hca, "port": self.port}
        for name in ("guid", "state", "width", "speed", "width_able", "speed_able", "why"):
            if value := getattr(self, name):
                said[name] = value
        there = self.neighbour
        said["neighbour"] = None if there is None else {
            "kind": there.kind, "guid": there.guid, "port": there.port,
            "description": there.description, "system_guid": there.system_guid,
        }  # fmt: skip
        return said


def measured(ports: Sequence[OwnPort]) -> dict[str, Any]:
    """The ports as a result carries them: `ports`, and beyond `PER_KEY` of them `ports_2` and so on."""
    said: dict[str, Any] = {"hcas": len({port.hca for port in ports}), "ports": []}
    for start in range(0, len(ports), PER_KEY):
        key = "ports" if start == 0 else f"ports_{start // PER_KEY + 1}"
        said[key] = [port.row() for port in ports[start : start + PER_KEY]]
    return said


def run(
    arguments: Arguments,
    budget_s: float,
    command: Runner = run_command,
    root: Path = Path("/"),
    allowed: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK),
) -> CheckResult:
    """Looks at every port. `root` holds sys and dev; `allowed`: whether this process may use a umad device."""
    hcas = int(number(arguments, "hcas", 0, 1, 64))
    tally = Tally(NAME)
    folder = root / "sys/class/infiniband"
    if not folder.is_dir():
        tally.gap("unsupported: this node has no InfiniBand device, or its driver is not loaded")
        return tally.result()
    ports = list(_ports(folder))
    if not ports:
        tally.gap("unsupported: no device of this node has an InfiniBand port")
    if len(ports) > MOST_PORTS:
        tally.gap(f"the node has {len(ports)} ports; {MOST_PORTS} are looked at")
        ports = ports[:MOST_PORTS]
    found = len({port.hca for port in ports})
    if hcas and found < hcas:
        tally.gap(f"{found} of {hcas} HCAs are here")
    until = time.monotonic() + budget_s
    looked = [_look(port, command, root, allowed, until) for port in ports]
    for port in looked:
        if port.neighbour is None and port.state != "down":
            tally.gap(f"{port.hca} port {port.port}: {port.why}" if port.why not in _GENERAL else port.why)
        else:
            tally.fine()
    result = tally.result()
    return replace(result, measured=measured(looked))


_NO_TOOL = "smpquery is not installed (package infiniband-diags)"
_NO_UMAD = "there is no umad device: load the kernel module ib_umad"
_FORBIDDEN = "this process may not use the umad devices in /dev/infiniband (they are root's)"
_GENERAL = (_NO_TOOL, _NO_UMAD, _FORBIDDEN)
"""Reasons that are the same for every port, said once."""


# ── what sysfs says ─────────────────────────────────────────────────────────────────────────────────────────────────


def _ports(folder: Path) -> Iterator[OwnPort]:
    for hca in sorted(path.name for path in folder.iterdir()):
        if _HCA.fullmatch(hca) is None or os.path.lexists(folder / hca / "device/physfn"):
            continue
        guid = _text(folder / hca / "node_guid").replace(":", "")
        numbers = [path.name for path in folder.glob(f"{hca}/ports/*") if path.name.isdecimal()]
        for name in sorted(numbers, key=int):
            place = folder / hca / "ports" / name
            if not 1 <= int(name) <= 254 or _text(place / "link_layer") == "Ethernet":
                continue
            state = _STATES.get(_text(place / "state")[:1], "")
            rate = _RATE.fullmatch(_text(place / "rate")) if state in ("init", "armed", "active") else None
            physical = _text(place / "phys_state").rpartition(" ")[2][:32]
            why = f"no link ({physical or 'physical state not told'})" if state == "down" else ""
            yield OwnPort(
                hca,
                int(name),
                f"0x{guid}" if re.fullmatch(r"[0-9a-f]{16}", guid) else "",
                state,
                int(rate[1]) if rate else 0,
                (rate[2] or "SDR") if rate else "",  # the kernel names no SDR
                why=why,
            )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(256).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _umad(root: Path, port: OwnPort) -> Path | None:
    """The device through which this port can be spoken to."""
    for entry in sorted((root / "sys/class/infiniband_mad").glob("umad*")):
        if _text(entry / "ibdev") == port.hca and _text(entry / "port") == str(port.port):
            return root / "dev/infiniband" / entry.name
    return None


# ── what the fabric says ────────────────────────────────────────────────────────────────────────────────────────────


def _look(port: OwnPort, command: Runner, root: Path, allowed: Callable[[Path], bool], until: float) -> OwnPort:
    """The port with its neighbour, or with the reason why there is none."""
    if port.state == "down":
        return port
    device = _umad(root, port)
    if device is None:
        return replace(port, why=_NO_UMAD)
    if not allowed(device):
        return replace(port, why=_FORBIDDEN)
    try:
        return _ask(port, command, until)
    except FileNotFoundError:
        return replace(port, why=_NO_TOOL)
    except OSError as error:
        return replace(port, why=f"smpquery cannot be started: {error.strerror}")
    except _Unanswered as error:
        return replace(port, why=str(error)[:300])


class _Unanswered(Exception):
    """A question got no answer that can be read."""


def _ask(port: OwnPort, command: Runner, until: float) -> OwnPort:
    """Raises _Unanswered, and OSError when smpquery cannot be started."""
    there = f"0,{port.port}"

    def query(*words: str) -> Mapping[str, str]:
        left = until - time.monotonic()
        if left <= 0:
            raise _Unanswered("no time was left to ask")
        argv = ("smpquery", "-C", port.hca, "-P", str(port.port), "-t", _ANSWER_MS, "-D", *words)
        ran = command(argv, min(_QUERY_S, left))
        if ran.status is None:
            raise _Unanswered(f"no answer to {words[0]} in time")
        if ran.status != 0:
            raise _Unanswered(f"{words[0]}: {ran.last_words}")
        return fields(ran.output)

    info = query("nodeinfo", there)
    kind = _KINDS.get(info.get("NodeType", "").lower(), "")
    guid, local = info.get("Guid", ""), info.get("LocalPort", "")
    if not kind or not re.fullmatch(r"0x[0-9a-f]{16}", guid) or not re.fullmatch(r"[1-9]\d{0,2}", local):
        raise _Unanswered("nodeinfo: an answer that cannot be read")
    system = info.get("SystemGuid", "")
    said = query("nodedesc", there).get("Node Description", "")
    description = "".join(char if char.isprintable() else " " for char in said)[:_TEXT].strip()
    neighbour = Neighbour(
        kind, guid, int(local), description, system if re.fullmatch(r"0x[0-9a-f]{16}", system) else ""
    )
    ours, theirs = query("portinfo", "0", str(port.port)), query("portinfo", there, local)
    width, speed = active(ours)
    able = [best(ours), best(theirs)]
    return replace(
        port,
        width=port.width or width,
        speed=port.speed or speed,
        width_able=min(one[0] for one in able),
        speed_able=min((one[1] for one in able), key=_rank),
        neighbour=neighbour,
    )


def fields(output: str) -> dict[str, str]:
    """`NodeType:........................Switch` lines of smpquery as name → value; comments and lists left out."""
    found: dict[str, str] = {}
    for line in output.splitlines()[:200]:
        name, colon, value = line.partition(":")
        if colon and name and name[0] not in "#\t ":
            found.setdefault(name.strip(), value.lstrip(".").strip())
    return found


def active(info: Mapping[str, str]) -> tuple[int, str]:
    """Lanes and speed in use, by a PortInfo; 0 and empty when it does not say."""
    width = re.fullmatch(r"(\d{1,2})X", info.get("LinkWidthActive", ""))
    speeds = _named(info.get("LinkSpeedExtActive", "")) or _named(info.get("LinkSpeedActive", ""))
    return int(width[1]) if width else 0, speeds[-1] if speeds else ""


def best(info: Mapping[str, str]) -> tuple[int, str]:
    """The most lanes and the highest speed that a port can use, by its PortInfo; 0 and empty when it does not say.

    A port that says it can do 12 lanes says so of its silicon: what counts is at most the 4 of every plug since QDR.
    """
    widths = [int(number) for number in re.findall(r"(\d{1,2})X", info.get("LinkWidthSupported", "")[:200])]
    speeds = _named(info.get("LinkSpeedExtSupported", "")) or _named(info.get("LinkSpeedSupported", ""))
    return min(max(widths, default=0), 4), speeds[-1] if speeds else ""


def _named(text: str) -> list[str]:
    found = [_SPEEDS[one] for one in re.findall(r"(\d+\.\d+) Gbps", text[:200]) if one in _SPEEDS]
    return sorted(found, key=_rank)


def _rank(speed: str) -> int:
    return _ORDER.index(speed) if speed in _ORDER else -1
