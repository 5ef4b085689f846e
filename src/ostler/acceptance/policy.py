"""The decisions of Day 1: does it match, what must be flashed, what is tested when, which SKU is this. Pure.

Called by the procedures (`seatrial.py`, `zap.py`, `burn_in.py`) and by `api.py`, which shows the same plans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ostler.acceptance.model import (
    AcceptanceSettings,
    BurnInPlan,
    CheckRun,
    Comparison,
    Eye,
    FirmwarePlan,
    Mismatch,
    Profile,
    Sku,
    Update,
)
from ostler.adapters.bmc.port import BmcInventory, Health, Sensor, SensorKind
from ostler.health.model import split_check
from ostler.nodes.model import Service, State

# Seatrial: is everything there, and in order? -------------------------------------------------------------------------


def compare_inventory(
    sku: Sku | None, host: Mapping[str, Any], bmc: BmcInventory | None, sensors: Sequence[Sensor] = ()
) -> Comparison:
    """What the host (its `wire.agent.Inventory` as JSON) and the BMC see, against the SKU and against each other."""
    mismatches: list[Mismatch] = []
    blind: list[str] = []
    if sku is None:
        blind.append("no SKU is declared: nothing to compare with")
    if not host:
        blind.append("the node's agent has not reported an inventory")
    if bmc is None:
        blind.append("the BMC was not asked")
    if sku is not None and host:
        mismatches += _host(sku, host)
    if sku is not None and bmc is not None:
        found, unseen = _out_of_band(sku, bmc)
        mismatches += found
        blind += unseen
    if host and bmc is not None:
        mismatches += _contradictions(host, bmc)
    if bmc is not None:
        mismatches += _supplies(bmc)
    mismatches += _sensors(sensors)
    return Comparison(tuple(mismatches), tuple(blind))


def _host(sku: Sku, host: Mapping[str, Any]) -> Iterable[Mismatch]:
    gpus = _items(host, "gpus")
    if sku.gpus is not None and len(gpus) != sku.gpus:
        yield Mismatch("gpu", Eye.HOST, str(sku.gpus), str(len(gpus)))
    yield from _models(sku, [str(gpu.get("model", "")) for gpu in gpus], Eye.HOST)
    cpus = _number(host.get("cpus"))
    if sku.cpus is not None and cpus != sku.cpus:
        yield Mismatch("cpu", Eye.HOST, f"{sku.cpus} logical processors", f"{cpus:g}")
    yield from _memory(sku, _number(host.get("memory_gib")), Eye.HOST)
    for part, key, least in (("nic", "nics", sku.nics), ("disk", "disks", sku.disks)):
        count = len(_items(host, key))
        if least is not None and count < least:
            yield Mismatch(part, Eye.HOST, f"at least {least}", str(count))


def _out_of_band(sku: Sku, bmc: BmcInventory) -> tuple[list[Mismatch], list[str]]:
    """A BMC that lists no part of a kind at all is blind for it; one that lists some must list all.

    Unless it did not serve everything that it links to: then a part it does not show may well be there.
    """
    wrong: list[Mismatch] = []
    blind: list[str] = []
    if bmc.unread:
        blind.append(f"the BMC did not serve {_some(bmc.unread)}")
    if sku.gpus and not bmc.gpus:
        blind.append("the BMC lists no GPUs")
    elif sku.gpus is not None and _proves_otherwise(len(bmc.gpus), sku.gpus, bmc):
        wrong.append(Mismatch("gpu", Eye.BMC, str(sku.gpus), str(len(bmc.gpus))))
    wrong += _models(sku, [gpu.model for gpu in bmc.gpus], Eye.BMC)
    if sku.memory_gib is not None and bmc.memory_gib is None:
        blind.append("the BMC does not say how much memory there is")
    elif bmc.memory_gib is not None:
        wrong += _memory(sku, bmc.memory_gib, Eye.BMC)
    if sku.psus and not bmc.psus:
        blind.append("the BMC lists no power supplies")
    elif sku.psus is not None and len(bmc.psus) < sku.psus and not bmc.unread:
        wrong.append(Mismatch("psu", Eye.BMC, f"at least {sku.psus}", str(len(bmc.psus))))
    return wrong, blind


def _proves_otherwise(seen: int, expected: int, bmc: BmcInventory) -> bool:
    return seen > expected or (seen < expected and not bmc.unread)


def _contradictions(host: Mapping[str, Any], bmc: BmcInventory) -> Iterable[Mismatch]:
    """What one eye sees and the other does not: a GPU off the bus, a BMC cabled to another chassis."""
    system = host.get("system")
    serial = str(system.get("serial", "")) if isinstance(system, Mapping) else ""
    if serial and bmc.identity.serial and serial != bmc.identity.serial:
        yield Mismatch("serial", Eye.BOTH, f"{serial} (host)", f"{bmc.identity.serial} (bmc)")
    gpus = _items(host, "gpus")
    if bmc.gpus and _proves_otherwise(len(bmc.gpus), len(gpus), bmc):
        yield Mismatch("gpu", Eye.BOTH, f"{len(bmc.gpus)} (bmc)", f"{len(gpus)} (host)")
    here = {str(gpu.get("serial", "")) for gpu in gpus}
    there = {gpu.serial for gpu in bmc.gpus}
    if here and there and not bmc.unread and "" not in here | there and here != there:
        yield Mismatch("gpu", Eye.BOTH, f"serials {_some(there - here)} (bmc)", f"{_some(here - there)} (host)")


def _supplies(bmc: BmcInventory) -> Iterable[Mismatch]:
    for psu in bmc.psus:
        if psu.health in (Health.WARNING, Health.CRITICAL):
            yield Mismatch("psu", Eye.BMC, f"{psu.name} ok", psu.health)


def _sensors(sensors: Sequence[Sensor]) -> Iterable[Mismatch]:
    for sensor in sensors:
        label = f"{sensor.chassis}/{sensor.name}"
        if sensor.kind is SensorKind.LEAK:
            if sensor.value:
                yield Mismatch("sensor", Eye.BMC, f"{label} dry", "leak")
        elif sensor.health is Health.CRITICAL:
            yield Mismatch("sensor", Eye.BMC, f"{label} ok", f"critical ({_reading(sensor)})")
        elif sensor.value is not None and sensor.upper_critical is not None and sensor.value >= sensor.upper_critical:
            yield Mismatch("sensor", Eye.BMC, f"{label} below {sensor.upper_critical:g}", _reading(sensor))


def _models(sku: Sku, models: Sequence[str], eye: Eye) -> Iterable[Mismatch]:
    if not sku.gpu_model:
        return
    others = Counter(model for model in models if sku.gpu_model.lower() not in model.lower())
    for model, count in sorted(others.items()):
        yield Mismatch("gpu", eye, f"model {sku.gpu_model}", f"{count} × {model or 'no model told'}")


def _memory(sku: Sku, found: float, eye: Eye) -> Iterable[Mismatch]:
    if sku.memory_gib is not None and abs(found - sku.memory_gib) > sku.memory_gib * sku.memory_tolerance:
        share = f"{sku.memory_tolerance * 100:g} %"
        yield Mismatch("memory", eye, f"{sku.memory_gib:g} GiB ± {share}", f"{found:g} GiB")


def match_sku(skus: Sequence[Sku], host: Mapping[str, Any]) -> Sku | None:
    """The one SKU that this inventory fits without any difference; None when none or several do. A SKU that declares
    neither GPUs nor memory would fit anything and is not considered."""
    told = [sku for sku in skus if sku.gpus is not None and sku.memory_gib is not None]
    fitting = [sku for sku in told if host and not list(_host(sku, host))]
    return fitting[0] if len(fitting) == 1 else None


def lasting(history: Mapping[str, int], last: Sequence[str]) -> tuple[str, ...]:
    """Which differences count after a window of looks: those of the last look, and those seen more than once."""
    came_and_went = [message for message, times in sorted(history.items()) if times > 1 and message not in last]
    return (*last, *came_and_went)


# Zap: what must be flashed? -------------------------------------------------------------------------------------------


def firmware_plan(sku: Sku | None, present: Mapping[str, str], service: Service = Service.MANAGED) -> FirmwarePlan:
    """Components that are not at their declared version, in the declared order. Versions are compared as text, ignoring
    case and outer blanks: vendors' schemes do not sort, and "different" is all that counts."""
    updates: list[Update] = []
    missing: list[str] = []
    impossible: list[Update] = []
    left_alone: list[str] = []
    for target in sku.firmware if sku is not None else ():
        version = present.get(target.component)
        if target.fabric_adapter and service is Service.UNMANAGED:
            left_alone.append(target.component)
        elif version is None:
            missing.append(target.component)
        elif same_version(version, target.version):
            continue
        elif target.image:
            updates.append(Update(target, version))
        else:
            impossible.append(Update(target, version))
    return FirmwarePlan(tuple(updates), tuple(missing), tuple(impossible), tuple(left_alone))


