"""`mlxlink --json -m -c` (MFT and mstflint): module, bit error rates, state of one port. Called by `formats`.

A document does not say which port it is of. Several are given as an object keyed `host/device` (`gpu-0001/mlx5_0`,
`gpu-0001/mlx5_0/2` for a second port), `0x<node guid>/<port>` or `lid-<lid>/<port>` (a switch, asked in band), or as a
list of documents that have such a `key`; a single one is named by its file: `gpu-0001.mlx5_0.json`. Hosts and LIDs are
filed under placeholders that `bind.py` resolves.

Values are texts: `45 [-10..75]` is a reading with the alarm limits of the EEPROM, `-1.3,-1.1 [-10..6]` one a lane,
`15E-255` no error at all. A copper cable has no light and shows `0 [0..0]`, which is no reading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ostler.core.errors import BadInput
from ostler.fabric.formats import vocabulary as say
from ostler.fabric.formats.bind import by_description, by_lid
from ostler.fabric.sweep import Ber, End, Module, PortFacts, ProblemKind, Sweep

_RANGE = re.compile(r"\[\s*([-+]?\d{1,6}(?:\.\d{1,6})?)\s*\.\.\s*([-+]?\d{1,6}(?:\.\d{1,6})?)\s*\]")
_LID = re.compile(r"lid-(0x[0-9a-fA-F]{1,4}|\d{1,5})")
_FILE = re.compile(r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*?)[._-](?P<device>mlx[45]_\w{1,16}|ibp\w{1,16})")
_NO_LIGHT_DBM = -40.0
"""What the tool shows for 0 mW: the lane is dark, or not there."""


def looks_like(head: bytes) -> bool:
    return b'"Operational Info"' in head or b'"Module Info"' in head or b'"Physical Counters and BER Info"' in head


def read(data: bytes, name: str) -> Sweep:
    """The modules and rates. Raises `BadInput` where it is no JSON, or has not one document of mlxlink."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise BadInput(f"It is no JSON document ({type(error).__name__}).", where=f"{name}:{line}") from None
    sweep = Sweep("mlxlink", name, topology=False)
    found = 0
    for key, one in _documents(document, name):
        output = _output(one)
        if output is None:
            status = one.get("status") if isinstance(one, dict) else None
            why = say.words(status.get("message")) if isinstance(status, dict) else ""
            sweep.trouble(ProblemKind.FAILED, f"{key[:100]}: {why or 'no output of mlxlink in it'}", hides=False)
            continue
        found += 1
        end = _end(sweep, key)
        if end is None:
            sweep.trouble(ProblemKind.UNREADABLE, f"{key[:100]!r} names no port (host/device, GUID/port, lid-N/port)")
        else:
            _port(sweep, end, output)
    if not found:
        raise BadInput("Not one document of `mlxlink --json` is in it.", where=f"{name}:1")
    return sweep


