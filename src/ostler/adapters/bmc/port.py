"""What Ostler asks of a baseboard management controller (BMC). Called by jobs, monitors and `ostler adopt`.

One `Bmc` is a conversation with one controller: open it, use it from one thread, close it. The calls that disrupt the
host take the permit under which they happen, as a required keyword; without one they refuse (DESIGN, principle 7).

Every call may raise
- `Unreachable` (temporary): refused, timed out, connection dropped; one line that names the address;
- `Unavailable` (temporary): it answers, but is busy (HTTP 429, 503) or broken (other HTTP 5xx);
- `Unauthenticated` / `Forbidden` (permanent): the user name or password is wrong, or may not do this;
- `BadInput` (permanent): the answer is no Redfish (HTML, wrong types, too large, cyclic), or the request is impossible;
- `Conflict` (permanent): not in this power state; `NotFound`: no such task, component or resource.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from ostler.core.errors import Refused
from ostler.core.ids import PermitId


class PowerState(StrEnum):
    """The host's power as the BMC reports it (Redfish `PowerState`); `unknown` when it does not say."""

    ON = "on"
    OFF = "off"
    POWERING_ON = "powering-on"
    POWERING_OFF = "powering-off"
    PAUSED = "paused"
    UNKNOWN = "unknown"


class ResetKind(StrEnum):
    """What to do with the host's power. `off` does not ask the operating system; `power-cycle` drops the rails."""

    ON = "on"
    OFF = "off"
    GRACEFUL_RESTART = "graceful-restart"
    FORCE_RESTART = "force-restart"
    POWER_CYCLE = "power-cycle"


class BootTarget(StrEnum):
    """What the next boot, and only that one, starts from; `none` withdraws an earlier choice."""

    PXE = "pxe"
    DISK = "disk"
    NONE = "none"


class Health(StrEnum):
    """Redfish `Status.Health`; `unknown` when the BMC does not say, which is never taken for healthy."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class SensorKind(StrEnum):
    """What a sensor measures (Redfish `ReadingType`). A leak detector is `leak`: value 1 when wet, 0 when dry."""

    TEMPERATURE = "temperature"
    FAN = "fan"
    POWER = "power"
    VOLTAGE = "voltage"
    CURRENT = "current"
    ENERGY = "energy"
    LEAK = "leak"
    OTHER = "other"


class TaskState(StrEnum):
    """How far a firmware update is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Credentials:
    """How to log in to one BMC. `fingerprint`: SHA-256 of its TLS certificate in hex, when it is pinned."""

    username: str
    password: str = field(repr=False)
    fingerprint: str | None = None


@dataclass(frozen=True)
class Identity:
    """Who the host is. Empty strings where the BMC does not say; judging blank and default serials is not done here."""

    serial: str
    """The serial the operating system sees too (for Dell the service tag, which Redfish calls SKU)."""
    uuid: str
    manufacturer: str
    model: str


@dataclass(frozen=True)
class Cpu:
    name: str
    model: str
    cores: int | None
    serial: str = ""


@dataclass(frozen=True)
class Gpu:
    name: str
    model: str
    serial: str
    uuid: str


@dataclass(frozen=True)
class Nic:
    name: str
    mac: str
    """Lower case, colons: `52:54:00:12:34:56`."""
    serial: str = ""
    """Of the adapter that it is on: its ports share it."""


@dataclass(frozen=True)
class Psu:
    name: str
    model: str
    serial: str
    capacity_watts: float | None
    health: Health


@dataclass(frozen=True)
class Drive:
    name: str
    model: str
    serial: str
    capacity_bytes: int | None


@dataclass(frozen=True)
class Board:
    """A baseboard or another board with a serial number of its own."""

    name: str
    model: str
    serial: str


@dataclass(frozen=True)
class BmcInventory:
    """What the BMC sees in the chassis. A part it does not see is absent: no number is invented."""

    identity: Identity
    memory_gib: float | None
    cpus: tuple[Cpu, ...]
    gpus: tuple[Gpu, ...]
    nics: tuple[Nic, ...]
    psus: tuple[Psu, ...]
    drives: tuple[Drive, ...]
    unread: tuple[str, ...] = ()
    """Resources that the BMC lists but did not serve: with any here, what is missing here proves nothing."""
    boards: tuple[Board, ...] = ()


@dataclass(frozen=True)
class Sensor:
    """One reading. `value` is None when the sensor gives none (host off, sensor absent)."""

    name: str
    """The BMC's own id, e.g. `HGX_GPU_SXM_1_TEMP_0`; unique within its chassis."""
    chassis: str
    kind: SensorKind
    value: float | None
    unit: str
    """As Redfish gives it (UCUM): `Cel`, `RPM`, `W`, `V`, `A`, `J`, `%`."""
    upper_critical: float | None
    health: Health


@dataclass(frozen=True)
class FirmwareItem:
    """One component's installed version."""

    component: str
    version: str


@dataclass(frozen=True)
class LogEntry:
    """One line of the controller's own log (SEL)."""

    log: str
    """Which log it stands in, e.g. `System_0/SEL`."""
    id: str
    created: float | None
    """UTC epoch seconds by the BMC's clock, which is often wrong."""
    severity: Health
    message: str
    message_id: str


@dataclass(frozen=True)
class EventLog:
    """New entries, oldest first within each log, and the position to ask from next time."""

    entries: tuple[LogEntry, ...]
    position: str
    """Opaque; holds the last id per log, because BMC clocks cannot be trusted. A cleared log is read from its start."""


@dataclass(frozen=True)
class UpdateTask:
    """A firmware update under way or finished."""

    id: str
    state: TaskState
    message: str
    percent: int | None


class Bmc(Protocol):
    """One management controller. See the module for what every call may raise."""

    @property
    def address(self) -> str: ...

    def identity(self) -> Identity: ...

    def power_state(self) -> PowerState: ...

    def inventory(self) -> BmcInventory: ...

    def sensors(self) -> tuple[Sensor, ...]: ...

    def firmware(self) -> tuple[FirmwareItem, ...]: ...

    def event_log(self, after: str = "") -> EventLog:
        """Entries since `after`, a position that an earlier call returned; all of them for the empty position."""
        ...

    def task(self, task_id: str) -> UpdateTask: ...

    def reset(self, kind: ResetKind, *, permit: PermitId) -> None:
        """Change the host's power. Switching on what is on, or off what is off, does nothing and is no error.

        Returns when the BMC has accepted it: the host follows; look at `power_state`.
        """
        ...

    def reset_bmc(self, *, permit: PermitId) -> None:
        """Restart the controller itself. The host works on; the controller answers again some minutes later."""
        ...

    def boot_once(self, target: BootTarget, *, permit: PermitId) -> None:
        """Choose what the next boot starts from. It changes no power by itself."""
        ...

    def update_firmware(self, component: str, image_url: str, *, permit: PermitId) -> str:
        """Start flashing `component` (a name from `firmware()`) with the image at `image_url`; returns the task id."""
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...


class BmcFactory(Protocol):
    """Opens conversations. `app.py` hands one to every feature that needs BMCs."""

    def open(self, address: str, credentials: Credentials) -> Bmc:
        """A conversation with the BMC at `address`: `https://10.0.0.7`; a bare host means https. Touches no network."""
        ...


def require_permit(permit: PermitId, what: str, address: str) -> None:
    """The last line of defence, in every implementation: no permit, no disruption."""
    if not permit:
        raise Refused(f"{what} needs a permit of the brake, and none was given.", where=address)
