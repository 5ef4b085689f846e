"""Redfish documents to the port's values: inventory, firmware, logs. Called by `redfish.py`; asks through a `Tree`.

Property names: DMTF Redfish Schema Bundle 2025.4 (DSP8010). Readings are in `redfish_sensors.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from ostler.adapters.bmc.port import (
    BmcInventory,
    Board,
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

_BOARDS = ("Module", "Component", "Card", "Zone", "")
"""Chassis types of boards (Chassis schema 1.25; NVIDIA calls its GPU baseboard a zone). A system has none."""
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
    boxes = list(tree.members(link(root, "Chassis")))
    chassis = [doc for _, doc in boxes]
    host = identity(tree, system)
    named = {host.serial, text(system, "SerialNumber"), *(cpu.serial for cpu in cpus), *(gpu.serial for gpu in gpus)}
    return BmcInventory(
        identity=host,
        memory_gib=number(child(system, "MemorySummary"), "TotalSystemMemoryGiB"),
        cpus=tuple(cpus),
        gpus=tuple(gpus),
        nics=_nics(tree, system, chassis),
        psus=tuple(psu for doc in chassis for psu in _psus(tree, doc)),
        drives=tuple(_drives(tree, system)),
        boards=tuple(_boards([*boxes, *tree.members(link(root, "Systems"))], named)),
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
                cpus.append(Cpu(name, text(doc, "Model"), whole(doc, "TotalCores"), text(doc, "SerialNumber")))
    return cpus, list(gpus.values())


def _nics(tree: Tree, system: Document, chassis: list[Document]) -> tuple[Nic, ...]:
    """By address: the host's interfaces, then the functions of adapters, which know the adapter's serial."""
    found: dict[str, Nic] = {}
    for where, doc in tree.members(link(system, "EthernetInterfaces")):
        mac = _mac(text(doc, "MACAddress") or text(doc, "PermanentMACAddress"))
        if mac:
            found.setdefault(mac, Nic(text(doc, "Id") or name_of(where), mac))
    for box in chassis:
        for _, adapter in tree.members(link(box, "NetworkAdapters")):
            serial = text(adapter, "SerialNumber")
            for where, function in tree.members(link(adapter, "NetworkDeviceFunctions")):
                mac = _mac(text(child(function, "Ethernet"), "MACAddress"))
                if mac:
                    known = found.get(mac) or Nic(text(function, "Id") or name_of(where), mac)
                    found[mac] = replace(known, serial=known.serial or serial)
    return tuple(found.values())


def _mac(said: str) -> str:
    mac = said.lower().replace("-", ":")
    return mac if _MAC.fullmatch(mac) else ""


def _boards(boxes: list[tuple[str, Document]], named: set[str]) -> Iterator[Board]:
    """Chassis that are boards, and systems that are (a GPU baseboard), where the serial is no other part's.

    A serial without a digit is a placeholder (`CPLDSerialNumber` on real NVIDIA boards).
    """
    seen = set(named)
    for path, doc in boxes:
        serial, kind = text(doc, "SerialNumber"), text(doc, "ChassisType")
        if kind in _BOARDS and serial not in seen and any(letter.isdigit() for letter in serial):
            seen.add(serial)
            yield Board(text(doc, "Id") or name_of(path), text(doc, "Model"), serial)


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
