"""A BMC that lies, floods, loops or stalls costs a bounded amount and one clear line, never a traceback."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ostler.adapters.bmc.port import Bmc, BootTarget, Credentials, PowerState, ResetKind, SensorKind
from ostler.adapters.bmc.redfish import RedfishBmcs
from ostler.adapters.bmc.redfish_transport import Limits
from ostler.adapters.keys.authority import Authority
from ostler.core.clock import ManualClock, SystemClock
from ostler.core.errors import BadInput, Forbidden, OstlerError, Permanent, Unauthenticated, Unavailable, Unreachable
from ostler.core.ids import PermitId
from ostler.twin.bmc import MAX_SESSIONS, TwinBmc, TwinBmcSpec
from ostler.twin.bmc_server import BmcServer
from tests.contract.bmc.subjects import CREDENTIALS, UUID, serving, tree_handler

PERMIT = PermitId("permit_1")
QUICK = Limits(connect_seconds=2, read_seconds=2, request_seconds=1, body_bytes=1 << 20, resources=50)
SYSTEM = "/redfish/v1/Systems/System_0"


def tree(**system: Any) -> dict[str, Any]:
    """The smallest honest tree; `system` overrides properties of its only system."""
    return {
        "/redfish/v1": {
            "Systems": {"@odata.id": "/redfish/v1/Systems"},
            "Chassis": {"@odata.id": "/redfish/v1/Chassis"},
        },
        "/redfish/v1/Systems": {"Members": [{"@odata.id": SYSTEM}]},
        "/redfish/v1/Chassis": {"Members": []},
        SYSTEM: {"@odata.id": SYSTEM, "Id": "System_0", "PowerState": "On", "UUID": UUID, **system},
    }


@contextmanager
def serves(documents: dict[str, Any], limits: Limits = QUICK) -> Iterator[Bmc]:
    raw = {path: d if isinstance(d, bytes) else json.dumps(d).encode() for path, d in documents.items()}
    with serving(tree_handler(raw)) as address, RedfishBmcs(limits).open(address, CREDENTIALS) as bmc:
        yield bmc


@contextmanager
def answers(raw: bytes, stall: float = 0.0) -> Iterator[Bmc]:
    """Whatever is asked, these bytes; with `stall`, one byte every `stall` seconds without end."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                try:
                    connection.recv(65536)
                    connection.sendall(raw)
                    while stall and not stop.wait(stall):
                        connection.sendall(b" ")
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with RedfishBmcs(QUICK).open(f"http://127.0.0.1:{listener.getsockname()[1]}", CREDENTIALS) as bmc:
            yield bmc
    finally:
        stop.set()
        thread.join()
        listener.close()


def one_line(error: pytest.ExceptionInfo[OstlerError], bmc: Bmc) -> str:
    said = str(error.value)
    assert said.startswith(f"{bmc.address}: ") and said.isprintable() and len(said) < 400
    return said


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<!DOCTYPE html><html>login</html>", "HTML"),
        (b"not json", "no valid JSON"),
        (b"[1, 2]", "no object"),
        (b"[" * 100_000, "no valid JSON"),
        (b'{"PowerState": NaN}', "no valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no valid JSON"),
        (b'{"PowerState": "\xff"}', "no valid JSON"),
        (b'{"pad": "' + b"x" * (1 << 20) + b'"}', "larger than 1 MiB"),
    ],
)
def test_an_answer_that_is_no_redfish(body: bytes, says: str) -> None:
    with serves(tree() | {SYSTEM: body}) as bmc, pytest.raises(BadInput) as caught:
        bmc.power_state()
    # the only system cannot be read, so there is none; asked for by name it says why
    assert "no computer system" in one_line(caught, bmc)
    with serves(tree()) as bmc:
        bmc.power_state()
        documents = tree() | {SYSTEM: body}
    with serves(documents) as bmc, pytest.raises(BadInput, match=says):
        bmc.task(SYSTEM)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"", b"\x00\xff", b"[" * 5000])