def same_version(one: str, other: str) -> bool:
    """Whether two version texts name the same version."""
    return one.strip().lower() == other.strip().lower()


# Test: what runs when? ------------------------------------------------------------------------------------------------


def profile_of(came_from: State | None, evidence: Mapping[str, Any]) -> Profile:
    """`repair` after triage or debug, `full` after zap; what the transition's evidence says comes first."""
    said = evidence.get("profile")
    if said in tuple(Profile):
        return Profile(said)
    return Profile.REPAIR if came_from in (State.TRIAGE, State.DEBUG) else Profile.FULL


def plan_burn_in(profile: Profile, settings: AcceptanceSettings) -> BurnInPlan:
    """Rounds of all checks, begun at even distances over the whole time, so that a node is tested cold and hot."""
    seconds = settings.burn_in_s if profile is Profile.FULL else settings.repair_test_s
    rounds = settings.test_rounds if profile is Profile.FULL else 1
    apart = seconds / max(rounds, 1)
    checks = [split_check(text) for text in settings.test_checks]
    runs = [
        CheckRun(number, check, (number - 1) * apart, arguments)
        for number in range(1, rounds + 1)
        for check, arguments in checks
    ]
    return BurnInPlan(profile, seconds, tuple(runs))


# ----------------------------------------------------------------------------------------------------------------------


def _items(host: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = host.get(key, ())
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _reading(sensor: Sensor) -> str:
    return "no reading" if sensor.value is None else f"{sensor.value:g} {sensor.unit}".strip()


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:8]) or "none more"
