"""What a conversation remembers of a BMC between two polls, and when it looks again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ostler.adapters.bmc.port import Bmc, Board, PowerState, Sensor
from ostler.adapters.bmc.redfish import RedfishBmcs
from ostler.adapters.bmc.redfish_transport import Limits
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput
from ostler.twin.bmc import Response, TwinBmc, TwinBmcSpec
from ostler.twin.bmc_server import BmcServer
from tests.contract.bmc import subjects
from tests.contract.bmc.subjects import CREDENTIALS, UUID, serving, tree_handler

V1 = "/redfish/v1"
SYSTEM = f"{V1}/Systems/System_0"


def link(path: str) -> dict[str, str]:
    return {"@odata.id": f"{V1}/{path}"}


def chassis(name: str) -> dict[str, Any]:
    """A chassis with one sensor and one leak detector."""
    at = f"Chassis/{name}"
    return {
        f"{V1}/{at}": {"Id": name, "Sensors": link(f"{at}/Sensors"), "ThermalSubsystem": link(f"{at}/Thermal")},
        f"{V1}/{at}/Sensors": {"Members": [link(f"{at}/Sensors/T")]},
        f"{V1}/{at}/Sensors/T": {"Id": "T", "Reading": 20, "ReadingType": "Temperature"},
        f"{V1}/{at}/Thermal": {"Id": "Thermal", "LeakDetection": link(f"{at}/Leaks")},
        f"{V1}/{at}/Leaks": {"Id": "Leaks", "LeakDetectors": link(f"{at}/Leaks/All")},
        f"{V1}/{at}/Leaks/All": {"Members": [link(f"{at}/Leaks/All/L")]},
        f"{V1}/{at}/Leaks/All/L": {"Id": "L", "DetectorState": "OK"},
    }


class Served:
    """A small tree that a test changes between two calls, and what was asked of it."""

    def __init__(self, *names: str) -> None:
        self.raw: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.put({V1: {"Systems": link("Systems"), "Chassis": link("Chassis")}})
        self.put({f"{V1}/Systems": {"Members": [link("Systems/System_0")]}})
        self.put({SYSTEM: {"Id": "System_0", "PowerState": "On", "UUID": UUID}})
        self.have(*names)

    def put(self, documents: Mapping[str, Any]) -> None:
        self.raw |= {path: json.dumps(document).encode() for path, document in documents.items()}

    def have(self, *names: str) -> None:
        """These chassis and no others."""
        for path in [path for path in self.raw if path.startswith(f"{V1}/Chassis")]:
            del self.raw[path]
        self.put({f"{V1}/Chassis": {"Members": [link(f"Chassis/{name}") for name in names]}})
        for name in names:
            self.put(chassis(name))

    @contextmanager
    def open(self, limits: Limits | None = None) -> Iterator[Bmc]:
        handler = tree_handler(self.raw, asked=self.asked)
        with serving(handler) as address, RedfishBmcs(limits).open(address, CREDENTIALS) as bmc:
            yield bmc

    def during(self, bmc: Bmc) -> set[str]:
        """What reading the sensors asks for."""
        self.asked.clear()
        bmc.sensors()
        return {path.removeprefix(V1).rstrip("/") for path in self.asked}


def names(found: tuple[Sensor, ...]) -> list[tuple[str, str, float | None]]:
    return [(one.chassis, one.name, one.value) for one in found]


def test_the_second_poll_asks_for_readings_only() -> None:
    served = Served("A", "B")
    with served.open() as bmc:
        first = bmc.sensors()
        readings = {f"/Chassis/{box}/{what}" for box in "AB" for what in ("Sensors", "Sensors/T", "Leaks/All")}
        readings |= {f"/Chassis/{box}/Leaks/All/L" for box in "AB"}
        assert served.during(bmc) == readings
        assert bmc.sensors() == first
        bmc.power_state()
        served.asked.clear()
        assert bmc.power_state() is PowerState.ON
        assert served.asked == [SYSTEM]


def test_values_are_never_remembered() -> None:
    served = Served("A")
    with served.open() as bmc:
        bmc.sensors()
        served.put({f"{V1}/Chassis/A/Sensors/T": {"Id": "T", "Reading": 99}})
        served.put({f"{V1}/Chassis/A/Leaks/All/L": {"Id": "L", "DetectorState": "Critical"}})
        served.put({SYSTEM: {"Id": "System_0", "PowerState": "Off"}})
        assert names(bmc.sensors()) == [("A", "T", 99.0), ("A", "L", 1.0)]
        assert bmc.power_state() is PowerState.OFF


def test_a_remembered_link_that_leads_nowhere_is_looked_up_again() -> None:
    served = Served("A")
    with served.open() as bmc:
        bmc.sensors()
        served.have("B")
        assert names(bmc.sensors()) == [("A", "Sensors", None)], "said once: what was there is gone"
        assert names(bmc.sensors()) == [("B", "T", 20.0), ("B", "L", 0.0)]


def test_a_host_that_moved_is_found_again() -> None:
    served = Served()
    with served.open() as bmc:
        assert bmc.power_state() is PowerState.ON
        del served.raw[SYSTEM]
        served.put({f"{V1}/Systems": {"Members": [link("Systems/1")]}})
        served.put({f"{V1}/Systems/1": {"Id": "1", "PowerState": "Off"}})
        assert bmc.power_state() is PowerState.OFF


def test_after_its_time_everything_is_looked_up_again() -> None:
    served = Served("A")
    with served.open(Limits(layout_seconds=0.0)) as bmc:
        bmc.sensors()
        served.have("A", "B")
        assert {box for box, _, _ in names(bmc.sensors())} == {"A", "B"}


@pytest.mark.parametrize("part", ["", "/Thermal", "/Leaks"])
def test_what_was_not_served_is_asked_for_again(part: str) -> None:
    served = Served("A", "B")
    path = f"{V1}/Chassis/A{part}"
    with served.open() as bmc:
        kept = served.raw.pop(path)
        found = names(bmc.sensors())
        assert ("A", "L", 0.0) not in found and ("B", "L", 0.0) in found
        assert names(bmc.sensors()) == found
        served.raw[path] = kept
        assert ("A", "L", 0.0) in names(bmc.sensors())
        assert "/Chassis" not in served.during(bmc), "what was served is remembered"


def test_a_list_of_chassis_that_was_not_served_is_not_remembered() -> None:
    served = Served("A")
    with served.open() as bmc:
        kept = served.raw.pop(f"{V1}/Chassis")
        assert bmc.sensors() == ()
        served.raw[f"{V1}/Chassis"] = kept
        assert names(bmc.sensors()) == [("A", "T", 20.0), ("A", "L", 0.0)]


def test_expansion_that_is_promised_and_fails_is_not_asked_for_all_day() -> None:
    served = Served("A", "B", "C", "D")
    root = json.loads(served.raw[V1])
    served.put({V1: root | {"ProtocolFeaturesSupported": {"ExpandQuery": {"NoLinks": True}}}})
    paths = [f"{V1}/Chassis", f"{V1}/Systems"]
    paths += [f"{V1}/Chassis/{box}/{what}" for box in "ABCD" for what in ("Sensors", "Leaks/All")]
    odd = {f"{path}?$expand=.($levels=1)": (501, dict[str, str](), b"{}") for path in paths}
    tried: list[str] = []

    whole: Any = tree_handler(served.raw, odd, served.asked)

    def do_get(self: Any) -> None:
        tried.append(self.path)
        whole.do_GET(self)

    with (
        serving(type("Handler", (whole,), {"do_GET": do_get})) as address,
        RedfishBmcs().open(address, CREDENTIALS) as bmc,
    ):
        first = bmc.sensors()
        assert len(first) == 8
        for _ in range(3):
            bmc.sensors()
        tried.clear()
        assert bmc.sensors() == first
        assert not [path for path in tried if "$expand" in path]


class Counted(TwinBmc):
    """A simulated BMC that remembers what it was asked."""

    asked: list[str]

    def handle(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Response:
        self.asked.append(target)
        return super().handle(method, target, headers, body)


@contextmanager
def counted() -> Iterator[tuple[Counted, Bmc]]:
    state = Counted(TwinBmcSpec("n", "SN", UUID, gpu_serials=("1",)), ManualClock())
    state.asked = []
    server = BmcServer()
    server.start()
    try:
        with RedfishBmcs().open(server.add(state), CREDENTIALS) as bmc:
            yield state, bmc
    finally:
        server.close()


def test_with_expansion_a_poll_is_one_question_for_each_collection() -> None:
    with counted() as (state, bmc):
        bmc.power_state(), bmc.sensors()
        state.asked.clear()
        bmc.power_state(), bmc.sensors()
        assert len(state.asked) == 1 + 3 + 1, "the host, three chassis, the leak detectors"
        assert all("$expand" in target for target in state.asked[1:])


def test_after_another_log_in_the_service_may_be_another() -> None:
    with counted() as (state, bmc):
        bmc.sensors()
        state.sessions.clear()
        bmc.sensors()
        state.asked.clear()
        bmc.sensors()
        assert any(target.startswith(f"{V1}/Chassis?") for target in state.asked)
        state.asked.clear()
        bmc.sensors()
        assert not any(target.startswith(f"{V1}/Chassis?") for target in state.asked)


def test_a_connection_that_the_bmc_closed_is_opened_again() -> None:
    """Each connection serves one question and then drops the next, without a word: to a GET that does no harm."""
    served = Served("A")
    dropped: list[str] = []
    whole: Any = tree_handler(served.raw)

    def do_get(self: Any) -> None:
        self.served += 1
        if self.served > 1:
            dropped.append(self.path)
            self.close_connection = True
        else:
            whole.do_GET(self)

    with (
        serving(type("Handler", (whole,), {"served": 0, "do_GET": do_get})) as address,
        RedfishBmcs().open(address, CREDENTIALS) as bmc,
    ):
        assert names(bmc.sensors()) == [("A", "T", 20.0), ("A", "L", 0.0)]
        assert bmc.power_state() is PowerState.ON
    assert dropped


def test_a_token_that_is_no_header_is_refused() -> None:
    served = Served()
    where = f"{V1}/SessionService/Sessions"
    odd = {where: (201, {"X-Auth-Token": "a\x01b", "Location": f"{where}/1"}, b"{}")}
    with (
        serving(tree_handler(served.raw, odd)) as address,
        RedfishBmcs().open(address, CREDENTIALS) as bmc,
        pytest.raises(BadInput, match="no header"),
    ):
        bmc.power_state()


def test_boards_and_adapters_have_their_serials(real_data: Path) -> None:
    archive = real_data / "redfish" / "gh200.tar.gz"
    if not archive.is_file():
        pytest.skip(f"no recorded tree at {archive}")
    tree = subjects.read_tree(archive)
    with serving(tree_handler(tree)) as address, RedfishBmcs().open(address, CREDENTIALS) as bmc:
        found = bmc.inventory()
    assert [cpu.serial for cpu in found.cpus] == [
        "0x00000001780A0185100000000CFF80C0",
        "0x00000001780A01851000000008FF0100",
    ]
    assert found.boards == (
        Board("CBC_0", "OberonCBCL", "1780924000006"),
        Board("CBC_1", "OberonCBCR", "1780824000004"),
        Board("HGX_BMC_0", "P4764-A01", "1580624630072"),
        Board("HGX_Chassis_0", "", "1580924760074"),
    )


def test_a_network_adapters_serial_is_its_ports() -> None:
    served = Served("A")
    adapter = "Chassis/A/NetworkAdapters"
    served.put(
        {
            f"{V1}/Chassis/A": {"Id": "A", "NetworkAdapters": link(adapter)},
            f"{V1}/{adapter}": {"Members": [link(f"{adapter}/N")]},
            f"{V1}/{adapter}/N": {"Id": "N", "SerialNumber": "MT1", "NetworkDeviceFunctions": link(f"{adapter}/N/F")},
            f"{V1}/{adapter}/N/F": {"Members": [link(f"{adapter}/N/F/1"), link(f"{adapter}/N/F/2")]},
            f"{V1}/{adapter}/N/F/1": {"Id": "1", "Ethernet": {"MACAddress": "AA-BB-CC-DD-EE-01"}},
            f"{V1}/{adapter}/N/F/2": {"Id": "2", "Ethernet": {"MACAddress": "aa:bb:cc:dd:ee:02"}},
            SYSTEM: {"Id": "System_0", "UUID": UUID, "EthernetInterfaces": link("Systems/E")},
            f"{V1}/Systems/E": {"Members": [link("Systems/E/eth0")]},
            f"{V1}/Systems/E/eth0": {"Id": "eth0", "MACAddress": "AA:BB:CC:DD:EE:01"},
        }
    )
    with served.open() as bmc:
        found = bmc.inventory().nics
    assert [(nic.name, nic.mac, nic.serial) for nic in found] == [
        ("eth0", "aa:bb:cc:dd:ee:01", "MT1"),
        ("2", "aa:bb:cc:dd:ee:02", "MT1"),
    ]
