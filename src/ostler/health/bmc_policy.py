"""What BMCs say, judged: readings become the faults that stand now. Pure; called by `bmc_watch.py` with what it read.

A message is the same from poll to poll, measured values go into the detail: what changes is said again, and a figure
that moves is no news. What a BMC stops saying is neither good nor bad: it ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ostler.adapters.bmc.port import FirmwareItem, Health, LogEntry, PowerState, Psu, Sensor, SensorKind
from ostler.core.errors import Forbidden, OstlerError, Unauthenticated
from ostler.faults.detector import Detector
from ostler.faults.model import Fault, Severity
from ostler.faults.monitored import fault

SEL = "sel"
"""Who is said to have written an entry of a BMC's log, so that the catalogue reads it as such (`faults/entry.py`)."""
MOST_ENTRIES = 200
"""Log entries taken of one BMC at once, the newest."""
_DEVICE = 256


@dataclass(frozen=True)
class BmcWatchSettings:
    """`[bmc_watch]` of the configuration. Spans are domain seconds unless they say otherwise."""

    enabled: bool = True
    every_s: float = 60.0
    """Power, sensors and leak detectors of each BMC. Measured (bench/bmc.py, 8-GPU servers, plain HTTP): a poll takes
    2.1 ms of a core with 1,000 BMCs, 4.1 to 4.9 ms with 10,000 on an overloaded machine, so 10,000 take 41 to 49 s of
    the 60. Where a process cannot keep it up, a round takes as long as it takes, in turn, and
    `ostler_bmc_poll_late_p99_seconds` says how late it is."""
    log_every_s: float = 300.0
    parts_every_s: float = 3600.0
    """Power supplies and firmware."""
    workers: int = 256
    """Conversations at once. Real BMCs take seconds for a round of questions: this, not the processor, bounds them."""
    deadline_s: float = 30.0
    """Real seconds that one operation on a BMC may take; see `bmc_watch.limits`."""
    kept: int = 10_000
    """Conversations that stay open between polls (a descriptor each): a log-in and a TLS handshake cost a BMC more
    than the questions do. At most half of the process's descriptors."""
    silent_polls: int = 3
    """Polls in a row without an answer before a BMC is silent."""
    silent_every_s: float = 900.0
    """A silent BMC is asked ever less often, down to this. One that refuses our password is so at once."""
    silent_share: float = 0.05
    """More of the BMCs silent together, and it is Ostler or the management network (DESIGN, principle 5)."""
    reads: int = 2
    """Reads in a row before a sensor or the power is believed, and before it is over."""
    recheck_s: float = 5.0
    """A detector that is wet for the first time is read again so soon."""
    vanished_polls: int = 3
    """Polls in a row without a sensor that gave readings before."""

    def __post_init__(self) -> None:
        if min(self.every_s, self.log_every_s, self.parts_every_s, self.recheck_s) <= 0 or self.deadline_s <= 0:
            raise ValueError("intervals and the deadline are above 0 s")
        if not (1 <= self.workers <= 4096 and self.silent_polls >= 1 and self.reads >= 1 and self.kept >= 0):
            raise ValueError("workers is 1 to 4096; silent_polls and reads are at least 1; kept is at least 0")