def _documents(document: object, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(document, dict) and (_output(document) is not None or "status" in document):
        named = _FILE.match(name.rsplit("/", 1)[-1])
        yield (f"{named['host']}/{named['device']}" if named else say.words(document.get("key"))) or name, document
    elif isinstance(document, dict):
        for key, one in document.items():
            yield key, one
    elif isinstance(document, list):
        for at, one in enumerate(document):
            key = say.words(one.get("key")) if isinstance(one, dict) else ""
            yield key or f"document {at + 1}", one


def _output(one: object) -> Mapping[str, Any] | None:
    """The part with the sections, whether it is wrapped in `result.output` or not."""
    for key in ("result", "output"):
        if isinstance(one, dict) and isinstance(one.get(key), dict):
            one = one[key]
    if isinstance(one, dict) and any(isinstance(one.get(key), dict) for key in _SECTIONS):
        return one
    return None


_SECTIONS = ("Operational Info", "Module Info", "Physical Counters and BER Info")


def _end(sweep: Sweep, key: str) -> End | None:
    parts = key.strip().strip("/").split("/")
    port = say.whole(parts[-1], 255) if len(parts) > 1 else None
    if lid := _LID.search(key):
        number = say.whole(lid[1], 0xC000)
        return by_lid(sweep, number, port) if number and port else None
    if parts[0].lower().startswith("0x"):
        node = say.guid(parts[0])
        return End(node, port or 1) if node and len(parts) <= 2 else None
    host, device = say.words(parts[0]), say.words(parts[1]) if len(parts) > 1 else ""
    if not host or not device or len(parts) > 3 or (len(parts) == 3 and not port):
        return None
    return by_description(sweep, f"{host} {device}", (port or 1) if len(parts) == 3 else 1)


def _port(sweep: Sweep, end: End, output: Mapping[str, Any]) -> None:
    info, module, rates = (_section(output, name) for name in _SECTIONS)
    facts = PortFacts(
        state=say.state(_text(info.get("State"))),
        physical=say.physical(_text(info.get("Physical state")).replace("ETH_AN_FSM_ENABLE", "")),
        width=say.width(info.get("Width")),
        speed=say.speed(info.get("Speed")),
    )
    if facts != PortFacts():
        before = sweep.ports.get(end)
        sweep.ports[end] = facts._replace(lid=before.lid if before else 0)
    if any(say.words(value) for value in module.values()):
        sweep.modules[end] = _module(module)
    if rates:
        sweep.bers[end] = _ber(rates)
        down, recovery = (
            say.whole(rates.get(name)) for name in ("Link Down Counter", "Link Error Recovery Counter")
        )  # from the group of InfiniBand's own port counters: the same numbers as perfquery's
        counters = {
            name: count
            for name, count in (("link_downed", down), ("link_error_recovery", recovery))
            if count is not None
        }
        if counters:
            sweep.counters[end] = counters


def _section(output: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = output.get(name)
    return found if isinstance(found, dict) else {}


def _module(info: Mapping[str, Any]) -> Module:
    copper = (
        "copper" in _text(info.get("Cable Type")).lower() or "copper" in _text(info.get("Cable Technology")).lower()
    )
    temperature, limits = say.number(info.get("Temperature [C]")), _limits(info.get("Temperature [C]"))
    if limits is None and temperature == 0:
        temperature = None
    return Module(
        vendor=say.words(info.get("Vendor Name")),
        part=say.words(info.get("Vendor Part Number")),
        serial=say.words(info.get("Vendor Serial Number")),
        kind=say.words(info.get("Cable Type")) or say.words(info.get("Cable Technology")),
        length_m=say.number(info.get("Transfer Distance [m]")) or say.number(info.get("Cable Length [m]")),
        firmware=say.words(info.get("FW Version")),
        temperature_c=temperature,
        temperature_limits_c=limits,
        rx_power_dbm=() if copper else _lanes(info.get("Rx Power Current [dBm]")),
        rx_limits_dbm=None if copper else _limits(info.get("Rx Power Current [dBm]")),
        tx_power_dbm=() if copper else _lanes(info.get("Tx Power Current [dBm]")),
    )


def _ber(info: Mapping[str, Any]) -> Ber:
    minutes = say.number(info.get("Time Since Last Clear [Min]"))
    return Ber(
        raw=say.ber(info.get("Raw Physical BER")),
        effective=say.ber(info.get("Effective Physical BER")),
        symbol=say.ber(info.get("Symbol BER")),
        raw_lanes=tuple(
            value for value in map(say.ber, _values(info.get("Raw Physical BER Per Lane"))) if value is not None
        ),
        effective_errors=say.whole(info.get("Effective Physical Errors")),
        symbol_errors=say.whole(info.get("Symbol Errors")),
        seconds=minutes * 60 if minutes is not None and minutes >= 0 else None,
    )


def _values(value: object) -> list[object]:
    """The values a lane: a list, a list under `values`, or a text with commas (before any limits)."""
    if isinstance(value, dict):
        value = value.get("values")
    if isinstance(value, list):
        return value[:16]
    text = _text(value)[:400].partition("[")[0]
    return list(text.split(",")[:16]) if text.strip() else []


def _lanes(value: object) -> tuple[float, ...]:
    found = [say.number(one) for one in _values(value)]
    if _limits(value) is None and not any(found):
        return ()
    return tuple(max(one, _NO_LIGHT_DBM) for one in found if one is not None)


def _limits(value: object) -> tuple[float, float] | None:
    found = _RANGE.search(_text(value)[-60:])
    if found is None or float(found[1]) >= float(found[2]):
        return None
    return float(found[1]), float(found[2])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
