"""The documents that a simulated BMC serves, rendered from its state on each request. Called by `bmc.py`.

Nothing is kept per node: thousands of BMCs share this code and hold a few kilobytes each. Names follow the recorded
tree of a real NVIDIA server (`HGX_GPU_SXM_1_TEMP_0`, `HGX_FW_*`); property names are DMTF's (schema bundle 2025.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ostler.core.clock import iso
from ostler.twin.bmc_chassis import chassis
from ostler.twin.bmc_document import V1, collection, link, ok

if TYPE_CHECKING:
    from ostler.twin.bmc import TwinBmc


def document(bmc: TwinBmc, path: str) -> dict[str, Any] | None:
    """The resource at `path`, or None. The caller holds the BMC's lock."""
    if path == "/redfish":
        return {"v1": f"{V1}/"}
    if path != V1 and not path.startswith(f"{V1}/"):
        return None
    parts = tuple(part for part in path[len(V1) :].split("/") if part)
    found = _find(bmc, parts)
    if found is None:
        return None
    return {"@odata.id": path, "Name": parts[-1] if parts else "Root Service", **found}


def _find(bmc: TwinBmc, parts: tuple[str, ...]) -> Mapping[str, Any] | None:
    if not parts:
        return _root(bmc)
    match parts[0]:
        case "SessionService":
            return _sessions(bmc, parts[1:])
        case "Systems":
            return _systems(bmc, parts[1:])
        case "Chassis":
            return chassis(bmc, parts[1:])
        case "Managers":
            return _managers(bmc, parts[1:])
        case "UpdateService":
            return _updates(bmc, parts[1:])
        case "TaskService":
            return _tasks(bmc, parts[1:])
    return None


def _root(bmc: TwinBmc) -> dict[str, Any]:
    links = ("Systems", "Chassis", "Managers", "UpdateService", "SessionService")
    return {
        "@odata.type": "#ServiceRoot.v1_17_0.ServiceRoot",
        "Id": "RootService",
        "RedfishVersion": "1.20.0",
        "UUID": bmc.spec.uuid,
        "Vendor": bmc.spec.manufacturer,
        **{name: link(name) for name in links},
        "Tasks": link("TaskService"),
        "Links": {"Sessions": link("SessionService", "Sessions")},
        "ProtocolFeaturesSupported": {
            "ExpandQuery": {"ExpandAll": False, "Levels": True, "Links": False, "MaxLevels": 1, "NoLinks": True}
        },
    }


def _sessions(bmc: TwinBmc, parts: tuple[str, ...]) -> Mapping[str, Any] | None:
    at = ("SessionService", "Sessions")
    if not parts:
        return {
            "@odata.type": "#SessionService.v1_1_9.SessionService",
            "Id": "SessionService",
            "ServiceEnabled": True,
            "Sessions": link(*at),
        }
    if parts == ("Sessions",):
        return collection("Session", at, list(bmc.sessions.values()))
    if len(parts) == 2 and parts[1] in bmc.sessions.values():
        return {"@odata.type": "#Session.v1_5_0.Session", "Id": parts[1], "UserName": bmc.spec.username}
    return None


def _systems(bmc: TwinBmc, parts: tuple[str, ...]) -> Mapping[str, Any] | None:
    spec = bmc.spec
    boards = ("HGX_Baseboard_0",) if spec.gpu_serials else ()
    match parts:
        case ():
            return collection("ComputerSystem", ("Systems",), [*boards, "System_0"])
        case ("System_0",):
            return _host(bmc)
        case ("HGX_Baseboard_0",) if boards:
            return {
                "@odata.type": "#ComputerSystem.v1_22_0.ComputerSystem",
                "Id": "HGX_Baseboard_0",
                "Manufacturer": "NVIDIA",
                "Model": "HGX",
                "SerialNumber": f"BB{spec.serial}",
                "SystemType": "Physical",
                "PowerState": bmc.power,
                "Status": ok(),
                "Processors": link("Systems", "HGX_Baseboard_0", "Processors"),
                "Links": {"Chassis": [link("Chassis", "HGX_Chassis_0")]},
            }
        case ("HGX_Baseboard_0", "Processors") if boards:
            names = [f"GPU_SXM_{n}" for n in range(1, len(spec.gpu_serials) + 1)]
            return collection("Processor", ("Systems", *parts), names)
        case ("HGX_Baseboard_0", "Processors", name):
            return _gpu(bmc, name)
        case ("System_0", *rest):
            return _host_part(bmc, tuple(rest))
    return None


