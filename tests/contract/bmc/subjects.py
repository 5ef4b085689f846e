"""What the BMC contract runs against: one `Subject` per implementation, with the facts that the cases compare to."""

from __future__ import annotations

import http.server
import json
import secrets
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ostler.adapters.bmc.fake import FakeBmc, FakeBmcs
from ostler.adapters.bmc.port import (
    Bmc,
    BmcFactory,
    BmcInventory,
    Cpu,
    Credentials,
    Drive,
    Gpu,
    Health,
    Identity,
    LogEntry,
    Nic,
    PowerState,
    Psu,
    Sensor,
    SensorKind,
)
from ostler.adapters.bmc.redfish import RedfishBmcs
from ostler.core.clock import ManualClock
from ostler.twin.bmc import TwinBmc, TwinBmcSpec
from ostler.twin.bmc_server import BmcServer

CREDENTIALS = Credentials("admin", "changeme")
UUID = "1e90aa6e-6d05-9589-2253-ce7672d02d26"
MACS = ("52:54:00:12:34:56", "52:54:00:12:34:57")
GPUS = tuple(f"16541234{n:05}" for n in range(8))
FLASHED = "HGX_FW_GPU_SXM_1"


@dataclass
class Subject:
    """One BMC under test, with the hooks that put it into a state (None: this one cannot)."""

    factory: BmcFactory
    address: str
    credentials: Credentials = CREDENTIALS
    identity: Identity | None = None
    gpus: int = 0
    writes: bool = False
    """Power and boot can be changed."""
    full: bool = False
    """Everything of the port works: the fake and the twin."""
    pause: float = 0.0
    """Seconds between looks while a power change is under way."""
    advance: Callable[[float], None] = lambda seconds: None
    add_log: Callable[[str], None] = lambda message: None
    clear_log: Callable[[], None] = lambda: None
    fail_flash: Callable[[str], None] = lambda message: None
    unreachable: Callable[[], None] = lambda: None
    overheat: Callable[[str, float], None] = lambda sensor, value: None
    boot: Callable[[], str] = lambda: ""
    bmc_resets: Callable[[], int] = lambda: 0
    power_events: list[str] = field(default_factory=list)

    def open(self) -> Bmc:
        return self.factory.open(self.address, self.credentials)

    def wait_for(self, bmc: Bmc, state: PowerState) -> None:
        """A real controller takes its time; the deadline is far beyond the 11 s that the slowest here needs."""
        deadline = time.monotonic() + 60
        while bmc.power_state() is not state:
            if time.monotonic() > deadline:
                pytest.fail(f"{self.address} did not reach {state}")
            time.sleep(self.pause)


def fake() -> Subject:
    clock = ManualClock()
    identity = Identity("SN-1", UUID, "Fleet", "HGX-8")
    inventory = BmcInventory(
        identity,
        2048.0,
        tuple(Cpu(f"CPU_{n}", "Intel(R) Xeon(R) Platinum 8480+", 56) for n in range(2)),
        tuple(Gpu(f"GPU_SXM_{n}", "NVIDIA H100 80GB HBM3", serial, "") for n, serial in enumerate(GPUS, 1)),
        tuple(Nic(f"eth{n}", mac) for n, mac in enumerate(MACS)),
        tuple(Psu(f"PSU_{n}", "PSU 3300 W", f"P{n}", 3300.0, Health.OK) for n in range(6)),
        tuple(Drive(f"NVMe_{n}", "NVMe 3.84 TB", f"D{n}", 3_840_755_982_336) for n in range(8)),
    )
    events: list[str] = []
    bmc = FakeBmc(
        identity,
        inventory,
        CREDENTIALS,
        clock,
        power=PowerState.OFF,
        firmware={FLASHED: "96.00.74.00.01", "UEFI": "01.05.03"},
        on_power=lambda kind: events.append(str(kind)),
    )
    hot = "HGX_GPU_SXM_1_TEMP_0"
    bmc.sensors = [
        Sensor(hot, "HGX_GPU_SXM_1", SensorKind.TEMPERATURE, 41.0, "Cel", 92.0, Health.OK),
        Sensor("FAN_1", "BMC_0", SensorKind.FAN, 7800.0, "RPM", None, Health.OK),
        Sensor("LeakDetector_0_ColdPlate", "BMC_0", SensorKind.LEAK, 0.0, "", None, Health.OK),
    ]

    def overheat(name: str, value: float) -> None:
        old = next(s for s in bmc.sensors if s.name == name)
        new = Sensor(name, old.chassis, old.kind, value, old.unit, old.upper_critical, Health.CRITICAL)
        bmc.sensors = [new if s is old else s for s in bmc.sensors]

    def add_log(message: str) -> None:
        number = str(len(bmc.log) + 1)
        bmc.log.append(LogEntry("System_0/SEL", number, clock.now(), Health.OK, message, "Base.1.18.GeneralError"))

    def fail_flash(message: str) -> None:
        bmc.flash_failure = message

    def unreachable() -> None:
        bmc.unreachable = True

    fakes = FakeBmcs()
    fakes.add("https://10.0.0.1", bmc)
    return Subject(
        fakes,
        "https://10.0.0.1",
        identity=identity,
        gpus=8,
        writes=True,
        full=True,
        advance=clock.advance,
        add_log=add_log,
        clear_log=bmc.log.clear,
        fail_flash=fail_flash,
        unreachable=unreachable,
        overheat=overheat,
        boot=bmc.booted,
        bmc_resets=lambda: [call.what for call in bmc.calls].count("reset_bmc"),
        power_events=events,
    )


