"""The last check before the world is touched: a BMC whose disruptive calls need a permit that is live right now.

`app.py` wraps every BMC in it, so no code path reaches a disruptive port around the brake, and a pause or a maintenance
lock that came after the permit still stops the call.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ostler.adapters.bmc.port import (
    Bmc,
    BmcInventory,
    BootTarget,
    EventLog,
    FirmwareItem,
    Identity,
    PowerState,
    ResetKind,
    Sensor,
    UpdateTask,
)
from ostler.brake import service, store
from ostler.brake.model import Held
from ostler.brake.pause_file import PauseFile
from ostler.core.errors import Refused
from ostler.core.ids import PermitId
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.nodes import store as nodes

_POWERS_ON = frozenset({ResetKind.ON, ResetKind.FORCE_RESTART, ResetKind.GRACEFUL_RESTART, ResetKind.POWER_CYCLE})


def check(tx: Tx, node_id: str, permit: PermitId, *, powers_on: bool = False) -> None:
    """Raise unless this permit is live for this node, and nothing has stopped automation since."""
    row = store.get(tx, permit)
    node = nodes.get(tx, node_id)
    if row is None or row["node_id"] != node_id:
        raise Refused(f"{permit} is no permit for {node.name}.")
    if row["released_at"] is not None or row["expires_at"] < tx.now:
        raise Refused(f"The permit {permit} for {node.name} is over; ask the brake again.")
    if (why := service.stopped(tx, node)) is not None:
        raise Held(f"{row['action']} of {node.name} is held: {why}.", delay=30.0)
    if row["action"] != store.FIRMWARE and store.flashing(tx, node_id):
        raise Held(f"{row['action']} of {node.name} is held: its firmware is being written.", delay=30.0)
    if powers_on and node.power_locked:
        raise Refused(f"Power-on of {node.name} is locked after a leak until a named person clears it.")


class GuardedBmc:
    """A BMC behind the brake; reading passes through."""

    def __init__(self, bmc: Bmc, db: Database, node_id: str, pause_file: PauseFile) -> None:
        self._bmc = bmc
        self._db = db
        self._node_id = node_id
        self._pause_file = pause_file

    @property
    def address(self) -> str:
        return self._bmc.address

    def identity(self) -> Identity:
        return self._bmc.identity()

    def power_state(self) -> PowerState:
        return self._bmc.power_state()

    def inventory(self) -> BmcInventory:
        return self._bmc.inventory()

    def sensors(self) -> tuple[Sensor, ...]:
        return self._bmc.sensors()

    def firmware(self) -> tuple[FirmwareItem, ...]:
        return self._bmc.firmware()

    def event_log(self, after: str = "") -> EventLog:
        return self._bmc.event_log(after)

    def task(self, task_id: str) -> UpdateTask:
        return self._bmc.task(task_id)

    def reset(self, kind: ResetKind, *, permit: PermitId) -> None:
        self._check(permit, powers_on=kind in _POWERS_ON)
        self._bmc.reset(kind, permit=permit)

    def reset_bmc(self, *, permit: PermitId) -> None:
        self._check(permit)
        self._bmc.reset_bmc(permit=permit)

    def boot_once(self, target: BootTarget, *, permit: PermitId) -> None:
        self._check(permit)
        self._bmc.boot_once(target, permit=permit)

    def update_firmware(self, component: str, image_url: str, *, permit: PermitId) -> str:
        self._check(permit)
        return self._bmc.update_firmware(component, image_url, permit=permit)

    def close(self) -> None:
        self._bmc.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _check(self, permit: PermitId, *, powers_on: bool = False) -> None:
        if (reason := self._pause_file.reason()) is not None:
            raise Held(f"All automation is paused by the file {self._pause_file.path} ({reason}).", delay=30.0)
        self._db.read(lambda tx: check(tx, self._node_id, permit, powers_on=powers_on))