def test_a_service_root_that_is_none(body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with answers(head + body) as bmc, pytest.raises(OstlerError) as caught:
        bmc.power_state()
    one_line(caught, bmc)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", BadInput),
        (b"", Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", BadInput),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc", BadInput),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", BadInput),
        (b"HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", BadInput),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Unavailable),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", BadInput),
    ],
)
def test_what_answers_is_no_bmc(raw: bytes, kind: type[OstlerError]) -> None:
    with answers(raw) as bmc, pytest.raises(OstlerError) as caught:
        bmc.power_state()
    assert type(caught.value) is kind, caught.value
    one_line(caught, bmc)


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\nX-Never: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"])
def test_a_trickle_ends_at_the_deadline(raw: bytes) -> None:
    """Each byte comes well within the read time-out; only the whole-request deadline can end this."""
    with answers(raw, stall=0.05) as bmc, pytest.raises(Unreachable, match="no answer within"):
        bmc.power_state()


def test_silence_is_unreachable() -> None:
    with answers(b"", stall=30) as bmc, pytest.raises(Unreachable):
        bmc.power_state()


def test_a_gzip_bomb_is_stopped_at_the_limit() -> None:
    body = gzip.compress(b" " * (64 << 20))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    with answers(head + body) as bmc, pytest.raises(BadInput, match="larger than 1 MiB"):
        bmc.power_state()


def test_a_redirect_does_not_carry_the_token_away() -> None:
    stolen: list[str] = []

    class Thief(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stolen.append(str(self.headers))
            self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Thief) as elsewhere:
        raw = {path: json.dumps(d).encode() for path, d in tree().items()}
        redirects = tree_handler(raw, {SYSTEM: (307, {"Location": f"{elsewhere}/steal"}, b"")})
        with (
            serving(redirects) as address,
            RedfishBmcs(QUICK).open(address, CREDENTIALS) as bmc,
            pytest.raises(BadInput, match="redirects elsewhere"),
        ):
            bmc.task(SYSTEM)
    assert stolen == []


def test_links_that_leave_the_service_are_not_followed() -> None:
    outside: list[Any] = [
        "http://169.254.169.254/latest",
        "//evil/x",
        "/redfish/../etc",
        "/etc/passwd",
        7,
        None,
        {},
        "/redfish/\n",
    ]
    for elsewhere in outside:
        asked: list[str] = []
        documents = tree() | {"/redfish/v1/Systems": {"Members": [{"@odata.id": elsewhere}]}}
        raw = {path: json.dumps(d).encode() for path, d in documents.items()}
        with (
            serving(tree_handler(raw, asked=asked)) as address,
            RedfishBmcs(QUICK).open(address, CREDENTIALS) as bmc,
            pytest.raises(BadInput, match="no computer system"),
        ):
            bmc.power_state()
        assert {path.rstrip("/") for path in asked} == {"/redfish/v1", "/redfish/v1/Systems"}


def test_cycles_and_endless_pages_end() -> None:
    documents = tree(Processors={"@odata.id": SYSTEM}, Storage={"@odata.id": "/redfish/v1"})
    documents["/redfish/v1/Systems"]["Members@odata.nextLink"] = "/redfish/v1/Systems?page=2"
    documents["/redfish/v1/Chassis"] = {"Members": [{"@odata.id": "/redfish/v1/Chassis"}] * 3}
    with serves(documents) as bmc:
        assert bmc.inventory().gpus == ()
        assert len(bmc.sensors()) <= 1


def test_a_tree_that_is_too_large_is_refused() -> None:
    members = [{"@odata.id": f"/redfish/v1/Chassis/{n}"} for n in range(200)]
    documents = tree() | {"/redfish/v1/Chassis": {"Members": members}}
    documents |= {item["@odata.id"]: {"Id": "x", "Name": "y"} for item in members}
    with serves(documents) as bmc, pytest.raises(BadInput, match="more than 50 resources"):
        bmc.sensors()