@dataclass(frozen=True)
class Track:
    """What must be remembered of a BMC between polls. A new one knows nothing."""

    against: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(fault, device) → reads in a row that contradict what stands."""
    standing: Mapping[tuple[str, str], Fault] = field(default_factory=dict)
    wet: Mapping[str, int] = field(default_factory=dict)
    """Leak detector → wet reads in a row."""
    seen: frozenset[str] = frozenset()
    """Sensors that gave a reading while the host was on."""
    absent: Mapping[str, int] = field(default_factory=dict)
    """Chassis → polls in a row with sensors missing."""


def judge(
    track: Track, power: PowerState, sensors: Sequence[Sensor], should_run: bool, settings: BmcWatchSettings
) -> tuple[Track, tuple[Fault, ...]]:
    """One poll: what is remembered after it, and what stands. `should_run`: the node is meant to be switched on."""
    wrong: dict[tuple[str, str], Fault] = {}
    unsaid: set[str] = set()
    if power is PowerState.OFF and should_run:
        off = fault("bmc-power-off", "", "the node is switched off and nobody of ours did it")
        wrong["bmc-power-off", ""] = off
    wet: dict[str, int] = {}
    leaks: list[Fault] = []
    for sensor in sensors:
        device = device_of(sensor)
        if sensor.kind is SensorKind.LEAK:
            reads = _wet_reads(track, sensor, device)
            if reads:
                wet[device] = reads
                leaks.append(_leak(sensor, device, reads))
        elif sensor.value is None and sensor.health is not Health.CRITICAL:
            unsaid.add(device)
        elif (one := _beyond(sensor, device)) is not None:
            wrong[_key(one)] = one
    listed = {device_of(sensor) for sensor in sensors}
    unsaid |= track.seen - listed
    against, standing = _steady(track, wrong, unsaid, power, settings)
    seen, absent = _vanished(track, sensors, listed, power)
    found = [*standing.values(), *leaks]
    for box, polls in absent.items():
        if polls >= settings.vanished_polls:
            said = f"{box}: sensors that gave readings are not there any more"
            found.append(fault("monitor-dead", f"bmc:{box}"[:_DEVICE], said))
    return Track(against, standing, wet, seen, absent), tuple(found)


def _key(one: Fault) -> tuple[str, str]:
    return f"{one.kind}-{one.code}", one.device


def device_of(sensor: Sensor) -> str:
    """A sensor's name is unique within its chassis only."""
    return f"{sensor.chassis}/{sensor.name}"[:_DEVICE]


def _wet_reads(track: Track, sensor: Sensor, device: str) -> int:
    """Wet reads in a row; a read that says nothing leaves the count as it is."""
    before = track.wet.get(device, 0)
    if sensor.value is None:
        return before + 1 if sensor.health is Health.CRITICAL else before
    return before + 1 if sensor.value > 0 else 0


def _leak(sensor: Sensor, device: str, reads: int) -> Fault:
    """Two reads confirm, and so does a critical one (DESIGN, principle 8)."""
    detail = {"detector": sensor.name, "health": sensor.health}
    if reads >= 2 or sensor.health is Health.CRITICAL:
        return fault("bmc-leak", device, f"coolant leaks: {device} is wet", detail=detail)
    return fault("bmc-leak-suspected", device, f"{device} is wet, by one reading", detail=detail)


def _beyond(sensor: Sensor, device: str) -> Fault | None:
    """A reading beyond its critical limit, or that the BMC itself calls critical."""
    name = {
        SensorKind.TEMPERATURE: "bmc-hot",
        SensorKind.FAN: "bmc-fan",
        SensorKind.VOLTAGE: "bmc-voltage",
        SensorKind.CURRENT: "bmc-voltage",
    }.get(sensor.kind)
    if name is None:
        return None
    above = sensor.value is not None and sensor.upper_critical is not None and sensor.value >= sensor.upper_critical
    if not above and sensor.health is not Health.CRITICAL:
        return None
    detail = {"value": "" if sensor.value is None else f"{sensor.value:g} {sensor.unit}".strip()}
    if sensor.upper_critical is not None:
        detail["upper_critical"] = f"{sensor.upper_critical:g}"
    why = "is above its critical limit" if above else "is critical, says the BMC"
    return fault(name, device, f"{device} {why}", detail=detail)


def _steady(
    track: Track,
    wrong: Mapping[tuple[str, str], Fault],
    unsaid: set[str],
    power: PowerState,
    settings: BmcWatchSettings,
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], Fault]]:
    """Several reads in a row begin a fault and several end it; a sensor that says nothing does neither."""
    against: dict[tuple[str, str], int] = {}
    standing: dict[tuple[str, str], Fault] = {}
    for key in {**track.standing, **wrong}:
        silent = key[1] in unsaid or (key[0] == "bmc-power-off" and power is PowerState.UNKNOWN)
        stands, said = key in track.standing, wrong.get(key)
        count = track.against.get(key, 0)
        if not silent:
            count = count + 1 if stands == (said is None) else 0
        if count >= settings.reads:
            stands, count = not stands, 0
        if count:
            against[key] = count
        if stands:
            standing[key] = track.standing.get(key) or wrong[key]
    return against, standing


def _vanished(
    track: Track, sensors: Sequence[Sensor], listed: set[str], power: PowerState
) -> tuple[frozenset[str], dict[str, int]]:
    """Which sensors gave readings, and by chassis for how many polls some of them have been gone. A host that is off
    takes its sensors along: then nothing is learnt."""
    if power is not PowerState.ON:
        return track.seen, dict(track.absent)
    giving = {device_of(one) for one in sensors if one.value is not None}
    seen = track.seen if giving <= track.seen else track.seen | giving
    # A sensor that is listed without a reading is absent only if it is a leak detector: it has nothing else to say.
    mute = {device_of(one) for one in sensors if one.kind is SensorKind.LEAK and one.value is None}
    gone = {device.partition("/")[0] for device in seen - (listed - mute)}
    return seen, {box: track.absent.get(box, 0) + 1 for box in sorted(gone)}


