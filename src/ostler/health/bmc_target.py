"""One BMC and one poll of it: read, judge, and write only when there is news. Called by `bmc_watch.py`'s workers.

A poll fails as a whole when power or sensors cannot be read; a log or an inventory that cannot be read while the rest
answers is a fault of its own after a few tries, and keeps nothing else from being read.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ostler.adapters.bmc.port import Bmc, BmcInventory, FirmwareItem
from ostler.core.errors import OstlerError
from ostler.db.engine import Database
from ostler.faults.detector import Detector
from ostler.faults.model import Fault
from ostler.faults.monitored import fault
from ostler.health import bmc_books as books
from ostler.health import bmc_policy as policy
from ostler.health import bmc_store
from ostler.health.bmc_policy import BmcWatchSettings, Track
from ostler.health.model import HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Node

Declared = Callable[[Node], Mapping[str, str]]
"""A node's declared firmware: component → version; empty when nothing is declared. May read the database."""


@dataclass
class Target:
    """One BMC. The dispatcher owns it while it waits, a worker while it runs."""

    node_id: str
    login: tuple[str, str | None]
    due: float
    log_due: float
    parts_due: float
    should_run: bool
    position: str
    fresh: bool
    """Never read before: what its log holds is history."""
    failures: int
    gone: bool = False
    running: bool = False
    bmc: Bmc | None = None
    track: Track = field(default_factory=Track)
    said: tuple[Fault, ...] | None = None
    """What the books were told last; None: not known, so they are told."""
    parts: tuple[Fault, ...] = ()
    psus: frozenset[str] = frozenset()
    """Power supplies that were ever listed, as far as the books and this process know."""
    kept: str | None = None
    """A digest of the parts as the books have them; None: not looked up yet."""
    troubles: dict[str, int] = field(default_factory=dict)
    """`log`, `parts` → failures in a row of that part while the rest answers."""
    error: OstlerError | None = None


class Reader:
    """What the workers share. Safe to use from many threads, on one target each."""

    def __init__(
        self,
        db: Database,
        open_bmc: Callable[[Node], Bmc],
        settings: BmcWatchSettings,
        health: HealthSettings,
        on_diagnoses: books.OnDiagnoses,
        declared: Declared,
    ) -> None:
        self._db = db
        self._open_bmc = open_bmc
        self._settings = settings
        self._health = health
        self._on_diagnoses = on_diagnoses
        self._declared = declared
        self._detector = Detector()
        self._shared: dict[frozenset[str], frozenset[str]] = {}

    def poll(self, one: Target, *, hold_silence: Callable[[], bool]) -> bool:
        """One poll; whether the BMC answered. `hold_silence`: too many are silent, or the server is too young."""
        try:
            if one.bmc is None:
                one.bmc = self._open_bmc(self._db.read(lambda tx: nodes.get(tx, one.node_id)))
            power, sensors = one.bmc.power_state(), one.bmc.sensors()
        except OstlerError as error:
            self._failed(one, error, hold_silence)
            return False
        one.track, standing = policy.judge(one.track, power, sensors, one.should_run, self._settings)
        one.track = replace(one.track, seen=self._share(one.track.seen))
        news = self._more(one, one.bmc)
        news = replace(news, standing=(*standing, *self._troubles(one)))
        self._tell(one, news)
        return True

    def _failed(self, one: Target, error: OstlerError, hold_silence: Callable[[], bool]) -> None:
        one.failures, one.error = one.failures + 1, error
        silent = policy.silence(one.failures, error, self._settings)
        if silent is not None and not hold_silence():
            self._db.write(
                lambda tx: books.unanswered(tx, one.node_id, one.failures, silent, self._health, self._on_diagnoses)
            )

    def _more(self, one: Target, bmc: Bmc) -> books.News:
        """The log and the parts, when they are due."""
        now = self._db.clock.now()
        news = books.News((), before=one.position)
        if now >= one.log_due:
            one.log_due = now + self._settings.log_every_s
            try:
                found = bmc.event_log(one.position)
            except OstlerError as error:
                self._trouble(one, "log", error)
            else:
                one.troubles.pop("log", None)
                # What stood there before we came is history: its levels are what the sensors say.
                lines = () if one.fresh else policy.log_faults(found.entries, self._detector)
                if one.fresh or found.position != one.position:
                    news = replace(news, position=found.position, log=lines)
        if now >= one.parts_due:
            one.parts_due = now + self._settings.parts_every_s
            try:
                inventory, firmware = bmc.inventory(), bmc.firmware()
            except OstlerError as error:
                self._trouble(one, "parts", error)
            else:
                one.troubles.pop("parts", None)
                news = self._parts(one, news, inventory, firmware)
        return news

    def _parts(
        self, one: Target, news: books.News, inventory: BmcInventory, firmware: Sequence[FirmwareItem]
    ) -> books.News:
        node, kept = self._db.read(lambda tx: (nodes.get(tx, one.node_id), bmc_store.parts(tx, one.node_id)))
        if one.kept is None:
            one.kept = _digest(*kept)
            known = kept[1].get("psus")
            one.psus = frozenset(str(psu.get("name")) for psu in known or () if isinstance(psu, dict))
        parts = [*policy.supplies(inventory.psus, one.psus, bool(inventory.unread))]
        one.psus |= frozenset(sys.intern(psu.name) for psu in inventory.psus)
        if node.state in books.FIRMWARE_DECIDED:
            parts += policy.drift(firmware, self._declared(node))
        runs = {item.component: item.version for item in firmware if item.version}
        listed = json.loads(json.dumps(asdict(inventory)))  # tuples as lists, as the database has them
        if inventory.unread or (digest := _digest(runs, listed)) == one.kept:
            return replace(news, parts=tuple(parts))  # half an inventory is none to keep
        one.kept = digest
        return replace(news, parts=tuple(parts), firmware=runs, inventory=listed)

    def _trouble(self, one: Target, part: str, error: OstlerError) -> None:
        one.troubles[part] = one.troubles.get(part, 0) + 1
        if part == "parts":  # an hour is long: with the log's patience
            one.parts_due = self._db.clock.now() + self._settings.log_every_s

    def _troubles(self, one: Target) -> list[Fault]:
        return [
            fault("monitor-dead", f"bmc:{part}", f"the BMC answers, but its {part} cannot be read")
            for part, failures in one.troubles.items()
            if failures >= self._settings.silent_polls
        ]

    def _tell(self, one: Target, news: books.News) -> None:
        """Write if there is anything to say: a BMC that is well, and was, costs the database nothing."""
        back = one.failures > 0
        one.failures, one.error = 0, None
        quiet = (
            one.said == ()
            and not news.standing
            and not back
            and news.position is None
            and news.firmware is None
            and (news.parts is None or (not news.parts and not one.parts))
        )
        if not quiet:
            one.said = None  # until it is written
            self._db.write(lambda tx: books.answered(tx, one.node_id, news, self._health, self._on_diagnoses))
            one.said = tuple(news.standing)
        if news.position is not None:
            one.position, one.fresh = news.position, False
        if news.parts is not None:
            one.parts = tuple(news.parts)

    def _share(self, names: frozenset[str]) -> frozenset[str]:
        """Nodes of one model have the same sensors: one set of names for all of them."""
        if len(self._shared) > 1000:
            self._shared.clear()
        return self._shared.setdefault(names, names)


def _digest(firmware: Mapping[str, Any], inventory: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([firmware, inventory], sort_keys=True).encode()).hexdigest()[:16]
