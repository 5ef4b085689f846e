"""Chassis, sensors, power and cooling of a simulated BMC. Called by `bmc_tree.py`."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ostler.twin.bmc_document import collection, link, ok

if TYPE_CHECKING:
    from ostler.twin.bmc import TwinBmc

_GPU = re.compile(r"HGX_GPU_SXM_(\d+)")

# id suffix, reading type, unit, typical value, upper critical
_GPU_SENSORS = (
    ("TEMP_0", "Temperature", "Cel", 41.0, 92.0),
    ("TEMP_1", "Temperature", "Cel", 47.0, None),
    ("DRAM_0_Temp_0", "Temperature", "Cel", 49.0, 95.0),
    ("DRAM_0_Power_0", "Power", "W", 36.0, None),
    ("Power_0", "Power", "W", 118.0, 800.0),
    ("Voltage_0", "Voltage", "V", 0.89, None),
)
_HOST_SENSORS = (
    ("TEMP_INLET", "Temperature", "Cel", 24.0, 40.0),
    ("TEMP_OUTLET", "Temperature", "Cel", 38.0, 75.0),
    ("PWR_SYSTEM", "Power", "W", 2900.0, None),
    *((f"FAN_{n}", "Rotational", "RPM", 7800.0, None) for n in range(1, 9)),
)
_SWITCHES = 4
_LEAK_DETECTORS = ("LeakDetector_0_ColdPlate", "LeakDetector_1_Manifold")


def chassis(bmc: TwinBmc, parts: tuple[str, ...]) -> Mapping[str, Any] | None:
    gpus = len(bmc.spec.gpu_serials)
    boxes = ["BMC_0"] + (["HGX_Chassis_0"] if gpus else []) + [f"HGX_GPU_SXM_{n}" for n in range(1, gpus + 1)]
    if not parts:
        return collection("Chassis", ("Chassis",), boxes)
    box, rest, at = parts[0], parts[1:], ("Chassis", *parts)
    if box not in boxes:
        return None
    sensors = tuple(_sensors_of(box))
    if not rest:
        serial = bmc.spec.serial if box == "BMC_0" else ""
        host = ("Power", "Thermal", "PowerSubsystem", "ThermalSubsystem") if box == "BMC_0" else ()
        return {
            "@odata.type": "#Chassis.v1_25_1.Chassis",
            "Id": box,
            "ChassisType": "RackMount" if box == "BMC_0" else "Component",
            "Manufacturer": bmc.spec.manufacturer,
            "Model": bmc.spec.model,
            "SerialNumber": serial,
            "PowerState": bmc.power,
            "Status": ok(),
            "Sensors": link(*at, "Sensors"),
            **{name: link(*at, name) for name in host},
        }
    if rest == ("Sensors",):
        return collection("Sensor", at, [row[0] for row in sensors])
    if rest[0] == "Sensors" and len(rest) == 2:
        return next((_sensor(bmc, row) for row in sensors if row[0] == rest[1]), None)
    return _power_and_cooling(bmc, rest, at) if box == "BMC_0" else None


_Row = tuple[str, str, str, float, float | None]


def _sensors_of(box: str) -> Iterator[_Row]:
    if box == "BMC_0":
        yield from _HOST_SENSORS
    elif box == "HGX_Chassis_0":
        for n in range(_SWITCHES):
            yield (f"HGX_NVSwitch_{n}_TEMP_0", "Temperature", "Cel", 44.0, 100.0)
    elif _GPU.fullmatch(box):
        for suffix, kind, unit, value, limit in _GPU_SENSORS:
            yield (f"{box}_{suffix}", kind, unit, value, limit)


def _sensor(bmc: TwinBmc, row: _Row) -> dict[str, Any]:
    name, kind, unit, typical, limit = row
    spread = (zlib.crc32(f"{bmc.spec.serial}{name}".encode()) % 1000 / 1000 - 0.5) * 0.06 * typical
    reading: float | None = round(typical + spread, 3)
    health, state = "OK", "Enabled"
    if bmc.power == "Off" and name.startswith("HGX_"):
        reading, state = None, "UnavailableOffline"
    elif name in bmc.readings:
        reading, health = bmc.readings[name]
    return {
        "@odata.type": "#Sensor.v1_10_1.Sensor",
        "Id": name,
        "ReadingType": kind,
        "ReadingUnits": unit,
        "Reading": reading,
        "Status": ok(health, state),
        **({"Thresholds": {"UpperCritical": {"Reading": limit}}} if limit is not None else {}),
    }


def _power_and_cooling(bmc: TwinBmc, rest: tuple[str, ...], at: tuple[str, ...]) -> Mapping[str, Any] | None:
    supplies = [f"PSU_{n}" for n in range(bmc.spec.psus)]
    rows = [(row, _sensor(bmc, row)) for row in _HOST_SENSORS]
    match rest:
        case ("PowerSubsystem",):
            kind = {"@odata.type": "#PowerSubsystem.v1_1_3.PowerSubsystem", "Id": "PowerSubsystem"}
            return {**kind, "PowerSupplies": link(*at, "PowerSupplies"), "Status": ok()}
        case ("PowerSubsystem", "PowerSupplies"):
            return collection("PowerSupply", at, supplies)
        case ("PowerSubsystem", "PowerSupplies", name) if name in supplies:
            return {"@odata.type": "#PowerSupply.v1_6_0.PowerSupply", "Id": name, **_supply(bmc, name)}
        case ("Power",):
            watts = next(doc["Reading"] for row, doc in rows if row[1] == "Power")
            return {
                "@odata.type": "#Power.v1_7_3.Power",
                "Id": "Power",
                "PowerControl": [{"MemberId": "0", "Name": "System Power Control", "PowerConsumedWatts": watts}],
                "PowerSupplies": [{"MemberId": name, **_supply(bmc, name)} for name in supplies],
            }
        case ("Thermal",):
            warm = [(row, doc) for row, doc in rows if row[1] == "Temperature"]
            fans = [(row, doc) for row, doc in rows if row[1] == "Rotational"]
            return {
                "@odata.type": "#Thermal.v1_7_3.Thermal",
                "Id": "Thermal",
                "Temperatures": [
                    {
                        "MemberId": row[0],
                        "Name": row[0],
                        "ReadingCelsius": doc["Reading"],
                        "UpperThresholdCritical": row[4],
                        "Status": doc["Status"],
                    }
                    for row, doc in warm
                ],
                "Fans": [
                    {
                        "MemberId": row[0],
                        "Name": row[0],
                        "Reading": doc["Reading"],
                        "ReadingUnits": "RPM",
                        "Status": doc["Status"],
                    }
                    for row, doc in fans
                ],
            }
        case ("ThermalSubsystem",):
            kind = {"@odata.type": "#ThermalSubsystem.v1_3_3.ThermalSubsystem", "Id": "ThermalSubsystem"}
            return {**kind, "LeakDetection": link(*at, "LeakDetection"), "Status": ok()}
        case ("ThermalSubsystem", "LeakDetection"):
            kind = {"@odata.type": "#LeakDetection.v1_1_0.LeakDetection", "Id": "LeakDetection"}
            return {**kind, "LeakDetectors": link(*at, "LeakDetectors"), "Status": ok()}
        case ("ThermalSubsystem", "LeakDetection", "LeakDetectors"):
            return collection("LeakDetector", at, _LEAK_DETECTORS)
        case ("ThermalSubsystem", "LeakDetection", "LeakDetectors", name) if name in _LEAK_DETECTORS:
            state = bmc.leaks.get(name, "OK")
            kind = {"@odata.type": "#LeakDetector.v1_4_0.LeakDetector", "Id": name}
            return {**kind, "LeakDetectorType": "Moisture", "DetectorState": state, "Status": ok(state)}
    return None


def _supply(bmc: TwinBmc, name: str) -> dict[str, Any]:
    health = bmc.readings.get(name, (None, "OK"))[1]
    return {
        "Name": name,
        "Model": "PSU 3300 W",
        "SerialNumber": f"P{bmc.spec.serial}{name[4:]}",
        "PowerCapacityWatts": 3300,
        "Status": ok(health),
    }