@pytest.mark.parametrize("odd", [7, None, [], {}, [[]], True, "x" * 5000, "a\x1b[31mb\nc"])
def test_odd_types_are_nothing(odd: Any) -> None:
    documents = tree(
        SerialNumber=odd,
        Manufacturer=odd,
        Model=odd,
        MemorySummary=odd,
        Actions=odd,
        Boot=odd,
        Links={"Chassis": odd},
        Processors=odd,
        EthernetInterfaces={"@odata.id": "/redfish/v1/E"},
        SystemType=odd,
        Status=odd,
    )
    documents["/redfish/v1/E"] = {"Members": odd, "Members@odata.nextLink": odd}
    documents["/redfish/v1/Chassis"] = {"Members": [{"@odata.id": "/redfish/v1/C"}, odd]}
    documents["/redfish/v1/C"] = {"Sensors": {"@odata.id": "/redfish/v1/S"}, "Id": odd}
    documents["/redfish/v1/S"] = {"Members": [{"@odata.id": "/redfish/v1/S/1"}]}
    documents["/redfish/v1/S/1"] = {"Reading": odd, "ReadingType": odd, "Thresholds": odd, "Status": odd, "Id": odd}
    with serves(documents) as bmc:
        identity = bmc.identity()
        assert identity.serial.isprintable() and len(identity.serial) <= 200
        assert bmc.power_state() is PowerState.ON
        assert bmc.inventory().memory_gib is None
        (sensor,) = bmc.sensors()
        assert (
            sensor.value == (7.0 if odd == 7 else None)
            and sensor.kind is SensorKind.OTHER
            and sensor.name.isprintable()
        )


def test_what_is_linked_and_not_served_is_not_silently_absent() -> None:
    documents = tree(Processors={"@odata.id": f"{SYSTEM}/Processors"})
    documents["/redfish/v1/Chassis"] = {"Members": [{"@odata.id": "/redfish/v1/Chassis/gone"}]}
    with serves(documents) as bmc:
        found = bmc.inventory()
        assert found.gpus == () and f"{SYSTEM}/Processors" in found.unread
        (lost,) = bmc.sensors()
        assert (lost.name, lost.value) == ("gone", None)


def test_several_hosts_are_not_guessed_between() -> None:
    documents = tree() | {
        "/redfish/v1/Systems": {"Members": [{"@odata.id": SYSTEM}, {"@odata.id": "/redfish/v1/Systems/B"}]}
    }
    documents["/redfish/v1/Systems/B"] = {"Id": "B", "PowerState": "Off"}
    with serves(documents) as bmc, pytest.raises(BadInput, match=r"look like the host \(System_0, B\)"):
        bmc.reset(ResetKind.OFF, permit=PERMIT)


def test_what_a_bmc_does_not_offer_is_said() -> None:
    actions = {
        "#ComputerSystem.Reset": {"target": f"{SYSTEM}/R", "ResetType@Redfish.AllowableValues": ["On", "ForceOff"]}
    }
    boot = {"BootSourceOverrideTarget@Redfish.AllowableValues": ["Hdd"]}
    with serves(tree(Actions=actions, Boot=boot)) as bmc:
        with pytest.raises(BadInput, match="offers no power-cycle; it offers ForceOff, On"):
            bmc.reset(ResetKind.POWER_CYCLE, permit=PERMIT)
        with pytest.raises(BadInput, match="cannot boot from pxe"):
            bmc.boot_once(BootTarget.PXE, permit=PERMIT)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://",
        "ftp://x",
        "http://user:pw@x",
        "http://x/path",
        "http://x?y",
        "http://x:99999",
        "a b",
        "\n",
        "http://[",
    ],
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(BadInput, match="no BMC address") as caught:
        RedfishBmcs().open(address, CREDENTIALS)
    assert "\n" not in str(caught.value)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with RedfishBmcs(QUICK).open(address, CREDENTIALS) as bmc, pytest.raises(Unreachable, match="connection refused"):
        bmc.power_state()
    with (
        RedfishBmcs(QUICK).open("bmc.invalid", CREDENTIALS) as bmc,
        pytest.raises(Unreachable, match="does not resolve"),
    ):
        bmc.power_state()


# the twin, misbehaving in the ways that scenarios use


@contextmanager
def twin(tls: ssl.SSLContext | None = None) -> Iterator[tuple[TwinBmc, Callable[[Credentials], Bmc]]]:
    bmc = TwinBmc(TwinBmcSpec("n", "SN", UUID, gpu_serials=("1",)), ManualClock())
    server = BmcServer(tls=tls)
    server.start()
    try:
        address = server.add(bmc)
        yield bmc, lambda credentials: RedfishBmcs(QUICK).open(address, credentials)
    finally:
        server.close()


def test_a_session_that_ended_is_opened_again_and_closed_at_the_end() -> None:
    with twin() as (state, open_it):
        with open_it(CREDENTIALS) as bmc:
            bmc.power_state()
            state.sessions.clear()
            bmc.reset(ResetKind.ON, permit=PERMIT)
            assert state.power == "On" and len(state.sessions) == 1
        assert state.sessions == {}


