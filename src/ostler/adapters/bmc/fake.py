"""BMCs in memory, for tests of everything above the port and for a `none` backend. Passes the same contract tests.

Not a protocol simulator: that is `twin/bmc.py`. A `FakeBmcs` is a factory over many `FakeBmc` states by address, so the
state outlives the conversation as it does in a real controller.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from ostler.adapters.bmc.port import (
    Bmc,
    BmcInventory,
    BootTarget,
    Credentials,
    EventLog,
    FirmwareItem,
    Identity,
    LogEntry,
    PowerState,
    ResetKind,
    Sensor,
    TaskState,
    UpdateTask,
    require_permit,
)
from ostler.core.clock import Clock, SystemClock
from ostler.core.errors import BadInput, Conflict, NotFound, Unauthenticated, Unreachable
from ostler.core.ids import PermitId


@dataclass(frozen=True)
class Call:
    """One disruptive call that was carried out, and the permit it came under."""

    what: str
    permit: PermitId
    at: float


@dataclass
class _Flash:
    component: str
    version: str
    started: float
    seconds: float
    failure: str | None


def _empty_inventory(identity: Identity) -> BmcInventory:
    return BmcInventory(identity, None, (), (), (), (), ())


@dataclass
class FakeBmc:
    """The state of one controller; tests read and set the fields freely."""

    identity: Identity
    inventory: BmcInventory | None = None
    credentials: Credentials = field(default_factory=lambda: Credentials("admin", "admin"))
    clock: Clock = field(default_factory=SystemClock)
    power: PowerState = PowerState.ON
    boot_target: BootTarget = BootTarget.NONE
    sensors: list[Sensor] = field(default_factory=list)
    firmware: dict[str, str] = field(default_factory=dict)
    log: list[LogEntry] = field(default_factory=list)
    flash_seconds: float = 600.0
    """Domain seconds that a flash takes."""
    unreachable: bool = False
    flash_failure: str | None = None
    """When set, the next flashes fail with this message."""
    on_power: Callable[[ResetKind], None] | None = None
    calls: list[Call] = field(default_factory=list)
    _flashes: dict[str, _Flash] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def booted(self) -> BootTarget:
        """The host boots: what it boots from. Uses up the one-time choice."""
        with self._lock:
            target, self.boot_target = self.boot_target, BootTarget.NONE
            return target


class FakeBmcs:
    """A `BmcFactory` over the fakes that were added to it."""

    def __init__(self) -> None:
        self.by_address: dict[str, FakeBmc] = {}

    def add(self, address: str, bmc: FakeBmc) -> FakeBmc:
        self.by_address[address] = bmc
        return bmc

    def open(self, address: str, credentials: Credentials) -> Bmc:
        return FakeConversation(address, credentials, self.by_address.get(address))


class FakeConversation:
    """`Bmc` over a `FakeBmc`; None is an address where nothing listens."""

    def __init__(self, address: str, credentials: Credentials, bmc: FakeBmc | None) -> None:
        self._address = address
        self._credentials = credentials
        self._bmc = bmc

    @property
    def address(self) -> str:
        return self._address

    def _reach(self) -> FakeBmc:
        bmc = self._bmc
        if bmc is None or bmc.unreachable:
            raise Unreachable("The BMC does not answer: connection refused.", where=self._address)
        ours = bmc.credentials
        if (self._credentials.username, self._credentials.password) != (ours.username, ours.password):
            raise Unauthenticated(
                f"The BMC refuses user {self._credentials.username!r}: wrong name or password.", where=self._address
            )
        return bmc

    def identity(self) -> Identity:
        return self._reach().identity

    def power_state(self) -> PowerState:
        return self._reach().power

    def inventory(self) -> BmcInventory:
        bmc = self._reach()
        return bmc.inventory or _empty_inventory(bmc.identity)

    def sensors(self) -> tuple[Sensor, ...]:
        return tuple(self._reach().sensors)

    def firmware(self) -> tuple[FirmwareItem, ...]:
        bmc = self._reach()
        with bmc._lock:
            for task_id in bmc._flashes:
                self._look(bmc, task_id)
            return tuple(FirmwareItem(name, version) for name, version in sorted(bmc.firmware.items()))

    def event_log(self, after: str = "") -> EventLog:
        entries = self._reach().log
        seen = int(after) if after.isdigit() else 0
        if seen > len(entries):
            seen = 0
        return EventLog(tuple(entries[seen:]), str(len(entries)))

    def task(self, task_id: str) -> UpdateTask:
        bmc = self._reach()
        with bmc._lock:
            if task_id not in bmc._flashes:
                raise NotFound(f"The BMC has no task {task_id!r}.", where=self._address)
            return self._look(bmc, task_id)

    def _look(self, bmc: FakeBmc, task_id: str) -> UpdateTask:
        flash = bmc._flashes[task_id]
        share = (bmc.clock.now() - flash.started) / flash.seconds if flash.seconds else 1.0
        if share < 1.0:
            return UpdateTask(task_id, TaskState.RUNNING, f"Updating {flash.component}.", int(share * 100))
        if flash.failure is not None:
            return UpdateTask(task_id, TaskState.FAILED, flash.failure, None)
        bmc.firmware[flash.component] = flash.version
        return UpdateTask(task_id, TaskState.DONE, f"{flash.component} is at {flash.version}.", 100)

    def reset(self, kind: ResetKind, *, permit: PermitId) -> None:
        require_permit(permit, f"Reset ({kind})", self._address)
        bmc = self._reach()
        with bmc._lock:
            restart = kind in (ResetKind.GRACEFUL_RESTART, ResetKind.FORCE_RESTART)
            if restart and bmc.power is not PowerState.ON:
                raise Conflict(f"The host is {bmc.power}: a {kind} needs it on.", where=self._address)
            bmc.calls.append(Call(f"reset {kind}", permit, bmc.clock.now()))
            wanted = PowerState.OFF if kind is ResetKind.OFF else PowerState.ON
            if kind in (ResetKind.ON, ResetKind.OFF) and bmc.power is wanted:
                return
            bmc.power = wanted
        if bmc.on_power is not None:
            bmc.on_power(kind)

    def reset_bmc(self, *, permit: PermitId) -> None:
        require_permit(permit, "Reset of the BMC", self._address)
        bmc = self._reach()
        with bmc._lock:
            bmc.calls.append(Call("reset_bmc", permit, bmc.clock.now()))

    def boot_once(self, target: BootTarget, *, permit: PermitId) -> None:
        require_permit(permit, f"Boot override ({target})", self._address)
        bmc = self._reach()
        with bmc._lock:
            bmc.calls.append(Call(f"boot_once {target}", permit, bmc.clock.now()))
            bmc.boot_target = target

    def update_firmware(self, component: str, image_url: str, *, permit: PermitId) -> str:
        require_permit(permit, f"Firmware update of {component}", self._address)
        bmc = self._reach()
        with bmc._lock:
            if component not in bmc.firmware:
                raise NotFound(f"The BMC knows no firmware component {component!r}.", where=self._address)
            version = version_in(image_url)
            if version is None:
                raise BadInput(f"{image_url!r} is no http(s) address of an image.", where=self._address)
            now = bmc.clock.now()
            bmc.calls.append(Call(f"update_firmware {component}", permit, now))
            task_id = str(len(bmc._flashes) + 1)
            bmc._flashes[task_id] = _Flash(component, version, now, bmc.flash_seconds, bmc.flash_failure)
            return task_id

    def close(self) -> None:
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def version_in(image_url: str) -> str | None:
    """The version a simulated image carries: what follows the last `-` of its file name, without the extension.

    `http://files/HGX_FW_BMC_0-24.10.1.fwpkg` is `24.10.1`. None when it is no http(s) address.
    """
    if not image_url.startswith(("http://", "https://")):
        return None
    name = image_url.rsplit("/", 1)[-1]
    stem = name.rsplit(".", 1)[0] if "." in name else name
    return stem.rsplit("-", 1)[-1] or None
