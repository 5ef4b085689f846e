"""`ostler adopt`: takes a running fleet into the books without a reboot, BMC write, boot override or cordon.

Adopted nodes enter as `production` with the condition `Uncertified`. Reading the source and entering the rows are
apart: `read_csv` is pure, `adopt` is one transaction, all rows or none, and running it again changes nothing.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ostler.audit import service as audit
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, OstlerError
from ostler.db.tx import Tx
from ostler.nodes import service, store
from ostler.nodes.model import Condition, Service, Slot, State

COLUMNS = ("name", "serial", "slot", "macs", "bmc", "sku", "pool", "service")
"""Of the CSV; only `name` is required. `slot` is SITE/ROW/RACK/U, `macs` are separated by spaces."""

_MAC = re.compile(r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")
_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")

BLANK_SERIALS = frozenset(
    {"", "none", "n/a", "unknown", "default string", "to be filled by o.e.m.", "system serial number", "not specified"}
    | {"0123456789", "123456789", "0", "00000000", "xxxxxxxx"}
)
"""What firmware reports when nobody programmed a serial number (dmidecode in the wild), lower case."""


@dataclass(frozen=True)
class Row:
    """One node of the source, checked."""

    line: int
    name: str
    serial: str | None = None
    """None: the source has no such column; empty: it has, and this node has none."""
    slot: Slot | None = None
    macs: tuple[str, ...] = ()
    bmc: str | None = None
    sku: str | None = None
    pool: str = "default"
    service: Service = Service.MANAGED


@dataclass(frozen=True)
class Adoption:
    """What came of it: names entered, names known already, and what is held for a person with its reason."""

    adopted: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = field(default=())


def read_csv(text: str, where: str) -> list[Row]:
    """Rows of a CSV with a header line. Raises `BadInput` naming file, line and column of the first mistake."""
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")), strict=True)
    try:
        header = [name.strip().lower() for name in reader.fieldnames or ()]
        if "name" not in header:
            raise BadInput(f"The header needs a column 'name'; known are {', '.join(COLUMNS)}.", where=f"{where}:1")
        if twice := [name for name, times in Counter(header).items() if times > 1]:
            raise BadInput(f"The column '{twice[0]}' stands twice.", where=f"{where}:1")
        if unknown := [name for name in header if name not in COLUMNS]:
            raise BadInput(f"Unknown column '{unknown[0]}'; known are {', '.join(COLUMNS)}.", where=f"{where}:1")
        reader.fieldnames = header
        return [_row(record, f"{where}:{reader.line_num}", reader.line_num) for record in reader]
    except csv.Error as error:
        raise BadInput(f"This is no CSV: {error}.", where=f"{where}:{reader.line_num}") from None


def adopt(tx: Tx, rows: Sequence[Row], *, actor: Actor, reason: str = "") -> Adoption:
    """Enter the rows as running nodes. A row whose name is known already is left alone.

    Blank, default and duplicate serial numbers are not believed: the node is adopted without one and held for a person.
    """
    serials: Counter[str | None] = Counter(row.serial for row in rows if row.serial)
    adopted: list[str] = []
    known: list[str] = []
    held: list[tuple[str, str]] = []
    for row in rows:
        if store.by_name(tx, row.name) is not None:
            known.append(row.name)
            continue
        unbelieved, crowded = _doubt(tx, row, serials), _crowded(tx, row)
        believed = replace(row, serial=None if unbelieved else row.serial, slot=None if crowded else row.slot)
        doubt = "; ".join(why for why in (unbelieved, crowded) if why)
        try:
            _enter(tx, believed, doubt, actor)
        except OstlerError as error:
            error.where = error.where or f"line {row.line}"
            raise
        if doubt:
            held.append((row.name, doubt))
        adopted.append(row.name)
    if adopted:
        audit.record(
            tx, actor=actor, action="fleet.adopted", subject="fleet", reason=reason, detail={"nodes": len(adopted)}
        )
    return Adoption(tuple(adopted), tuple(known), tuple(held))


def _enter(tx: Tx, row: Row, doubt: str, actor: Actor) -> None:
    if row.slot is not None and store.get_slot(tx, row.slot.name) is None:
        store.put_slot(tx, row.slot)
    node = service.register(
        tx,
        name=row.name,
        pool=row.pool,
        actor=actor,
        cause="adopt",
        state=State.PRODUCTION,
        serial=row.serial,
        slot=None if row.slot is None else row.slot.name,
        sku=row.sku,
        macs=row.macs,
        bmc_address=row.bmc,
        service=row.service,
    )
    service.raise_condition(
        tx, node.id, Condition.UNCERTIFIED, reason="adopted", message="running when Ostler met it; never tested by it"
    )
    if doubt:
        service.raise_condition(tx, node.id, Condition.HELD_FOR_PERSON, reason="identity", message=doubt)


def _row(record: dict[str, str | None], where: str, line: int) -> Row:
    if None in record:
        raise BadInput("More fields than the header has columns.", where=where)
    value = {key: (text or "").strip() for key, text in record.items()}
    if not _NAME.match(value["name"]):
        raise BadInput(f"'{value['name'][:60]}' is no host name.", where=f"{where} column name")
    macs = tuple(mac.lower().replace("-", ":") for mac in value.get("macs", "").split())
    if bad := [mac for mac in macs if not _MAC.match(mac)]:
        raise BadInput(f"'{bad[0][:60]}' is no MAC address.", where=f"{where} column macs")
    bmc = value.get("bmc") or None
    if bmc is not None and not bmc.startswith(("https://", "http://")):
        bmc = f"https://{bmc}"
    try:
        managed = Service(value.get("service") or Service.MANAGED)
    except ValueError:
        raise BadInput(
            f"'{value['service'][:60]}' is neither managed nor unmanaged.", where=f"{where} column service"
        ) from None
    return Row(
        line=line,
        name=value["name"],
        serial=value.get("serial"),
        slot=parse_slot(value["slot"], f"{where} column slot") if value.get("slot") else None,
        macs=macs,
        bmc=bmc,
        sku=value.get("sku") or None,
        pool=value.get("pool") or "default",
        service=managed,
    )


def parse_slot(text: str, where: str) -> Slot:
    """`SITE/ROW/RACK/U` as a slot whose rack is also its first failure domain."""
    parts = [part.strip() for part in text.split("/")]
    if len(parts) != 4 or not all(parts):
        raise BadInput(f"'{text[:60]}' is no SITE/ROW/RACK/U.", where=where)
    site, row, rack, unit = parts
    return Slot("/".join(parts), site, row, rack, unit, domains={"rack": f"{site}/{row}/{rack}"})


def _crowded(tx: Tx, row: Row) -> str | None:
    """Why a row's slot cannot be believed: somebody stands there."""
    others = [] if row.slot is None else store.in_slot(tx, row.slot.name)
    standing = [other.name for other in others if other.state is not State.RETIRED]
    return f"{standing[0]} stands in slot {row.slot.name} already" if row.slot is not None and standing else None


def _doubt(tx: Tx, row: Row, serials: Counter[str | None]) -> str | None:
    """Why a row's serial number cannot be believed, or None."""
    if row.serial is None:
        return None
    if not row.serial:
        return "the source gives no serial number"
    if row.serial.lower() in BLANK_SERIALS:
        return f"the serial number '{row.serial}' is a factory default"
    if serials[row.serial] > 1:
        return f"the serial number {row.serial} stands {serials[row.serial]} times in the source"
    if (other := store.by_serial(tx, row.serial)) is not None:
        return f"the serial number {row.serial} belongs to {other.name} already"
    return None