def _host(bmc: TwinBmc) -> dict[str, Any]:
    from ostler.twin.bmc import BOOT_ENABLED, BOOT_TARGETS, RESETS

    spec, at = bmc.spec, ("Systems", "System_0")
    return {
        "@odata.type": "#ComputerSystem.v1_22_0.ComputerSystem",
        "Id": "System_0",
        "SystemType": "Physical",
        "Manufacturer": spec.manufacturer,
        "Model": spec.model,
        "SerialNumber": spec.serial,
        "UUID": spec.uuid,
        "HostName": spec.name,
        "PowerState": bmc.power,
        "Status": ok(state="Enabled" if bmc.power == "On" else "StandbyOffline"),
        "MemorySummary": {"TotalSystemMemoryGiB": spec.memory_gib, "Status": ok()},
        "ProcessorSummary": {"Count": spec.cpus, "Model": spec.cpu_model, "Status": ok()},
        "Boot": {
            "BootSourceOverrideEnabled": bmc.boot_enabled,
            "BootSourceOverrideEnabled@Redfish.AllowableValues": list(BOOT_ENABLED),
            "BootSourceOverrideTarget": bmc.boot_target,
            "BootSourceOverrideTarget@Redfish.AllowableValues": list(BOOT_TARGETS),
            "BootSourceOverrideMode": "UEFI",
        },
        "Actions": {
            "#ComputerSystem.Reset": {
                "target": f"{V1}/Systems/System_0/Actions/ComputerSystem.Reset",
                "ResetType@Redfish.AllowableValues": list(RESETS),
            }
        },
        **{name: link(*at, name) for name in ("Processors", "Memory", "EthernetInterfaces", "LogServices", "Storage")},
        "Links": {"Chassis": [link("Chassis", "BMC_0")], "ManagedBy": [link("Managers", "BMC_0")]},
    }


def _host_part(bmc: TwinBmc, parts: tuple[str, ...]) -> Mapping[str, Any] | None:
    spec, at = bmc.spec, ("Systems", "System_0", *parts)
    match parts:
        case ("Processors",):
            return collection("Processor", at, [f"CPU_{n}" for n in range(spec.cpus)])
        case ("Processors", name) if name in {f"CPU_{n}" for n in range(spec.cpus)}:
            kind = {"@odata.type": "#Processor.v1_20_0.Processor", "Id": name, "ProcessorType": "CPU"}
            return {**kind, "Model": spec.cpu_model, "TotalCores": spec.cores, "Status": ok()}
        case ("Memory",):
            return collection("Memory", at, [f"DIMM_{n}" for n in range(32)])
        case ("Memory", name) if name in {f"DIMM_{n}" for n in range(32)}:
            size = int(spec.memory_gib * 1024 / 32)
            return {"@odata.type": "#Memory.v1_20_0.Memory", "Id": name, "CapacityMiB": size, "Status": ok()}
        case ("EthernetInterfaces",):
            return collection("EthernetInterface", at, [f"eth{n}" for n in range(len(spec.macs))])
        case ("EthernetInterfaces", name) if name.removeprefix("eth").isdecimal():
            index = int(name.removeprefix("eth")[:6])
            if index >= len(spec.macs):
                return None
            kind = {"@odata.type": "#EthernetInterface.v1_12_3.EthernetInterface", "Id": name}
            return {**kind, "MACAddress": spec.macs[index].upper(), "Status": ok()}
        case ("Storage",):
            return collection("Storage", at, ["NVMe"])
        case ("Storage", "NVMe"):
            drives = [link(*at, "Drives", f"NVMe_{n}") for n in range(spec.drives)]
            return {"@odata.type": "#Storage.v1_17_1.Storage", "Id": "NVMe", "Drives": drives, "Status": ok()}
        case ("Storage", "NVMe", "Drives", name) if name in {f"NVMe_{n}" for n in range(spec.drives)}:
            return {
                "@odata.type": "#Drive.v1_20_0.Drive",
                "Id": name,
                "Model": "NVMe 3.84 TB",
                "SerialNumber": f"D{spec.serial}{name[5:]}",
                "CapacityBytes": 3_840_755_982_336,
                "Status": ok(),
            }
        case ("LogServices", *rest):
            return _logs(bmc, at, tuple(rest))
    return None


def _logs(bmc: TwinBmc, at: tuple[str, ...], parts: tuple[str, ...]) -> Mapping[str, Any] | None:
    match parts:
        case ():
            return collection("LogService", at, ["SEL"])
        case ("SEL",):
            clear = {"target": "/".join((V1, *at, "Actions", "LogService.ClearLog"))}
            return {
                "@odata.type": "#LogService.v1_5_2.LogService",
                "Id": "SEL",
                "Entries": link(*at, "Entries"),
                "Actions": {"#LogService.ClearLog": clear},
            }
        case ("SEL", "Entries"):
            return collection("LogEntry", at, [str(line.number) for line in bmc.log])
        case ("SEL", "Entries", name):
            for line in bmc.log:
                if str(line.number) == name:
                    return {
                        "@odata.type": "#LogEntry.v1_16_2.LogEntry",
                        "Id": name,
                        "EntryType": "SEL",
                        "Created": iso(line.at),
                        "Severity": line.severity,
                        "Message": line.message,
                        "MessageId": line.message_id,
                    }
    return None