def wants_recheck(track: Track) -> bool:
    """A detector was wet once: look again at once."""
    return 1 in track.wet.values()


# Silence --------------------------------------------------------------------------------------------------------------


def silence(failures: int, error: OstlerError, settings: BmcWatchSettings) -> Fault | None:
    """The finding of a BMC that did not answer so often in a row; None while it may pass."""
    if failures < settings.silent_polls and not refused(error):
        return None
    if refused(error):
        return fault("bmc-silent", "", "the BMC refuses us: its user name or password is not the one we have")
    return fault("bmc-silent", "", "the BMC does not answer", detail={"last": error.message[:200]})


def refused(error: OstlerError) -> bool:
    return isinstance(error, Unauthenticated | Forbidden)


def next_in(failures: int, error: OstlerError | None, track: Track, settings: BmcWatchSettings) -> float:
    """Domain seconds from the last poll to the next."""
    if error is None:
        return min(settings.recheck_s, settings.every_s) if wants_recheck(track) else settings.every_s
    longest = max(settings.silent_every_s, settings.every_s)
    if refused(error):
        return longest
    return float(min(longest, settings.every_s * 2 ** min(max(0, failures - settings.silent_polls), 16)))


def suspects_itself(silent: int, watched: int, settings: BmcWatchSettings) -> str | None:
    """Why so many silent BMCs together say more about Ostler or its network than about them; None when they do not."""
    if silent > 1 and silent > settings.silent_share * watched:
        return f"{silent} of {watched} BMCs are silent together: look at Ostler and the management network first"
    return None


# Parts and firmware, each hour ----------------------------------------------------------------------------------------


def supplies(psus: Sequence[Psu], had: frozenset[str], unread: bool) -> Iterator[Fault]:
    """Power supplies that fail or are gone. `unread`: the BMC did not serve all it lists, so absence proves nothing."""
    for psu in psus:
        if psu.health in (Health.WARNING, Health.CRITICAL):
            yield fault("bmc-psu", psu.name[:_DEVICE], f"the power supply {psu.name} reports {psu.health}")
    if not unread:
        for name in sorted(had - {psu.name for psu in psus}):
            yield fault("bmc-psu", name[:_DEVICE], f"the power supply {name} is gone")


def drift(firmware: Sequence[FirmwareItem], declared: Mapping[str, str]) -> Iterator[Fault]:
    """Components that run another version than the SKU declares. One that says no version proves nothing."""
    runs = {item.component: item.version for item in firmware}
    for component, version in sorted(declared.items()):
        if runs.get(component) and runs[component] != version:
            said = f"{component} runs {runs[component]}, declared is {version}"
            yield fault("bmc-firmware-drift", component[:_DEVICE], said)


# The log --------------------------------------------------------------------------------------------------------------


def log_faults(entries: Sequence[LogEntry], detector: Detector) -> tuple[Fault, ...]:
    """What new entries report: by the catalogue where it knows the line, else by the severity that the BMC gave."""
    found: dict[tuple[str, str], Fault] = {}
    for entry in entries[-MOST_ENTRIES:]:
        one = _of_entry(entry, detector)
        if one is not None:
            found[_key(one)] = one
    return tuple(found.values())


def _of_entry(entry: LogEntry, detector: Detector) -> Fault | None:
    detail = {"log": entry.log, "id": entry.id, "message_id": entry.message_id}
    if entry.severity is Health.CRITICAL and "leak" in f"{entry.message} {entry.message_id}".lower():
        return fault("bmc-leak", "event", f"the BMC's log: {entry.message}", detail=detail)
    known = detector.detect(entry.message, SEL)
    if known is not None:
        return replace(known, detail={**known.detail, **detail})
    if entry.severity not in (Health.WARNING, Health.CRITICAL):
        return None
    device = (entry.message_id or entry.log)[:_DEVICE]
    severity = Severity.ERROR if entry.severity is Health.CRITICAL else Severity.WARNING
    return fault("bmc-log", device, entry.message, detail=detail, severity=severity)
