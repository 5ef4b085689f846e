"""`ostler adopt`: takes a running fleet into the books without a reboot, BMC write, boot override or cordon.

Adopted nodes enter as `production` with the condition `Uncertified`. Reading the source and entering the rows are
apart: `read_csv` and `adopt_cluster.rows_of` are pure; `check` looks at every row before `take_in` enters the first, in
batches; running it again goes on where it stopped, and changes nothing when all is there.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ostler.audit import service as audit
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, Conflict, NotFound
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.nodes import adopt_store, service, store
from ostler.nodes.model import Condition, Service, Slot, State

COLUMNS = ("name", "serial", "slot", "macs", "bmc", "sku", "pool", "service")
"""Of the CSV; only `name` is required. `slot` is SITE/ROW/RACK/U, `macs` are separated by spaces."""

_MAC = re.compile(r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")
NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")

BATCH = 500
"""Rows per transaction: a few tenths of a second of the one writer that SQLite has."""

REQUEST_SECONDS = 10.0
"""One request enters rows for so long (wall clock), and then says how many are left."""

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
    uuid: str | None = None
    slot: Slot | None = None
    macs: tuple[str, ...] = ()
    bmc: str | None = None
    sku: str | None = None
    pool: str = "default"
    service: Service = Service.MANAGED


@dataclass(frozen=True)
class Source:
    """What doubts about one row need of all the others."""

    names: frozenset[str]
    serials: Mapping[str, int]
    """How often each serial number stands there."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Source:
        return cls(frozenset(row.name for row in rows), Counter(row.serial for row in rows if row.serial))


@dataclass(frozen=True)
class Adoption:
    """What came of it: names entered, names known already, and what is held for a person with its reason."""

    adopted: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = field(default=())
    """Also of those known already, for as long as nobody has settled it."""
    notes: tuple[tuple[str, str], ...] = field(default=())
    """What else a person should know: (name, note)."""
    remaining: int = 0
    """Rows that are still to be entered: the same call again goes on with them."""


@dataclass
class Plan:
    """What adopting would do."""

    entries: list[tuple[Row, str]] = field(default_factory=list)
    """Rows to enter as they are believed, each with its doubt ('': none)."""
    entered: set[str] = field(default_factory=set)
    known: list[str] = field(default_factory=list)
    held: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def adoption(self) -> Adoption:
        names = tuple(row.name for row, _doubt in self.entries)
        return Adoption(names, tuple(self.known), tuple(self.held), tuple(self.notes))


def read_csv(text: str, where: str, pool: str = "default") -> list[Row]:
    """Rows of a CSV with a header line; `pool` is that of rows that name none.

    Raises `BadInput` naming file, line and column of the first mistake.
    """
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
        return [_row(record, f"{where}:{reader.line_num}", reader.line_num, pool) for record in reader]
    except csv.Error as error:
        raise BadInput(f"This is no CSV: {error}.", where=f"{where}:{reader.line_num}") from None


def check(tx: Tx, rows: Sequence[Row], source: Source | None = None) -> Plan:
    """What `adopt` would do, and nothing is done. Raises `NotFound` and `Conflict` that name the row.

    Blank, default and duplicate serial numbers are not believed: the node is adopted without one and held for a person.
    `source` is the whole of it when `rows` are a part.
    """
    whole = Source.of(rows) if source is None else source
    known = adopt_store.books(
        tx,
        names=[row.name for row in rows],
        serials=[row.serial for row in rows if row.serial],
        macs=[mac for row in rows for mac in row.macs],
        slots=[row.slot.name for row in rows if row.slot is not None],
    )
    pools = {pool.name for pool in store.pools(tx)}
    plan = Plan()
    for row in rows:
        if row.name in known.names:
            plan.known.append(row.name)
            if row.name in known.held and row.name not in plan.entered:
                plan.held.append((row.name, known.held[row.name]))
            continue
        namesake = known.serials.get(row.serial or "")
        if namesake is not None and whole.serials.get(row.serial or "", 0) == 1 and namesake not in whole.names:
            plan.known.append(row.name)
            plan.notes.append((row.name, f"known as {namesake}, which has its serial number {row.serial}"))
            continue
        _refuse(row, known, pools)
        unbelieved, crowded = _doubt(row, known, whole.serials), _crowded(row, known)
        doubt = "; ".join(why for why in (unbelieved, crowded) if why)
        believed = replace(row, serial=None if unbelieved else row.serial, slot=None if crowded else row.slot)
        plan.entries.append((believed, doubt))
        if doubt:
            plan.held.append((row.name, doubt))
        plan.entered.add(row.name)
        known.names.add(row.name)
        known.macs |= dict.fromkeys(row.macs, row.name)
        if believed.serial:
            known.serials[believed.serial] = row.name
        if believed.slot is not None:
            known.slots[believed.slot.name] = row.name
    return plan


