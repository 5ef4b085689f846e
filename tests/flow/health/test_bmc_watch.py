"""The out-of-band watch over BMCs in memory and over the twin's real Redfish, into real books of both kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ostler.adapters.bmc.fake import FakeBmc
from ostler.adapters.bmc.port import (
    Bmc,
    BmcInventory,
    Board,
    Cpu,
    Credentials,
    Health,
    LogEntry,
    PowerState,
    Psu,
    Sensor,
    SensorKind,
)
from ostler.adapters.bmc.redfish import RedfishBmcs
from ostler.brake import service as brake
from ostler.brake.pause_file import PauseFile
from ostler.breakfix.parts import parts_of
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.faults.monitored import fault
from ostler.health import bmc_books as books
from ostler.health import bmc_store, findings, store
from ostler.health.bmc_policy import BmcWatchSettings
from ostler.health.bmc_watch import BmcWatch, limits
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State
from ostler.remediation import service as remediation
from ostler.twin.bmc import TwinBmc, TwinBmcSpec
from ostler.twin.bmc_server import BmcServer
from tests.flow.fleet import HEALTH, LOGIN, MARA, Fleet

SETTINGS = BmcWatchSettings(workers=4)
GRACE = HEALTH.grace_s


def inlet(value: float | None = 24.0) -> Sensor:
    return Sensor("INLET", "BMC_0", SensorKind.TEMPERATURE, value, "Cel", 40.0, Health.OK)


def detector(wet: bool) -> Sensor:
    value, health = (1.0, Health.WARNING) if wet else (0.0, Health.OK)
    return Sensor("LEAK", "BMC_0", SensorKind.LEAK, value, "", None, health)


class World:
    """A fleet, and a watch that polls when the test lets time pass."""

    def __init__(self, fleet: Fleet, settings: BmcWatchSettings = SETTINGS) -> None:
        self.fleet = fleet
        self.opened = 0
        self.settings = settings
        self.declared: dict[str, str] = {}
        self.watch = self.new_watch("one")

    def new_watch(self, owner: str) -> BmcWatch:
        return BmcWatch(
            self.fleet.db,
            self._open,
            self.settings,
            HEALTH,
            remediation.consider,
            owner=owner,
            declared=lambda _node: self.declared,
        )

    def _open(self, node: Node) -> Bmc:
        self.opened += 1
        return self.fleet.open_bmc(node)

    def bmc(self, node: Node) -> FakeBmc:
        assert node.bmc_address is not None
        return self.fleet.bmcs.by_address[node.bmc_address]

    def poll(self, times: int = 1, seconds: float = 60.0) -> None:
        """Let each interval pass, and whatever is due be asked."""
        for _ in range(times):
            self.fleet.clock.advance(seconds)
            self.watch.run_due()

    def start(self) -> None:
        """Every BMC is read once and the server is old enough to speak of silence."""
        self.watch.run_due()
        self.poll()
        self.poll(seconds=GRACE)

    def standing(self, node: Node) -> set[str]:
        rows = self.fleet.db.read(lambda tx: store.active(tx, node.id))
        return {f"{row['fault']}@{row['device']}" for row in rows}

    def incidents(self) -> list[str]:
        return [row["cause"] for row in self.fleet.db.read(lambda tx: store.incidents(tx, open_only=True))]

    def signals(self, node: Node) -> int:
        return len(self.fleet.db.read(lambda tx: store.signals(tx, node.id)))


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


@pytest.fixture
def new_world(fleet: Fleet) -> Iterator[Callable[[int], tuple[World, list[Node]]]]:
    worlds: list[World] = []

    def make(count: int = 1) -> tuple[World, list[Node]]:
        members = fleet.add(count)
        for node in members:
            assert node.bmc_address is not None
            fleet.bmcs.by_address[node.bmc_address].sensors = [inlet(), detector(False)]
        worlds.append(World(fleet))
        return worlds[0], members

    yield make
    for world in worlds:
        world.watch.stop()


NewWorld = Callable[[int], tuple[World, list[Node]]]


def test_healthy_bmcs_write_nothing_but_when_they_answered(new_world: NewWorld) -> None:
    world, (node, *_) = new_world(3)
    world.start()
    world.poll(10)
    assert world.standing(node) == set()
    assert world.signals(node) == 0
    assert world.watch.counts().watched == 3
    assert world.watch.counts().polls == 3 * 12
    assert world.opened == 3, "conversations are kept"
    (row, *_) = world.fleet.db.read(bmc_store.watched)
    assert row["failures"] == 0


def test_polls_are_spread_over_the_interval(new_world: NewWorld) -> None:
    world, _ = new_world(40)
    world.watch.run_due()
    done = []
    for _ in range(4):
        before = world.watch.counts().polls
        world.poll(seconds=15.0)
        done.append(world.watch.counts().polls - before)
    assert sum(done) == 40
    assert max(done) < 25


def test_a_hot_sensor_becomes_a_finding_and_ends(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    world.start()
    world.bmc(node).sensors = [inlet(45.0), detector(False)]
    world.poll()
    assert world.standing(node) == set()
    world.poll()
    assert world.standing(node) == {"bmc-hot@bmc_0/inlet"}
    said = world.signals(node)
    world.bmc(node).sensors = [inlet(46.0), detector(False)]
    world.poll(5)
    assert world.signals(node) == said, "a figure that moves is no news"
    world.bmc(node).sensors = [inlet(), detector(False)]
    world.poll(2)
    assert world.standing(node) == set()


def test_a_restarted_watch_ends_what_is_over(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    world.start()
    world.bmc(node).sensors = [inlet(45.0), detector(False)]
    world.poll(2)
    world.bmc(node).sensors = [inlet(), detector(False)]
    world.watch.stop()
    world.fleet.clock.advance(60.0)
    world.watch = world.new_watch("one")
    world.start()
    assert world.standing(node) == set()


def test_a_first_wet_read_is_read_again_in_seconds(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    world.start()
    world.bmc(node).sensors = [inlet(), detector(True)]
    world.poll()
    assert world.standing(node) == {"bmc-leak-suspected@bmc_0/leak"}
    world.poll(seconds=5.0)
    assert "bmc-leak@bmc_0/leak" in world.standing(node)


def test_a_single_wet_read_is_no_leak(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    world.start()
    world.bmc(node).sensors = [inlet(), detector(True)]
    world.poll()
    world.bmc(node).sensors = [inlet(), detector(False)]
    world.poll(seconds=5.0)
    assert world.standing(node) == set()


def test_only_a_person_ends_a_confirmed_leak(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    world.start()
    world.bmc(node).sensors = [inlet(), detector(True)]
    world.poll()
    world.poll(seconds=5.0)
    world.bmc(node).sensors = [inlet(), detector(False)]
    world.poll(3)
    assert "bmc-leak@bmc_0/leak" in world.standing(node), "it dried, that is all"
    rows = world.fleet.db.read(lambda tx: store.active(tx, node.id))
    leak = [row for row in rows if row["fault"] == "bmc-leak"]
    world.fleet.db.write(lambda tx: findings.clear(tx, leak, by="hose replaced", actor=MARA))
    world.poll(3)
    assert "bmc-leak@bmc_0/leak" not in world.standing(node)


def test_a_node_that_somebody_switched_off(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    world.start()
    world.bmc(node).power = PowerState.OFF
    world.poll()
    assert world.standing(node) == set()
    world.poll()
    assert world.standing(node) == {"bmc-power-off@"}


def test_a_node_that_we_switched_off(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    world.start()
    world.fleet.db.write(lambda tx: brake.reserve(tx, node, "power-cycle", actor=MARA, reason="test"))
    world.bmc(node).power = PowerState.OFF
    world.poll(4)
    assert world.standing(node) == set()


@pytest.mark.parametrize("values", [{"state": State.REBOOT.value}, {"maintenance_by": "mara"}, {"power_locked": True}])
def test_a_node_that_may_be_off(new_world: NewWorld, values: dict[str, object]) -> None:
    world, (node,) = new_world(1)
    world.start()
    world.fleet.db.write(lambda tx: nodes.update(tx, node.id, values))
    world.bmc(node).power = PowerState.OFF
    world.poll(4)
    assert world.standing(node) == set()


@pytest.mark.parametrize(("state", "said"), [(State.PRODUCTION, {"bmc-power-off@"}), (State.TRIAGE, set())])
def test_what_changed_since_the_bmc_was_read_counts(new_world: NewWorld, state: State, said: set[str]) -> None:
    world, (node,) = new_world(1)
    world.fleet.db.write(lambda tx: nodes.update(tx, node.id, {"state": state.value}))
    news = books.News([fault("bmc-power-off")])
    world.fleet.db.write(lambda tx: books.answered(tx, node.id, news, HEALTH, remediation.consider))
    assert world.standing(node) == said


def test_lines_that_another_replica_reported_are_not_reported_again(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    common: dict[str, Any] = {"settings": HEALTH, "on_diagnoses": remediation.consider}
    for before, position, signals in (("", "5", 1), ("", "6", 1), ("5", "6", 2)):
        line = fault("bmc-log", f"line-{position}")
        news = books.News((), before=before, position=position, log=[line])
        world.fleet.db.write(partial(books.answered, node_id=node.id, news=news, **common))
        assert world.signals(node) == signals


def test_silence_is_a_finding_that_ends_nothing_else(new_world: NewWorld) -> None:
    world, (node, *_) = new_world(30)
    world.start()
    world.bmc(node).sensors = [inlet(45.0), detector(False)]
    world.poll(2)
    world.bmc(node).unreachable = True
    world.poll(2)
    assert world.standing(node) == {"bmc-hot@bmc_0/inlet"}
    world.poll()
    assert world.standing(node) == {"bmc-hot@bmc_0/inlet", "bmc-silent@"}
    asked = world.watch.counts().failures
    world.poll(10)
    assert world.watch.counts().failures - asked < 5, "asked ever less often"
    world.bmc(node).unreachable = False
    world.poll(seconds=900.0)
    assert world.standing(node) == {"bmc-hot@bmc_0/inlet"}


def test_a_wrong_password_has_a_word_of_its_own(new_world: NewWorld) -> None:
    world, (node, *_) = new_world(30)
    world.start()
    world.bmc(node).credentials = Credentials("admin", "changed")
    world.poll()
    (row,) = world.fleet.db.read(lambda tx: store.active(tx, node.id))
    assert row["fault"] == "bmc-silent"
    assert "password" in row["message"]
    assert row["action"] == "watch"


def test_a_young_server_says_nothing_of_silence(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    world.bmc(node).unreachable = True
    world.watch.run_due()
    world.poll(9)
    assert world.standing(node) == set()


def test_many_silent_together_are_one_incident(new_world: NewWorld) -> None:
    world, members = new_world(20)
    world.start()
    for node in members[:10]:
        world.bmc(node).unreachable = True
    world.poll(4)
    assert world.incidents() == ["bmcs-silent-together"]
    world.poll(2, 900.0)
    assert not [node for node in members if world.standing(node)], "no finding for each"
    for node in members:
        world.bmc(node).unreachable = False
    world.poll(3, 900.0)
    assert world.incidents() == []
    assert not [node for node in members if world.standing(node)]


def test_one_silent_of_twenty_is_no_incident(new_world: NewWorld) -> None:
    world, members = new_world(20)
    world.start()
    world.bmc(members[0]).unreachable = True
    world.poll(6)
    assert world.incidents() == []
    assert world.standing(members[0]) == {"bmc-silent@"}


def line(number: int, message: str, severity: Health = Health.WARNING) -> LogEntry:
    return LogEntry("System_0/SEL", str(number), None, severity, message, f"Vendor.1.{number}")


def test_the_log_is_read_from_where_it_was_left(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    world.bmc(node).log.append(line(1, "history"))
    world.watch.run_due()
    world.poll(10)
    assert world.standing(node) == set(), "what stood there before is history"
    world.bmc(node).log.append(line(2, "news"))
    world.poll(5)
    assert world.standing(node) == {"bmc-log@vendor.1.2"}
    said = world.signals(node)
    world.watch.stop()
    world.watch = world.new_watch("one")
    world.watch.run_due()
    world.poll(10)
    assert world.signals(node) == said, "the place is kept over a restart"
    world.bmc(node).log[:] = [line(3, "after it was cleared")]
    world.poll(5)
    assert "bmc-log@vendor.1.3" in world.standing(node)


def test_two_replicas_do_not_double(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    world.start()
    other = world.new_watch("two")
    other.run_due()
    assert other.counts().watched == 0
    world.fleet.clock.advance(31.0)
    other.run_due()
    world.watch.run_due()
    assert (other.counts().watched, world.watch.counts().watched) == (1, 0)
    world.bmc(node).log.append(line(9, "once"))
    world.fleet.clock.advance(300.0)
    other.run_due()
    before = world.signals(node)
    assert before == 1
    assert not world.fleet.db.write(lambda tx: bmc_store.advance(tx, node.id, "no such place", "x"))
    other.stop()


def test_supplies_and_firmware_each_hour(new_world: NewWorld) -> None:
    world, (node,) = new_world(1)
    bmc = world.bmc(node)
    supply = [Psu("PSU_0", "", "", None, Health.OK), Psu("PSU_1", "", "", None, Health.OK)]
    bmc.firmware = {"BIOS": "1.0"}
    world.declared = {"BIOS": "1.0"}
    board, cpu = Board("HGX_Chassis_0", "HGX", "B1"), Cpu("CPU_0", "Grace", 72, "C1")
    bmc.inventory = BmcInventory(bmc.identity, None, (cpu,), (), (), tuple(supply), (), boards=(board,))
    world.watch.run_due()
    world.poll(61)
    assert world.standing(node) == set()
    firmware, inventory = world.fleet.db.read(lambda tx: bmc_store.parts(tx, node.id))
    assert firmware == {"BIOS": "1.0"}
    assert [one["name"] for one in inventory["psus"]] == ["PSU_0", "PSU_1"]
    serials = {(part.kind, part.name): part.serial for part in parts_of({}, inventory, firmware)}
    assert (serials["baseboard", "HGX_Chassis_0"], serials["cpu", "CPU_0"]) == ("B1", "C1")
    world.watch.stop()
    world.watch = world.new_watch("one")
    world.watch.run_due()
    bmc.firmware["BIOS"] = "1.1"
    bmc.inventory = BmcInventory(bmc.identity, None, (), (), (), tuple(supply[:1]), ())
    world.poll(61)
    assert world.standing(node) == {"bmc-firmware-drift@bios", "bmc-psu@psu_1"}
    bmc.sensors = [inlet(45.0), detector(False)]
    world.poll(2)
    assert world.standing(node) == {"bmc-firmware-drift@bios", "bmc-psu@psu_1", "bmc-hot@bmc_0/inlet"}
    bmc.sensors = [inlet(), detector(False)]
    world.poll(2)
    bmc.firmware["BIOS"] = "1.0"
    bmc.inventory = BmcInventory(bmc.identity, None, (), (), (), tuple(supply), ())
    world.poll(61)
    assert world.standing(node) == set()


def test_a_node_that_left_is_asked_no_more(new_world: NewWorld) -> None:
    world, (node, _) = new_world(2)
    world.start()
    world.fleet.db.write(lambda tx: nodes.update(tx, node.id, {"state": State.RMA.value}))
    polls = world.watch.counts().polls
    world.poll(3)
    assert world.watch.counts().watched == 1
    assert world.watch.counts().polls == polls + 3


def test_the_twins_redfish_is_watched(sqlite_db: Database, clock: ManualClock, tmp_path: Path) -> None:
    """Real HTTP and real documents: a leak, a hot GPU, a line in the log, and a BMC that hangs beside them."""
    server = BmcServer()
    server.start()
    twins = [
        TwinBmc(
            TwinBmcSpec(f"t{n}", f"T{n}", "", gpu_serials=("G1", "G2"), username=LOGIN.username, password="secret"),
            clock,
        )
        for n in range(3)
    ]
    factory = RedfishBmcs(limits(BmcWatchSettings(deadline_s=2.0)))
    fleet = Fleet(sqlite_db, clock, PauseFile(tmp_path / "pause"))
    members = fleet.add(3)
    addresses = dict(zip((node.id for node in members), server.add_all(twins), strict=True))
    watch = BmcWatch(
        sqlite_db,
        lambda node: factory.open(addresses[node.id], Credentials(LOGIN.username, "secret")),
        SETTINGS,
        HEALTH,
        remediation.consider,
        owner="one",
    )
    world = World(fleet)
    world.watch = watch
    try:
        for twin in twins:
            twin.power = "On"
        watch.run_due()
        world.poll(6)
        assert [world.standing(node) for node in members] == [set()] * 3
        twins[0].leaks["LeakDetector_1_Manifold"] = "Critical"
        twins[1].readings["HGX_GPU_SXM_2_TEMP_0"] = (97.0, "Critical")
        twins[1].add_log("GPU 2 thermal trip", "Platform.1.0.Trip", "Critical")
        twins[2].faults.unreachable = True
        world.poll(6)
        assert "bmc-leak@bmc_0/leakdetector_1_manifold" in world.standing(members[0])
        assert "bmc-hot@hgx_gpu_sxm_2/hgx_gpu_sxm_2_temp_0" in world.standing(members[1])
        assert "bmc-log@platform.1.0.trip" in world.standing(members[1])
        assert watch.counts().failures > 0
    finally:
        watch.stop()
        server.close()
