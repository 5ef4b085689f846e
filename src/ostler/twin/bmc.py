"""The BMC of one simulated node: state, and `handle(method, path, headers, body)`. Built by the twin's fleet.

Shaped like an 8-GPU HGX server: the host `System_0` beside the board `HGX_Baseboard_0` (listed first, a trap that real
trees set too), a chassis per GPU, sessions and basic authentication, one-time boot, power, sensors, leak detectors, the
event log, and firmware updates that take simulated time. `bmc_tree.py` renders the documents, `bmc_server.py` listens.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ostler.core.clock import Clock

MAX_SESSIONS = 64
"""OpenBMC's limit on sessions at once; the next one is refused."""

RESETS = ("On", "ForceOff", "ForceOn", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PowerCycle")
BOOT_TARGETS = ("None", "Pxe", "Hdd", "Cd", "Diags", "BiosSetup", "Usb")
BOOT_ENABLED = ("Once", "Continuous", "Disabled")
_SYSTEM = "/redfish/v1/Systems/System_0"
_VERSION = re.compile(r"[-_]v?(\d[\w.+]*?)\.[A-Za-z]+$")


@dataclass(frozen=True)
class TwinBmcSpec:
    """What the node is made of. `firmware` empty: a default set for `len(gpu_serials)` GPUs."""

    name: str
    serial: str
    uuid: str
    macs: tuple[str, ...] = ()
    gpu_serials: tuple[str, ...] = ()
    gpu_model: str = "NVIDIA H100 80GB HBM3"
    manufacturer: str = "Fleet"
    model: str = "HGX-8"
    memory_gib: float = 2048.0
    cpu_model: str = "Intel(R) Xeon(R) Platinum 8480+"
    cpus: int = 2
    cores: int = 56
    psus: int = 6
    drives: int = 8
    username: str = "admin"
    password: str = field(default="changeme", repr=False)
    firmware: Mapping[str, str] = field(default_factory=dict)
    flash_seconds: float = 600.0
    """Domain seconds that a firmware update takes."""


@dataclass(frozen=True)
class Response:
    """What `handle` answers; the server adds lengths and connection headers."""

    status: int
    document: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Faults:
    """What is wrong with this BMC, set by the scenario. The server reads `unreachable` and `slow_seconds`."""

    unreachable: bool = False
    """Connections are dropped without an answer."""
    slow_seconds: float = 0.0
    """Real seconds before each answer."""
    refuse_password: bool = False
    flash: str | None = None
    """When set, updates that start now end in this message."""
    wants_etag: bool = False
    """PATCH without If-Match is answered 428, as some services do."""


@dataclass
class Flash:
    """One firmware update; its progress follows from the clock."""

    number: int
    component: str
    version: str
    started: float
    seconds: float
    failure: str | None
    ended: bool = False


@dataclass(frozen=True)
class LogLine:
    number: int
    at: float
    severity: str
    message: str
    message_id: str


class TwinBmc:
    """State of one controller. Any thread may read and set; `handle` runs in the server's thread.

    `on_power` is called with `on`, `off`, `graceful-off`, `graceful-restart`, `force-restart` or `power-cycle`, after
    the state changed and without a lock held; it must not block. The node calls `booted()` when it starts to boot.
    """

    def __init__(self, spec: TwinBmcSpec, clock: Clock, on_power: Callable[[str], None] | None = None) -> None:
        self.spec = spec
        self.clock = clock
        self.on_power = on_power
        self.on_write: Callable[[str], None] | None = None
        """Hears of each request that would change something, whatever came of it; sessions are none."""
        self.faults = Faults()
        self.password = spec.password
        self.power = "Off"
        self.boot_enabled = "Disabled"
        self.boot_target = "None"
        self.firmware: dict[str, str] = dict(spec.firmware) or default_firmware(len(spec.gpu_serials))
        self.readings: dict[str, tuple[float | None, str]] = {}
        """Overrides by sensor id: (reading, health OK | Warning | Critical)."""
        self.leaks: dict[str, str] = {}
        """Overrides by leak detector id: Warning | Critical."""
        self.log: list[LogLine] = []
        self.flashes: list[Flash] = []
        self.manager_resets = 0
        """How often the controller itself was restarted."""
        self.interrupted_flashes = 0
        """Power was changed while a flash ran: what Ostler must never do."""
        self.sessions: dict[str, str] = {}
        self._log_number = 0
        self._lock = threading.RLock()

    # what the node and the scenario do

    def booted(self) -> str:
        """The host starts to boot: `pxe`, `disk` or `none` (its own order). Clears a one-time override."""
        with self._lock:
            target = self.boot_target if self.boot_enabled != "Disabled" else "None"
            if self.boot_enabled == "Once":
                self.boot_enabled, self.boot_target = "Disabled", "None"
            return {"Pxe": "pxe", "Hdd": "disk"}.get(target, "none")

    def host_powered(self, on: bool) -> None:
        """The host changed its power by itself (an operating system's shutdown, a pressed button)."""
        with self._lock:
            self.power = "On" if on else "Off"

    def add_log(self, message: str, message_id: str = "Base.1.18.GeneralError", severity: str = "OK") -> None:
        with self._lock:
            self._log_number += 1
            self.log.append(LogLine(self._log_number, self.clock.now(), severity, message, message_id))

    def clear_log(self) -> None:
        """As an operator does; ids start anew, as they do on many controllers."""
        with self._lock:
            self.log.clear()
            self._log_number = 0

    def settle(self) -> None:
        """Bring firmware versions up to the clock: a finished flash has changed them."""
        with self._lock:
            now = self.clock.now()
            for flash in self.flashes:
                if not flash.ended and now - flash.started >= flash.seconds:
                    flash.ended = True
                    if flash.failure is None:
                        self.firmware[flash.component] = flash.version

    def set_power(self, kind: str) -> bool:
        """Carry out a Redfish ResetType; False when it is impossible in this power state."""
        with self._lock:
            self.settle()
            off = self.power == "Off"
            if off and kind in ("ForceRestart", "GracefulRestart", "GracefulShutdown"):
                return False
            if (kind in ("On", "ForceOn") and not off) or (kind == "ForceOff" and off):
                return True
            for flash in self.flashes:
                if not flash.ended:
                    flash.ended, flash.failure = True, "Power was changed during the update; the image is damaged."
                    self.interrupted_flashes += 1
            if kind == "ForceOff":
                self.power = "Off"
            elif kind in ("On", "ForceOn", "PowerCycle"):
                self.power = "On"
            event = {
                "On": "on",
                "ForceOn": "on",
                "ForceOff": "off",
                "GracefulShutdown": "graceful-off",
                "GracefulRestart": "graceful-restart",
                "ForceRestart": "force-restart",
                "PowerCycle": "power-cycle",
            }[kind]
        if self.on_power is not None:
            self.on_power(event)
        return True

    # what Redfish clients do

    def handle(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer one request. `headers` have lower-case names. Never raises on hostile input."""
        path, _, query = target.partition("?")
        path = path.rstrip("/") or "/"
        with self._lock:
            self.settle()
        if method == "POST" and path == "/redfish/v1/SessionService/Sessions":
            return self._log_in(body)
        if path not in ("/redfish", "/redfish/v1", "/redfish/v1/$metadata") and not self._knows(headers):
            return _error(401, "NoValidSession", "There is no valid session established with the implementation.")
        if method in ("GET", "HEAD"):
            return self._read(path, query)
        if self.on_write is not None and "/SessionService/" not in path:
            told = body[:200].decode("utf-8", "replace")
            self.on_write(f"{method} {path.removeprefix('/redfish/v1')} {told}".strip())
        if method == "POST":
            return self._act(path, body)
        if method == "PATCH" and path == _SYSTEM:
            return self._patch(headers, body)
        if method == "DELETE" and path.startswith("/redfish/v1/SessionService/Sessions/"):
            return self._log_out(path.rsplit("/", 1)[-1])
        return _error(405, "OperationNotAllowed", f"{method} is not allowed on this resource.")

    def etag(self) -> str:
        return f'W/"{self.power}-{self.boot_enabled}-{self.boot_target}"'

    def _right(self, name: str, password: str) -> bool:
        if self.faults.refuse_password:
            return False
        given, right = f"{name}\n{password}", f"{self.spec.username}\n{self.password}"
        return hmac.compare_digest(given.encode(errors="replace"), right.encode())

    def _knows(self, headers: Mapping[str, str]) -> bool:
        token = headers.get("x-auth-token")
        if token is not None:
            return token in self.sessions and not self.faults.refuse_password
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        return self._right(name, password)

    def _log_in(self, body: bytes) -> Response:
        given = _json(body)
        name, password = given.get("UserName"), given.get("Password")
        if not isinstance(name, str) or not isinstance(password, str) or not self._right(name, password):
            return _error(401, "NoValidSession", "The user name or password is wrong.")
        with self._lock:
            if len(self.sessions) >= MAX_SESSIONS:
                return _error(503, "SessionLimitExceeded", "The session establishment failed: too many sessions.")
            token, number = secrets.token_hex(16), secrets.token_hex(5)
            self.sessions[token] = number
        where = f"/redfish/v1/SessionService/Sessions/{number}"
        document = {"@odata.id": where, "@odata.type": "#Session.v1_5_0.Session", "Id": number, "Name": "User Session"}
        return Response(201, {**document, "UserName": name}, {"X-Auth-Token": token, "Location": where})

    def _log_out(self, number: str) -> Response:
        with self._lock:
            token = next((t for t, n in self.sessions.items() if n == number), None)
            if token is None:
                return _not_found(number)
            del self.sessions[token]
        return Response(204)

    def _read(self, path: str, query: str) -> Response:
        from ostler.twin import bmc_tree

        with self._lock:
            document = bmc_tree.document(self, path)
            if document is None:
                return _not_found(path)
            if "$expand=" in query and "Members" in document:
                whole = [bmc_tree.document(self, item["@odata.id"]) or item for item in document["Members"]]
                document = {**document, "Members": whole}
            return Response(200, document, {"ETag": self.etag()} if path == _SYSTEM else {})

    def _act(self, path: str, body: bytes) -> Response:
        given = _json(body)
        if path == f"{_SYSTEM}/Actions/ComputerSystem.Reset":
            kind = given.get("ResetType")
            if kind not in RESETS:
                return _error(400, "ActionParameterNotSupported", f"ResetType is none of {', '.join(RESETS)}.")
            if not self.set_power(kind):
                return _error(409, "ResourceInStandby", f"{kind} is not possible while the system is off.")
            return Response(204)
        if path == "/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate":
            return self._update(given)
        if path == "/redfish/v1/Managers/BMC_0/Actions/Manager.Reset":
            self.manager_resets += 1
            return Response(204)
        if path == f"{_SYSTEM}/LogServices/SEL/Actions/LogService.ClearLog":
            self.clear_log()
            return Response(204)
        return _not_found(path)

    def _update(self, given: Mapping[str, Any]) -> Response:
        image, targets = given.get("ImageURI"), given.get("Targets")
        if not isinstance(image, str) or not image.startswith(("http://", "https://")):
            return _error(400, "ActionParameterValueFormatError", "ImageURI is no http(s) address.")
        first = targets[0] if isinstance(targets, list) and targets and isinstance(targets[0], str) else ""
        component = first.rsplit("/", 1)[-1]
        version = _VERSION.search(image)
        with self._lock:
            if component not in self.firmware:
                return _error(400, "ActionParameterUnknown", "Targets names no component of the firmware inventory.")
            if version is None:
                return _error(400, "ActionParameterValueFormatError", "The image's name carries no version.")
            if any(not flash.ended for flash in self.flashes):
                return _error(503, "ServiceTemporarilyUnavailable", "Another update is in progress.")
            number, now = len(self.flashes) + 1, self.clock.now()
            flash = Flash(number, component, version[1], now, self.spec.flash_seconds, self.faults.flash)
            self.flashes.append(flash)
            where = f"/redfish/v1/TaskService/Tasks/{number}"
            document = {"@odata.id": where, "@odata.type": "#Task.v1_7_3.Task", "Id": str(number), "Name": "Update"}
            return Response(202, {**document, "TaskState": "Running", "TaskStatus": "OK"}, {"Location": where})

    def _patch(self, headers: Mapping[str, str], body: bytes) -> Response:
        boot = _json(body).get("Boot")
        if not isinstance(boot, dict):
            return _error(400, "PropertyUnknown", "Only Boot can be changed.")
        with self._lock:
            given = headers.get("if-match")
            if given is None and self.faults.wants_etag:
                return _error(428, "PreconditionRequired", "An If-Match header is required.")
            if given not in (None, "*", self.etag()):
                return _error(412, "PreconditionFailed", "The ETag does not match.")
            enabled = boot.get("BootSourceOverrideEnabled", self.boot_enabled)
            target = boot.get("BootSourceOverrideTarget", self.boot_target)
            if enabled not in BOOT_ENABLED or target not in BOOT_TARGETS:
                return _error(400, "PropertyValueNotInList", "The boot override has a value that is not allowed.")
            self.boot_enabled, self.boot_target = enabled, "None" if enabled == "Disabled" else target
        return Response(204)


def default_firmware(gpus: int) -> dict[str, str]:
    """The components of an HGX server of this size, under the names that its firmware uses."""
    items = {"FW_BMC_0": "24.09.17", "UEFI": "01.05.03", "HGX_FW_BMC_0": "HGX-22.10-1", "HGX_FW_FPGA_0": "4.24"}
    items |= {f"HGX_FW_GPU_SXM_{n}": "96.00.74.00.01" for n in range(1, gpus + 1)}
    items |= {f"HGX_FW_PCIeRetimer_{n}": "2.7.0" for n in range(gpus)}
    return items | {f"HGX_FW_NVSwitch_{n}": "96.10.55.00.01" for n in range(4 if gpus else 0)}


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _not_found(what: str) -> Response:
    return _error(404, "ResourceMissingAtURI", f"There is no resource at {what[:200]}.")


def _error(status: int, message_id: str, message: str) -> Response:
    info = {"MessageId": f"Base.1.18.{message_id}", "Message": message, "MessageSeverity": "Critical"}
    document = {"error": {"code": info["MessageId"], "message": message, "@Message.ExtendedInfo": [info]}}
    return Response(status, document, {"WWW-Authenticate": 'Basic realm="bmc"'} if status == 401 else {})
