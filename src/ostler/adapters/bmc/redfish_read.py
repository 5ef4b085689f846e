"""Redfish documents to the port's values: inventory, sensors, logs. Called by `redfish.py`; asks through a `Tree`.

Property names: DMTF Redfish Schema Bundle 2025.4 (DSP8010). Both generations of sensors are read: collections called
`Sensors`, and the older `Thermal` and `Power` resources where a chassis has no collection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from ostler.adapters.bmc.port import (
    BmcInventory,
    Cpu,
    Drive,
    EventLog,
    FirmwareItem,
    Gpu,
    Health,
    Identity,
    LogEntry,
    Nic,
    Psu,
    Sensor,
    SensorKind,
)
from ostler.adapters.bmc.redfish_tree import (
    ROOT,
    Document,
    Tree,
    child,
    children,
    health,
    link,
    name_of,
    number,
    path_of,
    text,
    whole,
)

_KINDS = {
    "temperature": SensorKind.TEMPERATURE,
    "rotational": SensorKind.FAN,
    "power": SensorKind.POWER,
    "voltage": SensorKind.VOLTAGE,
    "current": SensorKind.CURRENT,
    "energyjoules": SensorKind.ENERGY,
    "energykwh": SensorKind.ENERGY,
    "energywh": SensorKind.ENERGY,
}
_UNITS = {
    SensorKind.TEMPERATURE: "Cel",
    SensorKind.FAN: "RPM",
    SensorKind.POWER: "W",
    SensorKind.VOLTAGE: "V",
    SensorKind.CURRENT: "A",
}
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_LOGS = frozenset({"sel", "eventlog", "iml", "faultlog", "faultlist", "log", "log1", "xid"})
"""Logs of hardware events, by id. Dumps, journals and life-cycle logs hold thousands of lines about the BMC itself."""


def identity(tree: Tree, system: Document) -> Identity:
    """Who the host is; the serial of its chassis where the system has none (NVIDIA's), the service tag at Dell's."""
    maker, model, serial = text(system, "Manufacturer"), text(system, "Model"), text(system, "SerialNumber")
    if maker.lower().startswith("dell"):
        serial = text(system, "SKU") or serial
    if not (serial and maker and model):
        for item in children(system, "Links", "Chassis"):
            chassis = tree.find(path_of(item))
            serial = serial or text(chassis, "SerialNumber")
            maker = maker or text(chassis, "Manufacturer")
            model = model or text(chassis, "Model")
    return Identity(serial, text(system, "UUID").lower(), maker, model)


def inventory(tree: Tree, system: Document) -> BmcInventory:
    """All parts, over all systems and chassis: the GPUs of an HGX board belong to a system of their own."""
    root = tree.get(ROOT)
    cpus, gpus = _processors(tree, root, system)
    chassis = [doc for _, doc in tree.members(link(root, "Chassis"))]
    return BmcInventory(
        identity=identity(tree, system),
        memory_gib=number(child(system, "MemorySummary"), "TotalSystemMemoryGiB"),
        cpus=tuple(cpus),
        gpus=tuple(gpus),
        nics=tuple(_nics(tree, system, chassis)),
        psus=tuple(psu for doc in chassis for psu in _psus(tree, doc)),
        drives=tuple(_drives(tree, system)),
        unread=tuple(tree.unread),
    )


def _processors(tree: Tree, root: Document, host: Document) -> tuple[list[Cpu], list[Gpu]]:
    """CPUs of the host (a board system repeats them under names of its own), GPUs of every system."""
    cpus: list[Cpu] = []
    gpus: dict[str, Gpu] = {}
    for path, system in tree.members(link(root, "Systems")):
        is_host = path_of(host) == path or system is host
        for where, doc in tree.members(link(system, "Processors")):
            kind, name = text(doc, "ProcessorType"), text(doc, "Id") or name_of(where)
            if text(child(doc, "Status"), "State") == "Absent":
                continue
            if kind == "GPU":
                gpu = Gpu(name, text(doc, "Model"), text(doc, "SerialNumber"), text(doc, "UUID").lower())
                gpus.setdefault(gpu.serial or where, gpu)
            elif kind == "CPU" and is_host:
                cpus.append(Cpu(name, text(doc, "Model"), whole(doc, "TotalCores")))
    return cpus, list(gpus.values())


def _nics(tree: Tree, system: Document, chassis: list[Document]) -> Iterator[Nic]:
    seen: set[str] = set()
    for where, doc in tree.members(link(system, "EthernetInterfaces")):
        mac = (text(doc, "MACAddress") or text(doc, "PermanentMACAddress")).lower().replace("-", ":")
        if _MAC.fullmatch(mac) and mac not in seen:
            seen.add(mac)
            yield Nic(text(doc, "Id") or name_of(where), mac)
    for box in chassis:
        for _, adapter in tree.members(link(box, "NetworkAdapters")):
            for where, function in tree.members(link(adapter, "NetworkDeviceFunctions")):
                mac = text(child(function, "Ethernet"), "MACAddress").lower().replace("-", ":")
                if _MAC.fullmatch(mac) and mac not in seen:
                    seen.add(mac)
                    yield Nic(text(function, "Id") or name_of(where), mac)


def _psus(tree: Tree, chassis: Document) -> Iterator[Psu]:
    subsystem = tree.find(link(chassis, "PowerSubsystem"))
    found = [(name_of(path), doc) for path, doc in tree.members(link(subsystem, "PowerSupplies"))]
    if not found:
        older = children(tree.find(link(chassis, "Power")), "PowerSupplies")
        found = [(text(doc, "MemberId"), doc) for doc in older]
    for name, doc in found:
        if text(child(doc, "Status"), "State") != "Absent":
            watts = number(doc, "PowerCapacityWatts")
            yield Psu(text(doc, "Name") or name, text(doc, "Model"), text(doc, "SerialNumber"), watts, health(doc))


def _drives(tree: Tree, system: Document) -> Iterator[Drive]:
    seen: set[str] = set()
    for _, storage in tree.members(link(system, "Storage")):
        for item in children(storage, "Drives"):
            path = path_of(item)
            if path is None or path in seen:
                continue
            seen.add(path)
            doc = tree.find(path)
            if doc and text(child(doc, "Status"), "State") != "Absent":
                name = text(doc, "Id") or name_of(path)
                yield Drive(name, text(doc, "Model"), text(doc, "SerialNumber"), whole(doc, "CapacityBytes"))


def sensors(tree: Tree) -> Iterator[Sensor]:
    """Every reading of every chassis. What cannot be read is a sensor without a value and of unknown health."""
    for path, chassis in tree.members(link(tree.get(ROOT), "Chassis")):
        box = name_of(path)
        collection = link(chassis, "Sensors")
        if not chassis:
            yield _unknown(box, box)
        elif collection is not None:
            before = len(tree.unread)
            for where, doc in tree.members(collection):
                yield _sensor(doc, box, where) if doc else _unknown(name_of(where), box)
            if collection in tree.unread[before:]:
                yield _unknown("Sensors", box)
        else:
            yield from _older_sensors(tree, chassis, box)
        yield from _leaks(tree, chassis, box)


def _unknown(name: str, box: str) -> Sensor:
    return Sensor(name, box, SensorKind.OTHER, None, "", None, Health.UNKNOWN)


def _sensor(doc: Document, box: str, where: str) -> Sensor:
    kind = _KINDS.get(text(doc, "ReadingType").lower(), SensorKind.OTHER)
    limit = number(child(doc, "Thresholds", "UpperCritical"), "Reading")
    unit = text(doc, "ReadingUnits", 20)
    return Sensor(text(doc, "Id") or name_of(where), box, kind, number(doc, "Reading"), unit, limit, health(doc))


def _older_sensors(tree: Tree, chassis: Document, box: str) -> Iterator[Sensor]:
    thermal, power = tree.find(link(chassis, "Thermal")), tree.find(link(chassis, "Power"))
    groups = (
        (SensorKind.TEMPERATURE, children(thermal, "Temperatures"), "ReadingCelsius"),
        (SensorKind.FAN, children(thermal, "Fans"), "Reading"),
        (SensorKind.VOLTAGE, children(power, "Voltages"), "ReadingVolts"),
        (SensorKind.POWER, children(power, "PowerControl"), "PowerConsumedWatts"),
    )
    for kind, items, reading in groups:
        for index, doc in enumerate(items):
            name = text(doc, "Name") or text(doc, "FanName") or f"{kind}_{index}"
            unit = text(doc, "ReadingUnits", 20) or _UNITS[kind]
            limit = number(doc, "UpperThresholdCritical")
            yield Sensor(name, box, kind, number(doc, reading), unit, limit, health(doc))


def _leaks(tree: Tree, chassis: Document, box: str) -> Iterator[Sensor]:
    """Leak detectors (LeakDetector schema, Redfish 2023.1): wet is 1, dry is 0, anything unclear is no value."""
    thermal = link(chassis, "ThermalSubsystem")
    detection = tree.find(link(tree.find(thermal), "LeakDetection")) if thermal else {}
    for where, doc in tree.members(link(detection, "LeakDetectors")):
        state = text(doc, "DetectorState").lower()
        value = {"ok": 0.0, "warning": 1.0, "critical": 1.0}.get(state)
        level = {"ok": Health.OK, "warning": Health.WARNING, "critical": Health.CRITICAL}.get(state, Health.UNKNOWN)
        yield Sensor(text(doc, "Id") or name_of(where), box, SensorKind.LEAK, value, "", None, level)


def firmware(tree: Tree) -> tuple[FirmwareItem, ...]:
    return tuple(item for item, _ in firmware_paths(tree))


def firmware_paths(tree: Tree) -> list[tuple[FirmwareItem, str]]:
    """Installed components with their paths. Dell lists rollback and staged versions too: they are left out."""
    service = tree.get(link(tree.get(ROOT), "UpdateService") or f"{ROOT}UpdateService")
    found: dict[str, tuple[FirmwareItem, str]] = {}
    for path, doc in tree.members(link(service, "FirmwareInventory")):
        name = text(doc, "Id") or name_of(path)
        state, _, rest = name.partition("-")
        if "__" in name and state in ("Installed", "Current", "Previous", "Available"):
            if state in ("Previous", "Available"):
                continue
            name = rest.partition("__")[2]
            if name in found and state == "Current":
                continue
        found[name] = (FirmwareItem(name, text(doc, "Version")), path)
    return [found[name] for name in sorted(found)]


def event_log(tree: Tree, system: Document, after: str) -> EventLog:
    """The hardware logs of the systems and of the managers, each entry that is newer than `after` says."""
    last, position = _position(after), dict[str, str]()
    entries: dict[tuple[object, ...], LogEntry] = {}
    root = tree.get(ROOT)
    owners = [*tree.members(link(root, "Systems")), *tree.members(link(root, "Managers"))]
    for owner, document in owners:
        for path, service in tree.members(link(document, "LogServices")):
            if name_of(path).lower() not in _LOGS:
                continue
            log = f"{name_of(owner)}/{name_of(path)}"
            found = sorted(_entries(tree, log, link(service, "Entries")), key=_order)
            newest = found[-1].id if found else ""
            since = last.get(log, "")
            if since and found and _number(newest) < _number(since):
                since = ""  # the log was cleared and its ids start anew
            for entry in found:
                if not since or _number(entry.id) > _number(since):  # some show one log under two names
                    entries.setdefault((name_of(owner), entry.id, entry.created, entry.message), entry)
            position[log] = newest if found else ""
    return EventLog(tuple(entries.values()), json.dumps({**last, **position}, sort_keys=True))


def _entries(tree: Tree, log: str, path: str | None) -> Iterator[LogEntry]:
    for where, doc in tree.members(path):
        severity = {"ok": Health.OK, "warning": Health.WARNING, "critical": Health.CRITICAL}.get(
            text(doc, "Severity").lower(), Health.UNKNOWN
        )
        message = text(doc, "Message", 1000)
        name = text(doc, "Id") or name_of(where)
        yield LogEntry(log, name, _instant(text(doc, "Created")), severity, message, text(doc, "MessageId"))


def _number(entry_id: str) -> tuple[int, ...]:
    """Log ids are numbers, or numbers with a suffix (`1724433123_1`): they order by their digits."""
    return tuple(int(digits[:18]) for digits in re.findall(r"\d+", entry_id))


def _order(entry: LogEntry) -> tuple[tuple[int, ...], float]:
    return _number(entry.id), entry.created or 0.0


def _position(after: str) -> dict[str, str]:
    try:
        found = json.loads(after) if after else {}
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def _instant(created: str) -> float | None:
    try:
        at = datetime.fromisoformat(created)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