def test_with_all_sessions_taken_each_call_brings_the_password() -> None:
    with twin() as (state, open_it), open_it(CREDENTIALS) as bmc:
        state.sessions |= {f"t{n}": f"s{n}" for n in range(MAX_SESSIONS)}
        assert bmc.power_state() is PowerState.OFF
        assert len(state.sessions) == MAX_SESSIONS


def test_a_password_that_stops_working_meanwhile() -> None:
    with twin() as (state, open_it), open_it(CREDENTIALS) as bmc:
        bmc.power_state()
        state.faults.refuse_password = True
        with pytest.raises(Unauthenticated):
            bmc.power_state()


def test_a_service_that_wants_an_etag_gets_it() -> None:
    with twin() as (state, open_it), open_it(CREDENTIALS) as bmc:
        state.faults.wants_etag = True
        bmc.boot_once(BootTarget.PXE, permit=PERMIT)
        assert (state.boot_enabled, state.boot_target) == ("Once", "Pxe")


def test_a_slow_bmc_is_unreachable_not_endless() -> None:
    with twin() as (state, open_it), open_it(CREDENTIALS) as bmc:
        state.faults.slow_seconds = 30
        with pytest.raises(Unreachable, match="no answer within"):
            bmc.power_state()


def test_power_during_a_flash_ruins_it() -> None:
    with twin() as (state, open_it), open_it(CREDENTIALS) as bmc:
        bmc.reset(ResetKind.ON, permit=PERMIT)
        task = bmc.update_firmware("UEFI", "https://files/UEFI-01.06.00.bin", permit=PERMIT)
        bmc.reset(ResetKind.POWER_CYCLE, permit=PERMIT)
        assert state.interrupted_flashes == 1
        assert "damaged" in bmc.task(task).message


def test_a_second_flash_waits() -> None:
    with twin() as (_, open_it), open_it(CREDENTIALS) as bmc:
        bmc.update_firmware("UEFI", "https://files/UEFI-01.06.00.bin", permit=PERMIT)
        with pytest.raises(Unavailable, match="Another update"):
            bmc.update_firmware("FW_BMC_0", "https://files/FW_BMC-25.1.bin", permit=PERMIT)


def test_a_password_that_must_be_changed_first() -> None:
    body = json.dumps(
        {"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.18.PasswordChangeRequired", "MessageArgs": ["/a"]}]}}
    )

    raw = {path: json.dumps(d).encode() for path, d in tree().items()}
    handler = tree_handler(raw, {"/redfish/v1/SessionService/Sessions": (403, {}, body.encode())})
    with (
        serving(handler) as address,
        RedfishBmcs(QUICK).open(address, CREDENTIALS) as bmc,
        pytest.raises(Forbidden, match="wants the password of 'admin' changed"),
    ):
        bmc.power_state()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_pinned_certificate_is_the_only_one_taken(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "ca", SystemClock())
    certificate, key = authority.issue_server(["127.0.0.1"])
    (tmp_path / "cert").write_bytes(certificate)
    (tmp_path / "key").write_bytes(key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    leaf = ssl.PEM_cert_to_DER_cert(
        certificate.decode().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )
    pin = hashlib.sha256(leaf).hexdigest()
    with twin(tls) as (_, open_it):
        with open_it(Credentials("admin", "changeme", pin)) as bmc:
            assert bmc.power_state() is PowerState.OFF
        with (
            open_it(Credentials("admin", "changeme", "00" * 32)) as bmc,
            pytest.raises(Permanent, match="TLS certificate"),
        ):
            bmc.power_state()
        with open_it(CREDENTIALS) as bmc:
            assert bmc.power_state() is PowerState.OFF
        with RedfishBmcs(QUICK, ca_file=str(tmp_path / "ca" / "ca.pem")).open(bmc.address, CREDENTIALS) as checked:
            assert checked.power_state() is PowerState.OFF
        Authority.open(tmp_path / "other", SystemClock())
        other = RedfishBmcs(QUICK, ca_file=str(tmp_path / "other" / "ca.pem"))
        with other.open(bmc.address, CREDENTIALS) as checked, pytest.raises(Permanent, match="TLS certificate"):
            checked.power_state()
