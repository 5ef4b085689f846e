"""The real BMC, over Redfish: DMTF's client underneath, this module what Ostler means by each call. See ADR 003.

`RedfishBmcs` is the factory that `app.py` builds; `RedfishBmc` is what jobs and monitors hold while they talk.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from ostler.adapters.bmc import redfish_read, redfish_sensors
from ostler.adapters.bmc.port import (
    Bmc,
    BmcInventory,
    BootTarget,
    Credentials,
    EventLog,
    FirmwareItem,
    Identity,
    PowerState,
    ResetKind,
    Sensor,
    TaskState,
    UpdateTask,
    require_permit,
)
from ostler.adapters.bmc.redfish_sensors import Places
from ostler.adapters.bmc.redfish_transport import Limits
from ostler.adapters.bmc.redfish_tree import (
    ROOT,
    Document,
    Quirks,
    Tree,
    child,
    children,
    host_system,
    link,
    path_of,
    text,
    texts,
    whole,
)
from ostler.adapters.bmc.redfish_wire import Answer, Wire
from ostler.core.errors import BadInput, NotFound, Permanent
from ostler.core.ids import PermitId

_POWER = {
    "On": PowerState.ON,
    "Off": PowerState.OFF,
    "PoweringOn": PowerState.POWERING_ON,
    "PoweringOff": PowerState.POWERING_OFF,
    "Paused": PowerState.PAUSED,
}
_RESET = {
    ResetKind.ON: ("On", "ForceOn"),
    ResetKind.OFF: ("ForceOff",),
    ResetKind.GRACEFUL_RESTART: ("GracefulRestart",),
    ResetKind.FORCE_RESTART: ("ForceRestart",),
    ResetKind.POWER_CYCLE: ("PowerCycle",),
}
"""In order of preference; a service that lists its values gets one that it lists."""
_RESET_BMC = ("GracefulRestart", "ForceRestart")
_BOOT = {BootTarget.PXE: "Pxe", BootTarget.DISK: "Hdd", BootTarget.NONE: "None"}
_DONE_AT_ONCE = "done-at-once"
"""The task id of an update that the service finished within the call."""


class RedfishBmcs:
    """A `BmcFactory`. `ca_file`: PEM bundle that BMC certificates are checked against.

    Without it, and without a fingerprint in the credentials, any certificate is taken: BMCs come with self-signed ones.
    """

    def __init__(self, limits: Limits | None = None, ca_file: str | None = None) -> None:
        self._limits = limits or Limits()
        self._ca_file = ca_file

    def open(self, address: str, credentials: Credentials) -> Bmc:
        return RedfishBmc(Wire(address, credentials, self._limits, self._ca_file))


class RedfishBmc:
    """`Bmc` over one Redfish service."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._host: str | None = None
        self._quirks = Quirks()
        self._places: Places | None = None
        self._learnt = 0.0
        """When (monotonic) what is remembered of the tree was begun, and after how many renewals of the session."""
        self._renewals = 0

    @property
    def address(self) -> str:
        return self._wire.address

    def _tree(self) -> Tree:
        """For one operation; what is remembered of the service is forgotten first when it is due."""
        now = time.monotonic()
        if self._wire.renewals != self._renewals or now - self._learnt >= self._wire.limits.layout_seconds:
            self._renewals, self._learnt = self._wire.renewals, now
            self._host, self._places, self._quirks = None, None, Quirks()
        return Tree(self._wire, self._quirks)

    def _system(self, tree: Tree) -> tuple[str, Document]:
        """The host's path, which is remembered, and its document, fresh."""
        if self._host is not None:
            try:
                return self._host, tree.get(self._host)
            except NotFound:
                self._host = None
        self._host, document = host_system(tree, self.address)
        return self._host, document

    def identity(self) -> Identity:
        tree = self._tree()
        return redfish_read.identity(tree, self._system(tree)[1])

    def power_state(self) -> PowerState:
        return _POWER.get(text(self._system(self._tree())[1], "PowerState"), PowerState.UNKNOWN)

    def inventory(self) -> BmcInventory:
        tree = self._tree()
        return redfish_read.inventory(tree, self._system(tree)[1])

    def sensors(self) -> tuple[Sensor, ...]:
        found, self._places = redfish_sensors.sensors(self._tree(), self._places)
        return found

    def firmware(self) -> tuple[FirmwareItem, ...]:
        return redfish_read.firmware(self._tree())

    def event_log(self, after: str = "") -> EventLog:
        tree = self._tree()
        return redfish_read.event_log(tree, self._system(tree)[1], after)

    def reset(self, kind: ResetKind, *, permit: PermitId) -> None:
        require_permit(permit, f"Reset ({kind})", self.address)
        tree = self._tree()
        path, system = self._system(tree)
        power = _POWER.get(text(system, "PowerState"), PowerState.UNKNOWN)
        if (kind, power) in ((ResetKind.ON, PowerState.ON), (ResetKind.OFF, PowerState.OFF)):
            return
        action = child(system, "Actions", "#ComputerSystem.Reset")
        allowed = texts(action, "ResetType@Redfish.AllowableValues") or self._allowed(tree, action, "ResetType")
        wanted = next((word for word in _RESET[kind] if not allowed or word in allowed), None)
        if wanted is None:
            raise BadInput(f"This BMC offers no {kind}; it offers {', '.join(sorted(allowed))}.", where=self.address)
        target = path_of({"@odata.id": action.get("target")}) or f"{path}/Actions/ComputerSystem.Reset"
        self._wire.post(target, {"ResetType": wanted})

    def reset_bmc(self, *, permit: PermitId) -> None:
        require_permit(permit, "Reset of the BMC", self.address)
        tree = self._tree()
        path, manager = self._manager(tree)
        action = child(manager, "Actions", "#Manager.Reset")
        allowed = texts(action, "ResetType@Redfish.AllowableValues") or self._allowed(tree, action, "ResetType")
        wanted = next((word for word in _RESET_BMC if not allowed or word in allowed), None)
        if not action or wanted is None:
            raise BadInput("This BMC offers no restart of itself.", where=self.address)
        target = path_of({"@odata.id": action.get("target")}) or f"{path}/Actions/Manager.Reset"
        self._wire.post(target, {"ResetType": wanted})

    def _manager(self, tree: Tree) -> tuple[str, Document]:
        """The controller that manages the host; in a tree without that link, the only one there is."""
        system = self._system(tree)[1]
        paths = [path_of(one) for one in children(child(system, "Links"), "ManagedBy")]
        if not paths:
            collection = tree.find(link(tree.get(ROOT), "Managers"))
            paths = [path_of(one) for one in children(collection, "Members")]
        found = [path for path in paths if path is not None]
        if len(found) != 1:
            raise BadInput(f"{len(found)} controllers manage this host; one is expected.", where=self.address)
        return found[0], tree.get(found[0])

    def boot_once(self, target: BootTarget, *, permit: PermitId) -> None:
        require_permit(permit, f"Boot override ({target})", self.address)
        path, system = self._system(self._tree())
        allowed = texts(child(system, "Boot"), "BootSourceOverrideTarget@Redfish.AllowableValues")
        wanted = _BOOT[target]
        if target is BootTarget.NONE:
            boot = {"BootSourceOverrideEnabled": "Disabled"}
        elif allowed and wanted not in allowed:
            raise BadInput(f"This BMC cannot boot from {target}; it offers {', '.join(allowed)}.", where=self.address)
        else:
            boot = {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": wanted}
        self._wire.patch(path, {"Boot": boot})

    def update_firmware(self, component: str, image_url: str, *, permit: PermitId) -> str:
        require_permit(permit, f"Firmware update of {component}", self.address)
        scheme = urlsplit(image_url).scheme if image_url.isprintable() and " " not in image_url else ""
        if scheme not in ("http", "https"):
            raise BadInput(f"{image_url!r} is no http(s) address of an image.", where=self.address)
        tree = self._tree()
        paths = {item.component: path for item, path in redfish_read.firmware_paths(tree)}
        if component not in paths:
            raise NotFound(f"The BMC knows no firmware component {component!r}.", where=self.address)
        service = tree.get(link(tree.get(ROOT), "UpdateService") or f"{ROOT}UpdateService")
        action = child(service, "Actions", "#UpdateService.SimpleUpdate")
        target = path_of({"@odata.id": action.get("target")})
        if target is None:
            other = (
                " It takes images by upload (MultipartHttpPushUri) only." if "MultipartHttpPushUri" in service else ""
            )
            raise Permanent(f"This BMC takes no image by its address (SimpleUpdate).{other}", where=self.address)
        body: dict[str, object] = {"ImageURI": image_url, "Targets": [paths[component]]}
        protocols = texts(action, "TransferProtocol@Redfish.AllowableValues")
        if scheme.upper() in protocols:
            body["TransferProtocol"] = scheme.upper()
        return self._task_of(self._wire.post(target, body))

    def _allowed(self, tree: Tree, action: Document, parameter: str) -> tuple[str, ...]:
        """Allowable values by ActionInfo, which some services use instead of the annotation (as a bare string, too)."""
        info = action.get("@Redfish.ActionInfo")
        for item in children(
            tree.find(path_of({"@odata.id": info}) or path_of(child(action, "@Redfish.ActionInfo"))), "Parameters"
        ):
            if text(item, "Name") == parameter:
                return texts(item, "AllowableValues")
        return ()

    def _task_of(self, answer: Answer) -> str:
        """The task's path: in the body, else in Location (which may be a full URL, or a task monitor)."""
        in_body = path_of(answer.document)
        if in_body is not None and "/Tasks/" in in_body:
            return in_body
        location = path_of({"@odata.id": urlsplit(answer.headers.get("location", "")).path})
        if location is not None:
            return location
        if answer.status in (200, 204):
            return _DONE_AT_ONCE
        raise BadInput("The BMC took the image but names no task to follow.", where=self.address)

    def task(self, task_id: str) -> UpdateTask:
        if task_id == _DONE_AT_ONCE:
            return UpdateTask(task_id, TaskState.DONE, "The BMC finished within the call.", 100)
        path = path_of({"@odata.id": task_id})
        if path is None:
            raise NotFound(f"The BMC has no task {task_id!r}.", where=self.address)
        answer = self._wire.get(path)
        return _task(task_id, answer)

    def close(self) -> None:
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _task(task_id: str, answer: Answer) -> UpdateTask:
    """A task resource or a task monitor's answer. States: Task schema 1.7; a monitor answers 202 until the end."""
    document = answer.document
    state, percent = text(document, "TaskState"), whole(document, "PercentComplete")
    messages = [text(item, "Message", 500) for item in children(document, "Messages")]
    message = next((said for said in reversed(messages) if said), state)
    if percent is not None and not 0 <= percent <= 100:
        percent = None
    if state in ("Exception", "Killed", "Cancelled", "Cancelling"):
        return UpdateTask(task_id, TaskState.FAILED, message, percent)
    if state == "Completed" or (not state and answer.status in (200, 204)):
        failed = text(document, "TaskStatus") == "Critical"
        return UpdateTask(task_id, TaskState.FAILED if failed else TaskState.DONE, message, 100)
    return UpdateTask(task_id, TaskState.RUNNING, message, percent)