@contextmanager
def twin() -> Iterator[Subject]:
    clock = ManualClock()
    events: list[str] = []
    bmc = TwinBmc(TwinBmcSpec("gpu-0001", "SN-1", UUID, MACS, GPUS), clock, events.append)
    server = BmcServer()
    server.start()

    def fail_flash(message: str) -> None:
        bmc.faults.flash = message

    def unreachable() -> None:
        bmc.faults.unreachable = True

    def overheat(name: str, value: float) -> None:
        bmc.readings[name] = (value, "Critical")

    try:
        yield Subject(
            RedfishBmcs(),
            server.add(bmc),
            identity=Identity("SN-1", UUID, "Fleet", "HGX-8"),
            gpus=8,
            writes=True,
            full=True,
            advance=clock.advance,
            add_log=bmc.add_log,
            clear_log=bmc.clear_log,
            fail_flash=fail_flash,
            unreachable=unreachable,
            overheat=overheat,
            boot=bmc.booted,
            bmc_resets=lambda: bmc.manager_resets,
            power_events=events,
        )
    finally:
        server.close()


@contextmanager
def recorded(archive: Path, identity: Identity, gpus: int) -> Iterator[Subject]:
    """A recorded tree, served from the archive as it was captured."""
    with serving(tree_handler(read_tree(archive))) as address:
        yield Subject(RedfishBmcs(), address, identity=identity, gpus=gpus)


def read_tree(archive: Path) -> dict[str, bytes]:
    """Path -> document of a captured tree (`…/index.json`)."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isfile() and name.endswith("/index.json") and (file := tar.extractfile(member)):
                found["/" + name.removesuffix("/index.json")] = file.read()
    return found


def tree_handler(
    tree: dict[str, bytes],
    odd: Mapping[str, tuple[int, dict[str, str], bytes]] | None = None,
    asked: list[str] | None = None,
) -> type[http.server.BaseHTTPRequestHandler]:
    """Serves a tree read-only, with sessions. `odd`: (status, headers, body) for paths that answer differently.

    `asked` collects the paths that were read.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            self.wfile.write((head + "".join(f"{k}: {v}\r\n" for k, v in headers.items())).encode() + b"\r\n" + body)

        def is_odd(self) -> bool:
            if odd is None or self.path not in odd:
                return False
            status, headers, body = odd[self.path]
            self.answer(status, body, headers)
            return True

        def do_GET(self) -> None:
            if self.is_odd():
                return
            if asked is not None:
                asked.append(self.path)
            body = tree.get(self.path.partition("?")[0].rstrip("/"))
            self.answer(404 if body is None else 200, body or b"{}", {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.is_odd():
                return
            if self.path.endswith("/Sessions"):
                where = f"{self.path}/1"
                token = {"X-Auth-Token": secrets.token_hex(8), "Location": where}
                self.answer(201, json.dumps({"@odata.id": where}).encode(), token)
            else:
                self.answer(405, b"{}", {})

        def do_DELETE(self) -> None:
            self.answer(204, b"", {})

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """An HTTP server on a port of its own, with one thread per connection; its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def sushy(folder: Path) -> Iterator[Subject]:
    """sushy-tools' emulator with its fake driver: a foreign, minimal BMC. Its power changes take up to 11 s."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "sushy.conf"
    config.write_text(f"SUSHY_EMULATOR_STATE_DIR = {str(folder)!r}\n")
    command = [str(Path(sys.executable).parent / "sushy-emulator"), "--fake", "-i", "127.0.0.1", "-p", str(port)]
    address = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--config", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"sushy-emulator did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield Subject(RedfishBmcs(), address, writes=True, pause=0.2)
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/redfish/v1/", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False