def _gpu(bmc: TwinBmc, name: str) -> Mapping[str, Any] | None:
    serials = bmc.spec.gpu_serials
    for number, serial in enumerate(serials, 1):
        if name == f"GPU_SXM_{number}":
            return {
                "@odata.type": "#Processor.v1_20_0.Processor",
                "Id": name,
                "ProcessorType": "GPU",
                "Manufacturer": "NVIDIA",
                "Model": bmc.spec.gpu_model,
                "SerialNumber": serial,
                "Status": ok(),
                "Links": {"Chassis": link("Chassis", f"HGX_GPU_SXM_{number}")},
            }
    return None


def _managers(bmc: TwinBmc, parts: tuple[str, ...]) -> Mapping[str, Any] | None:
    names = ["BMC_0"] + (["HGX_BMC_0"] if bmc.spec.gpu_serials else [])
    if not parts:
        return collection("Manager", ("Managers",), names)
    if len(parts) == 1 and parts[0] in names:
        version = bmc.firmware.get("FW_BMC_0" if parts[0] == "BMC_0" else "HGX_FW_BMC_0", "")
        kind = {"@odata.type": "#Manager.v1_19_2.Manager", "Id": parts[0], "ManagerType": "BMC"}
        reset = {
            "target": f"{V1}/Managers/{parts[0]}/Actions/Manager.Reset",
            "ResetType@Redfish.AllowableValues": ["GracefulRestart", "ForceRestart"],
        }
        said = {"FirmwareVersion": version, "DateTime": iso(bmc.clock.now()), "Status": ok()}
        return {**kind, **said, "Actions": {"#Manager.Reset": reset}}
    return None


def _updates(bmc: TwinBmc, parts: tuple[str, ...]) -> Mapping[str, Any] | None:
    if not parts:
        return {
            "@odata.type": "#UpdateService.v1_14_1.UpdateService",
            "Id": "UpdateService",
            "ServiceEnabled": True,
            "FirmwareInventory": link("UpdateService", "FirmwareInventory"),
            "Actions": {
                "#UpdateService.SimpleUpdate": {
                    "target": f"{V1}/UpdateService/Actions/UpdateService.SimpleUpdate",
                    "TransferProtocol@Redfish.AllowableValues": ["HTTP", "HTTPS"],
                }
            },
        }
    if parts == ("FirmwareInventory",):
        return collection("SoftwareInventory", ("UpdateService", "FirmwareInventory"), sorted(bmc.firmware))
    if len(parts) == 2 and parts[0] == "FirmwareInventory" and parts[1] in bmc.firmware:
        kind = {"@odata.type": "#SoftwareInventory.v1_10_2.SoftwareInventory", "Id": parts[1], "Updateable": True}
        return {**kind, "Version": bmc.firmware[parts[1]], "Status": ok()}
    return None


def _tasks(bmc: TwinBmc, parts: tuple[str, ...]) -> Mapping[str, Any] | None:
    at = ("TaskService", "Tasks")
    if not parts:
        return {"@odata.type": "#TaskService.v1_2_1.TaskService", "Id": "TaskService", "Tasks": link(*at)}
    if parts == ("Tasks",):
        return collection("Task", at, [str(flash.number) for flash in bmc.flashes])
    flash = next((f for f in bmc.flashes if len(parts) == 2 and str(f.number) == parts[1]), None)
    if flash is None:
        return None
    if not flash.ended:
        percent = int(100 * (bmc.clock.now() - flash.started) / flash.seconds)
        state, status, message = "Running", "OK", f"Updating {flash.component}."
    elif flash.failure is None:
        percent, state, status = 100, "Completed", "OK"
        message = f"{flash.component} is at {flash.version}."
    else:
        percent, state, status, message = 0, "Exception", "Critical", flash.failure
    return {
        "@odata.type": "#Task.v1_7_3.Task",
        "Id": parts[1],
        "TaskState": state,
        "TaskStatus": status,
        "PercentComplete": max(0, min(percent, 100)),
        "StartTime": iso(flash.started),
        "Messages": [{"MessageId": "Update.1.0.Progress", "Message": message, "Severity": status}],
    }
