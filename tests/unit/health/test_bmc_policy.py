"""What BMCs say, judged: each rule with the case that just does not reach it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ostler.adapters.bmc.port import FirmwareItem, Health, LogEntry, PowerState, Psu, Sensor, SensorKind
from ostler.core.errors import Forbidden, OstlerError, Unauthenticated, Unreachable
from ostler.faults.detector import Detector
from ostler.faults.model import Fault, Severity
from ostler.health.bmc_policy import (
    BmcWatchSettings,
    Track,
    drift,
    judge,
    log_faults,
    next_in,
    silence,
    supplies,
    suspects_itself,
    wants_recheck,
)

SETTINGS = BmcWatchSettings()
ON, OFF = PowerState.ON, PowerState.OFF


def sensor(
    name: str = "T",
    value: float | None = 40.0,
    *,
    kind: SensorKind = SensorKind.TEMPERATURE,
    limit: float | None = 90.0,
    health: Health = Health.OK,
) -> Sensor:
    return Sensor(name, "BOX", kind, value, "Cel", limit, health)


def leak(value: float | None, health: Health | None = None) -> Sensor:
    return sensor(
        "L", value, kind=SensorKind.LEAK, limit=None, health=health or (Health.WARNING if value else Health.OK)
    )


def names(faults: Sequence[Fault]) -> set[str]:
    return {f"{one.kind}-{one.code}@{one.device}" for one in faults}


class Polls:
    """One BMC, polled again and again."""

    def __init__(self) -> None:
        self.track = Track()

    def poll(self, *sensors: Sensor, power: PowerState = ON, should_run: bool = True) -> set[str]:
        self.track, faults = judge(self.track, power, sensors, should_run, SETTINGS)
        return names(faults)


@pytest.fixture
def bmc() -> Polls:
    return Polls()


def test_a_healthy_bmc_says_nothing(bmc: Polls) -> None:
    for _ in range(5):
        assert bmc.poll(sensor(), leak(0.0)) == set()


def test_a_temperature_is_believed_at_the_second_read_and_over_at_the_second(bmc: Polls) -> None:
    assert bmc.poll(sensor(value=90.0)) == set()
    assert bmc.poll(sensor(value=90.0)) == {"bmc-hot@BOX/T"}
    assert bmc.poll(sensor(value=89.9)) == {"bmc-hot@BOX/T"}
    assert bmc.poll(sensor(value=89.9)) == set()


def test_every_other_read_is_no_fault(bmc: Polls) -> None:
    for _ in range(5):
        assert bmc.poll(sensor(value=95.0)) == set()
        assert bmc.poll(sensor(value=50.0)) == set()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (SensorKind.TEMPERATURE, {"bmc-hot@BOX/T"}),
        (SensorKind.FAN, {"bmc-fan@BOX/T"}),
        (SensorKind.VOLTAGE, {"bmc-voltage@BOX/T"}),
        (SensorKind.CURRENT, {"bmc-voltage@BOX/T"}),
        (SensorKind.POWER, set()),
        (SensorKind.OTHER, set()),
    ],
)
def test_what_the_bmc_calls_critical(bmc: Polls, kind: SensorKind, said: set[str]) -> None:
    bmc.poll(sensor(kind=kind, limit=None, health=Health.CRITICAL))
    assert bmc.poll(sensor(kind=kind, limit=None, health=Health.CRITICAL)) == said


@pytest.mark.parametrize("health", [Health.WARNING, Health.UNKNOWN])
def test_what_is_less_than_critical(bmc: Polls, health: Health) -> None:
    for _ in range(3):
        assert bmc.poll(sensor(health=health)) == set()


def test_a_host_that_is_off_gives_no_readings_and_that_ends_nothing(bmc: Polls) -> None:
    for _ in range(2):
        bmc.poll(sensor(value=95.0))
    for _ in range(10):
        assert bmc.poll(sensor(value=None, health=Health.UNKNOWN), power=OFF, should_run=False) == {"bmc-hot@BOX/T"}


def test_the_messages_stay_when_the_values_move(bmc: Polls) -> None:
    said = set()
    for value in (91.0, 92.0, 93.5, 99.0):
        bmc.track, faults = judge(bmc.track, ON, [sensor(value=value)], True, SETTINGS)
        said |= {one.message for one in faults}
    assert len(said) == 1


def test_power_off_twice_where_it_should_run(bmc: Polls) -> None:
    assert bmc.poll(power=OFF) == set()
    assert bmc.poll(power=OFF) == {"bmc-power-off@"}
    assert bmc.poll(power=PowerState.UNKNOWN) == {"bmc-power-off@"}, "not knowing ends nothing"
    bmc.poll(power=ON)
    assert bmc.poll(power=ON) == set()


@pytest.mark.parametrize("power", [PowerState.UNKNOWN, PowerState.POWERING_ON, PowerState.POWERING_OFF])
def test_other_states_of_power_are_not_off(bmc: Polls, power: PowerState) -> None:
    for _ in range(3):
        assert bmc.poll(power=power) == set()


def test_power_off_where_nobody_expects_it_on(bmc: Polls) -> None:
    for _ in range(3):
        assert bmc.poll(power=OFF, should_run=False) == set()


def test_one_wet_read_is_suspected_and_read_again_at_once(bmc: Polls) -> None:
    assert bmc.poll(leak(1.0)) == {"bmc-leak-suspected@BOX/L"}
    assert wants_recheck(bmc.track)
    assert next_in(0, None, bmc.track, SETTINGS) == 5.0
    assert bmc.poll(leak(0.0)) == set()
    assert next_in(0, None, bmc.track, SETTINGS) == 60.0


def test_two_wet_reads_confirm(bmc: Polls) -> None:
    bmc.poll(leak(1.0))
    assert bmc.poll(leak(1.0)) == {"bmc-leak@BOX/L"}
    assert not wants_recheck(bmc.track)


def test_wet_reads_with_a_dry_one_between_do_not_confirm(bmc: Polls) -> None:
    for _ in range(4):
        assert bmc.poll(leak(1.0)) == {"bmc-leak-suspected@BOX/L"}
        assert bmc.poll(leak(0.0)) == set()


def test_two_detectors_wet_once_each_do_not_confirm(bmc: Polls) -> None:
    other = Sensor("M", "BOX", SensorKind.LEAK, 1.0, "", None, Health.WARNING)
    assert bmc.poll(leak(1.0), other) == {"bmc-leak-suspected@BOX/L", "bmc-leak-suspected@BOX/M"}


def test_a_critical_read_confirms_at_once(bmc: Polls) -> None:
    assert bmc.poll(leak(1.0, Health.CRITICAL)) == {"bmc-leak@BOX/L"}


def test_a_detector_that_fell_silent_is_neither_wet_nor_dry(bmc: Polls) -> None:
    bmc.poll(leak(0.0))
    assert bmc.poll(leak(None)) == set()
    bmc.poll(leak(1.0))
    assert bmc.poll(leak(None)) == {"bmc-leak-suspected@BOX/L"}


def test_a_detector_without_a_word_for_three_polls_is_unwatched(bmc: Polls) -> None:
    bmc.poll(leak(0.0), sensor())
    assert bmc.poll(leak(None), sensor()) == set()
    assert bmc.poll(leak(None), sensor()) == set()
    assert bmc.poll(leak(None), sensor()) == {"monitor-dead@bmc:BOX"}
    assert bmc.poll(leak(0.0), sensor()) == set()


def test_sensors_that_vanish_while_the_host_is_on(bmc: Polls) -> None:
    bmc.poll(sensor(), sensor("U"))
    assert bmc.poll(sensor()) == set()
    assert bmc.poll(sensor()) == set()
    assert bmc.poll(sensor()) == {"monitor-dead@bmc:BOX"}


def test_sensors_that_vanish_with_the_host(bmc: Polls) -> None:
    bmc.poll(sensor())
    for _ in range(5):
        assert bmc.poll(power=OFF, should_run=False) == set()


def test_a_vanished_sensor_ends_nothing(bmc: Polls) -> None:
    for _ in range(2):
        bmc.poll(sensor(value=95.0), sensor("U"))
    assert "bmc-hot@BOX/T" in bmc.poll(sensor("U"))
    assert "bmc-hot@BOX/T" in bmc.poll(sensor("U"))


def test_silence_is_said_at_the_third_poll() -> None:
    error = Unreachable("no answer")
    assert silence(2, error, SETTINGS) is None
    said = silence(3, error, SETTINGS)
    assert said is not None
    assert (said.code, said.message, said.action) == ("silent", "the BMC does not answer", "watch")


@pytest.mark.parametrize("error", [Unauthenticated("no"), Forbidden("no")])
def test_a_refused_password_is_said_at_once_and_seldom_tried(error: OstlerError) -> None:
    said = silence(1, error, SETTINGS)
    assert said is not None and "password" in said.message
    assert next_in(1, error, Track(), SETTINGS) == 900.0


def test_a_silent_bmc_is_asked_ever_less_often() -> None:
    error = Unreachable("no answer")
    waits = [next_in(n, error, Track(), SETTINGS) for n in (1, 2, 3, 4, 5, 6, 7, 8, 5000)]
    assert waits == [60.0, 60.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0, 900.0]


@pytest.mark.parametrize(
    ("silent", "watched", "suspects"), [(5, 100, False), (6, 100, True), (1, 1, False), (2, 2, True), (0, 0, False)]
)
def test_more_than_one_in_twenty_silent_together(silent: int, watched: int, suspects: bool) -> None:
    assert (suspects_itself(silent, watched, SETTINGS) is not None) is suspects


def psu(name: str, health: Health = Health.OK) -> Psu:
    return Psu(name, "", "", None, health)


def test_supplies_that_fail_or_are_gone() -> None:
    found = [psu("1", Health.CRITICAL), psu("2", Health.WARNING), psu("3"), psu("4", Health.UNKNOWN)]
    had = frozenset("12345")
    assert names([*supplies(found, had, False)]) == {"bmc-psu@1", "bmc-psu@2", "bmc-psu@5"}
    assert names([*supplies(found, had, True)]) == {"bmc-psu@1", "bmc-psu@2"}, "what was not read is not gone"
    assert names([*supplies([psu("3")], frozenset(), False)]) == set()


def test_firmware_that_is_not_as_declared() -> None:
    runs = [FirmwareItem("BIOS", "2.1"), FirmwareItem("BMC", "7"), FirmwareItem("FPGA", ""), FirmwareItem("X", "1")]
    declared = {"BIOS": "2.1", "BMC": "8", "FPGA": "4", "ABSENT": "1"}
    assert names([*drift(runs, declared)]) == {"bmc-firmware-drift@BMC"}


def entry(message: str, severity: Health = Health.OK, message_id: str = "Base.1.0.X") -> LogEntry:
    return LogEntry("SEL", "1", None, severity, message, message_id)


def test_log_lines_by_the_catalogue_then_by_their_severity() -> None:
    lines = [
        entry("Power Supply #0x51 | Power Supply AC lost | Asserted"),
        entry("Something broke", Health.CRITICAL, "Vendor.1.Broke"),
        entry("Something is odd", Health.WARNING, "Vendor.1.Odd"),
        entry("Somebody logged in"),
        entry("Who knows", Health.UNKNOWN),
    ]
    found = log_faults(lines, Detector())
    assert [(one.kind, one.code, one.severity) for one in found] == [
        ("power", "psu-failure", Severity.ERROR),
        ("bmc", "log", Severity.ERROR),
        ("bmc", "log", Severity.WARNING),
    ]
    assert all(one.action != "reboot" for one in found)


def test_a_critical_leak_event_confirms_and_a_lesser_one_does_not() -> None:
    lines = [entry("Leak detected", Health.CRITICAL), entry("Leak detector fault", Health.WARNING, "V.1.L")]
    assert names(log_faults(lines, Detector())) == {"bmc-leak@event", "bmc-log@V.1.L"}


def test_equal_lines_are_one_fault_and_a_flood_is_bounded() -> None:
    assert len(log_faults([entry("x", Health.WARNING)] * 5000, Detector())) == 1
    many = [entry(f"line {n}", Health.WARNING, f"V.1.{n}") for n in range(5000)]
    assert len(log_faults(many, Detector())) == 200


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: BmcWatchSettings(every_s=0.0),
        lambda: BmcWatchSettings(deadline_s=-1.0),
        lambda: BmcWatchSettings(workers=0),
        lambda: BmcWatchSettings(silent_polls=0),
    ],
)
def test_impossible_settings_are_refused(wrong: Callable[[], BmcWatchSettings]) -> None:
    with pytest.raises(ValueError, match=r"at least|above"):
        wrong()