def adopt(tx: Tx, rows: Sequence[Row], *, actor: Actor, reason: str = "", source: Source | None = None) -> Adoption:
    """Enter the rows as running nodes. A row whose name or serial number is known already is left alone."""
    plan = check(tx, rows, source)
    for row, doubt in plan.entries:
        _enter(tx, row, doubt, actor)
    if plan.entries:
        audit.record(
            tx, actor=actor, action="fleet.adopted", subject="fleet", reason=reason, detail={"nodes": len(plan.entries)}
        )
    return plan.adoption


def take_in(
    db: Database, rows: Sequence[Row], *, actor: Actor, reason: str = "", seconds: float | None = None
) -> Adoption:
    """Enter a whole fleet, `BATCH` rows per transaction, so that the server's other writers go on meanwhile.

    Every row is checked before the first is entered: a mistake takes in nothing. After `seconds` (wall clock; None: a
    request's) it stops and says how many rows are left; the same call goes on from there, as it does after a crash,
    because what is entered is known. What somebody else enters meanwhile is found known, or refused with its batch.
    """
    started = db.clock.real()
    patience = REQUEST_SECONDS if seconds is None else seconds
    source = Source.of(rows)
    plan = db.read(lambda tx: check(tx, rows, source))
    todo = {row.name for row, _doubt in plan.entries}
    original = [row for row in rows if row.name in todo]
    adopted: list[str] = []
    held = [(name, why) for name, why in plan.held if name not in todo]
    done = 0
    while done < len(original) and (done == 0 or db.clock.real() - started < patience):
        batch = original[done : done + BATCH]
        part = db.write(partial(_batch, rows=batch, actor=actor, reason=reason, source=source))
        adopted += part.adopted
        held += part.held
        done += len(batch)
    return replace(plan.adoption, adopted=tuple(adopted), held=tuple(held), remaining=len(original) - done)


def _batch(tx: Tx, *, rows: Sequence[Row], actor: Actor, reason: str, source: Source) -> Adoption:
    return adopt(tx, rows, actor=actor, reason=reason, source=source)


def _refuse(row: Row, known: adopt_store.Books, pools: Collection[str]) -> None:
    """What makes the whole source wrong, said before anything is entered."""
    where = f"line {row.line}" if row.line else row.name
    if row.pool not in pools:
        raise NotFound(f"No pool is called '{row.pool}'.", where=where)
    if taken := [known.macs[mac] for mac in row.macs if mac in known.macs]:
        raise Conflict(f"A MAC of {row.name} belongs to {taken[0]} already; a person must settle it.", where=where)


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
        uuid=row.uuid,
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


def _row(record: dict[str, str | None], where: str, line: int, pool: str) -> Row:
    if None in record:
        raise BadInput("More fields than the header has columns.", where=where)
    value = {key: (text or "").strip() for key, text in record.items()}
    if not NAME.match(value["name"]):
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
        pool=value.get("pool") or pool,
        service=managed,
    )


def parse_slot(text: str, where: str) -> Slot:
    """`SITE/ROW/RACK/U` as a slot whose rack is also its first failure domain."""
    parts = [part.strip() for part in text.split("/")]
    if len(parts) != 4 or not all(parts):
        raise BadInput(f"'{text[:60]}' is no SITE/ROW/RACK/U.", where=where)
    site, row, rack, unit = parts
    return Slot("/".join(parts), site, row, rack, unit, domains={"rack": f"{site}/{row}/{rack}"})


def _crowded(row: Row, known: adopt_store.Books) -> str | None:
    """Why a row's slot cannot be believed: somebody stands there."""
    standing = None if row.slot is None else known.slots.get(row.slot.name)
    return f"{standing} stands in slot {row.slot.name} already" if row.slot is not None and standing else None


def _doubt(row: Row, known: adopt_store.Books, serials: Mapping[str, int]) -> str | None:
    """Why a row's serial number cannot be believed, or None."""
    if row.serial is None:
        return None
    if not row.serial:
        return "the source gives no serial number"
    if row.serial.lower() in BLANK_SERIALS:
        return f"the serial number '{row.serial}' is a factory default"
    if serials.get(row.serial, 0) > 1:
        return f"the serial number {row.serial} stands {serials[row.serial]} times in the source"
    if (other := known.serials.get(row.serial)) is not None:
        return f"the serial number {row.serial} belongs to {other} already"
    return None
