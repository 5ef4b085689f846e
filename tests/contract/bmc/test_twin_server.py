"""The twin's own side: its sockets survive bad clients, many BMCs share a process, and its tree tells the host's state."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from ostler.adapters.bmc.port import Credentials, PowerState, ResetKind
from ostler.adapters.bmc.redfish import RedfishBmcs
from ostler.core.clock import ManualClock
from ostler.core.ids import PermitId
from ostler.twin.bmc import MAX_SESSIONS, TwinBmc, TwinBmcSpec
from ostler.twin.bmc_server import BmcServer
from tests.contract.bmc.subjects import CREDENTIALS, UUID

BASIC = {"authorization": "Basic YWRtaW46Y2hhbmdlbWU="}
SYSTEM = "/redfish/v1/Systems/System_0"


@pytest.fixture
def server() -> Iterator[BmcServer]:
    found = BmcServer()
    found.start()
    yield found
    found.close()


def new(number: int = 0, gpus: int = 8) -> TwinBmc:
    serials = tuple(f"{number:05}{n}" for n in range(gpus))
    return TwinBmc(TwinBmcSpec(f"gpu-{number:04}", f"SN-{number}", UUID, gpu_serials=serials), ManualClock())


def test_many_bmcs_in_one_process(server: BmcServer) -> None:
    addresses = server.add_all([new(n) for n in range(300)])
    assert len(set(addresses)) == 300
    for number in (0, 150, 299):
        with RedfishBmcs().open(addresses[number], CREDENTIALS) as bmc:
            assert bmc.identity().serial == f"SN-{number}"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /redfish/v1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"X" * 100_000,
    ],
)
def test_a_bad_client_is_hung_up_on_and_the_next_is_served(server: BmcServer, sent: bytes) -> None:
    address = server.add(new())
    port = int(address.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        try:
            client.sendall(sent)
            assert client.recv(100) == b""
        except ConnectionError:
            pass
    with RedfishBmcs().open(address, CREDENTIALS) as bmc:
        assert bmc.power_state() is PowerState.OFF


def test_requests_sent_at_once_are_answered_in_order(server: BmcServer) -> None:
    port = int(server.add(new()).rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET /redfish HTTP/1.1\r\n\r\n" * 3 + b"HEAD /redfish HTTP/1.1\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    assert received.count(b"HTTP/1.1 200 OK") == 4 and received.count(b'{"v1"') == 3


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/redfish/v1/Systems/System_0/Nope", b"", 404),
        ("GET", "/redfish/v1/Chassis/BMC_0/Sensors/../..", b"", 404),
        ("GET", "/etc/passwd", b"", 404),
        ("PUT", SYSTEM, b"", 405),
        ("PATCH", SYSTEM, b"{", 400),
        ("PATCH", SYSTEM, b'{"Boot": {"BootSourceOverrideTarget": ["Pxe"]}}', 400),
        ("POST", f"{SYSTEM}/Actions/ComputerSystem.Reset", b'{"ResetType": "Explode"}', 400),
        ("POST", f"{SYSTEM}/Actions/ComputerSystem.Reset", b"[" * 100_000, 400),
        ("POST", "/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate", b'{"ImageURI": 7}', 400),
        ("POST", "/redfish/v1/SessionService/Sessions", b'{"UserName": "\\ud800", "Password": "x"}', 401),
        ("DELETE", "/redfish/v1/SessionService/Sessions/none", b"", 404),
    ],
)
def test_what_makes_no_sense_is_refused_in_redfish_words(method: str, path: str, body: bytes, status: int) -> None:
    answer = new().handle(method, path, BASIC, body)
    assert answer.status == status
    assert answer.document is not None
    info = answer.document["error"]["@Message.ExtendedInfo"][0]
    assert info["MessageId"].startswith("Base.") and info["Message"]


def test_only_the_root_and_the_login_are_open() -> None:
    bmc = new()
    assert bmc.handle("GET", "/redfish/v1/", {}, b"").status == 200
    for headers in ({}, {"authorization": "Basic !!!"}, {"authorization": "Basic YTpi"}, {"x-auth-token": "no"}):
        assert bmc.handle("GET", SYSTEM, headers, b"").status == 401
    assert bmc.handle("GET", SYSTEM, BASIC, b"").status == 200


def test_sessions_run_out() -> None:
    bmc = new()
    body = json.dumps({"UserName": "admin", "Password": "changeme"}).encode()
    path = "/redfish/v1/SessionService/Sessions"
    assert {bmc.handle("POST", path, {}, body).status for _ in range(MAX_SESSIONS)} == {201}
    assert bmc.handle("POST", path, {}, body).status == 503


def test_every_link_leads_somewhere() -> None:
    """A walk over the whole tree: nothing is linked that is not served, and each resource says its own address."""
    bmc = new(gpus=2)
    bmc.add_log("a line")
    update = {"ImageURI": "http://x/UEFI-1.2.bin", "Targets": ["/redfish/v1/UpdateService/FirmwareInventory/UEFI"]}
    target = "/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate"
    assert bmc.handle("POST", target, BASIC, json.dumps(update).encode()).status == 202
    todo, seen = ["/redfish/v1"], set[str]()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = bmc.handle("GET", path, BASIC, b"")
        assert answer.status == 200 and answer.document is not None, path
        assert answer.document["@odata.id"] == path
        todo += links(dict(answer.document))
    assert len(seen) > 120


def links(value: object) -> list[str]:
    if isinstance(value, dict):
        here = [value["@odata.id"]] if isinstance(value.get("@odata.id"), str) else []
        return here + [found for item in value.values() for found in links(item)]
    return [found for item in value for found in links(item)] if isinstance(value, list) else []


def test_gpu_sensors_are_silent_while_the_host_is_off(server: BmcServer) -> None:
    state = new()
    with RedfishBmcs().open(server.add(state), Credentials("admin", "changeme")) as bmc:
        off = {s.name: s.value for s in bmc.sensors()}
        bmc.reset(ResetKind.ON, permit=PermitId("permit_1"))
        on = {s.name: s.value for s in bmc.sensors()}
    assert off["HGX_GPU_SXM_1_TEMP_0"] is None and on["HGX_GPU_SXM_1_TEMP_0"] is not None
    assert off["TEMP_INLET"] == on["TEMP_INLET"]


def test_the_host_can_switch_itself_off(server: BmcServer) -> None:
    state = new()
    with RedfishBmcs().open(server.add(state), CREDENTIALS) as bmc:
        bmc.reset(ResetKind.ON, permit=PermitId("permit_1"))
        state.host_powered(False)
        assert bmc.power_state() is PowerState.OFF
