"""What a node says of its own ports: from recorded words of smpquery, and inconclusive for each way of not knowing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ostler.checks import ib_neighbours
from ostler.checks.commands import Ran
from ostler.checks.ib_neighbours import Neighbour, OwnPort, best, fields, measured, run
from ostler.checks.model import MEASURED_LIMIT, CheckResult, CheckVerdict
from ostler.core.errors import BadInput
from ostler.wire.agent import OrderResult, Verdict
from ostler.wire.decode import decode, encode

PASSED, INCONCLUSIVE = CheckVerdict.PASSED, CheckVerdict.INCONCLUSIVE
NODEINFO = """# Node info: DR path slid 65535; dlid 65535; 0,1
BaseVers:........................1
ClassVers:.......................1
NodeType:........................Switch
NumPorts:........................40
SystemGuid:......................0xb8cef60300000000
Guid:............................0xb8cef60300000000
PortGuid:........................0xb8cef60300000000
PartCap:.........................8
DevId:...........................0xd2f2
Revision:........................0x000000a1
LocalPort:.......................17
VendorId:........................0x0002c9
"""
PORTINFO = """# Port info: DR path slid 65535; dlid 65535; 0 port 1
Mkey:............................<not displayed>
CapMask:.........................0xa751e84a
\t\t\t\tIsTrapSupported
LinkWidthEnabled:................1X or 4X
LinkWidthSupported:..............1X or 4X or 8X or 12X or 2X
LinkWidthActive:.................4X
LinkSpeedSupported:..............2.5 Gbps or 5.0 Gbps or 10.0 Gbps
LinkState:.......................Initialize
LinkSpeedActive:.................10.0 Gbps
LinkSpeedExtActive:..............106.25 Gbps
LinkSpeedExtSupported:...........14.0625 Gbps or 25.78125 Gbps or 53.125 Gbps or 106.25 Gbps
"""


def node(root: Path, *hcas: str, state: str = "2: INIT", rate: str = "400 Gb/sec (4X NDR)", umad: bool = True) -> Path:
    """A tree of sysfs with one port on each HCA."""
    for number, hca in enumerate(hcas):
        port = root / "sys/class/infiniband" / hca / "ports/1"
        port.mkdir(parents=True)
        (port.parent.parent / "node_guid").write_text(f"b83f:d203:0000:000{number}\n")
        texts = {"state": state, "phys_state": "5: LinkUp", "rate": rate, "link_layer": "InfiniBand"}
        for name, text in texts.items():
            (port / name).write_text(f"{text}\n")
        if umad:
            device = root / f"sys/class/infiniband_mad/umad{number}"
            device.mkdir(parents=True)
            (device / "ibdev").write_text(f"{hca}\n")
            (device / "port").write_text("1\n")
    return root


def answers(**said: Ran) -> Callable[[Sequence[str], float], Ran]:
    """Stands for smpquery: by operation."""
    words = {
        "nodeinfo": Ran(0, NODEINFO),
        "nodedesc": Ran(0, "Node Description:............MF0;leaf01:MQM9700/U1\n"),
        "portinfo": Ran(0, PORTINFO),
        **said,
    }

    def command(argv: Sequence[str], seconds: float) -> Ran:
        assert argv[0] == "smpquery"
        assert argv[1:5] == ("-C", argv[2], "-P", "1")
        return words[argv[argv.index("-D") + 1]]

    return command


def say(root: Path, command: Callable[[Sequence[str], float], Ran], **arguments: str) -> CheckResult:
    return run(arguments, 60.0, command, root, lambda path: True)


def test_every_port_is_told_with_its_neighbour(tmp_path: Path) -> None:
    result = say(node(tmp_path, "mlx5_0", "mlx5_1"), answers(), hcas="2")
    assert (result.verdict, result.message) == (PASSED, "")
    first, second = result.measured["ports"]
    assert (first["hca"], second["hca"]) == ("mlx5_0", "mlx5_1")
    assert first == {
        "hca": "mlx5_0",
        "port": 1,
        "guid": "0xb83fd20300000000",
        "state": "init",
        "width": 4,
        "speed": "NDR",
        "width_able": 4,
        "speed_able": "NDR",
        "neighbour": {
            "kind": "switch",
            "guid": "0xb8cef60300000000",
            "port": 17,
            "description": "MF0;leaf01:MQM9700/U1",
            "system_guid": "0xb8cef60300000000",
        },
    }, "a port that no subnet manager has seen yet"


def test_the_way_out_is_the_ports_own(tmp_path: Path) -> None:
    root = node(tmp_path, "mlx5_0")
    (root / "sys/class/infiniband/mlx5_0/ports/1").rename(root / "sys/class/infiniband/mlx5_0/ports/2")
    (root / "sys/class/infiniband_mad/umad0/port").write_text("2\n")
    asked: list[Sequence[str]] = []

    def command(argv: Sequence[str], seconds: float) -> Ran:
        asked.append(argv)
        return Ran(0, NODEINFO if "nodeinfo" in argv else PORTINFO)

    assert say(root, command).measured["ports"][0]["port"] == 2
    assert asked[0][-6:] == ("2", "-t", "500", "-D", "nodeinfo", "0,2")
    assert asked[2][-3:] == ("portinfo", "0", "2")
    assert asked[3][-3:] == ("portinfo", "0,2", "17")


def test_a_port_without_a_link_was_looked_at(tmp_path: Path) -> None:
    root = node(tmp_path, "mlx5_0", state="1: DOWN", rate="10 Gb/sec (4X SDR)")
    (root / "sys/class/infiniband/mlx5_0/ports/1/phys_state").write_text("2: Polling\n")
    result = say(root, answers(nodeinfo=Ran(1, "")))
    assert result.verdict is PASSED
    (port,) = result.measured["ports"]
    assert port["neighbour"] is None
    assert (port["state"], port["why"]) == ("down", "no link (Polling)")
    assert "speed" not in port, "a rate that is shown without a link says nothing"


def test_virtual_functions_and_ethernet_are_left_out(tmp_path: Path) -> None:
    root = node(tmp_path, "mlx5_0", "mlx5_1", "mlx5_2")
    folder = root / "sys/class/infiniband"
    (folder / "mlx5_1/device").mkdir()
    (folder / "mlx5_1/device/physfn").symlink_to("../../gone")
    (folder / "mlx5_2/ports/1/link_layer").write_text("Ethernet\n")
    result = say(root, answers())
    assert [port["hca"] for port in result.measured["ports"]] == ["mlx5_0"]
    assert say(root, answers(), hcas="3").message == "1 of 3 HCAs are here"


def missing(argv: Sequence[str], seconds: float) -> Ran:
    raise FileNotFoundError(argv[0])


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (missing, "smpquery is not installed (package infiniband-diags)"),
        (answers(nodeinfo=Ran(None, "")), "mlx5_0 port 1: no answer to nodeinfo in time"),
        (
            answers(nodeinfo=Ran(255, "", "smpquery: iberror: failed: Failed to open 'mlx5_0' port '1'\n")),
            "mlx5_0 port 1: nodeinfo: smpquery: iberror: failed: Failed to open 'mlx5_0' port '1'",
        ),
        (answers(nodeinfo=Ran(0, "")), "mlx5_0 port 1: nodeinfo: an answer that cannot be read"),
        (
            answers(nodeinfo=Ran(0, NODEINFO.replace("17", "17777"))),
            "mlx5_0 port 1: nodeinfo: an answer that cannot be read",
        ),
        (answers(portinfo=Ran(None, "")), "mlx5_0 port 1: no answer to portinfo in time"),
    ],
)
def test_what_cannot_be_asked_is_inconclusive(
    tmp_path: Path, command: Callable[[Sequence[str], float], Ran], says: str
) -> None:
    result = say(node(tmp_path, "mlx5_0"), command)
    assert (result.verdict, result.message) == (INCONCLUSIVE, says)
    assert result.measured["ports"][0]["neighbour"] is None
    assert result.measured["ports"][0]["state"] == "init", "what sysfs says is told all the same"


def test_no_device_no_right_no_time_no_fabric(tmp_path: Path) -> None:
    assert "no InfiniBand device" in say(tmp_path, answers()).message
    (tmp_path / "sys/class/infiniband").mkdir(parents=True)
    assert "no device of this node has an InfiniBand port" in say(tmp_path, answers()).message
    root = node(tmp_path, "mlx5_0", "mlx5_1", umad=False)
    assert say(root, answers()).message == "there is no umad device: load the kernel module ib_umad"
    node(tmp_path / "b", "mlx5_0")
    refused = run({}, 60.0, answers(), tmp_path / "b", lambda path: False)
    assert refused.verdict is INCONCLUSIVE
    assert "may not use the umad devices" in refused.message
    late = run({}, 0.0, answers(), tmp_path / "b", lambda path: True)
    assert (late.verdict, late.message) == (INCONCLUSIVE, "mlx5_0 port 1: no time was left to ask")
    with pytest.raises(BadInput, match="must be between 1 and 64"):
        say(root, answers(), hcas="0")


def test_a_hostile_description_stays_within_bounds(tmp_path: Path) -> None:
    said = Ran(0, "Node Description:............\x1b[2J\x00" + "leaf" * 5000 + "\n")
    result = say(node(tmp_path, "mlx5_0"), answers(nodedesc=said))
    description = result.measured["ports"][0]["neighbour"]["description"]
    assert len(description) <= 64
    assert description.isprintable()


def test_a_result_of_the_largest_node_passes_the_wire() -> None:
    there = Neighbour("switch", "0x" + "f" * 16, 254, "x" * 64, "0x" + "f" * 16)
    ports = [
        OwnPort(f"mlx5_{n}", 1, "0x" + "f" * 16, "active", 4, "NDR", 4, "NDR", there, "w" * 300)
        for n in range(ib_neighbours.MOST_PORTS)
    ]
    said = measured(ports)
    assert len(said) <= MEASURED_LIMIT
    result = OrderResult("o1", Verdict.PASSED, "", json.loads(json.dumps(said)))
    assert decode(OrderResult, encode(result)) == result
    assert sum(len(rows) for key, rows in said.items() if key.startswith("ports")) == ib_neighbours.MOST_PORTS


def test_what_a_port_can_is_read_from_its_portinfo() -> None:
    info = fields(PORTINFO)
    assert best(info) == (4, "NDR")
    assert ib_neighbours.active(info) == (4, "NDR")
    old = {"LinkWidthSupported": "1X or 4X", "LinkSpeedSupported": "2.5 Gbps or 5.0 Gbps or 10.0 Gbps"}
    assert best(old | {"LinkSpeedExtSupported": "0"}) == (4, "QDR")
    assert best({}) == (0, "")


def test_the_slower_end_says_what_the_cable_can(tmp_path: Path) -> None:
    slow = PORTINFO.replace(" or 106.25 Gbps", "").replace("1X or 4X or 8X or 12X or 2X", "1X or 4X")

    def command(argv: Sequence[str], seconds: float) -> Ran:
        return Ran(0, slow) if argv[-2:] == ("0,1", "17") else answers()(argv, seconds)

    (port,) = say(node(tmp_path, "mlx5_0"), command).measured["ports"]
    assert (port["speed_able"], port["width_able"]) == ("HDR", 4)
