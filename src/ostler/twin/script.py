"""Fault scripts: what happens to which node when. Read by `ostler twin --script`, written by the demo.

A script is TOML (a table `[[strike]]` per line of the story) or JSON Lines (an object per line). Its clock starts when
the fleet starts, or, with `start = "production"`, when every node is in production. Keys of a strike:

| key | meaning |
|---|---|
| at | domain seconds after the start; required |
| node | a name, `rack:NAME`, or `*`; required |
| kernel | list of kernel lines, said at once |
| every_boot | with `kernel`: the lines come again this many domain seconds after each boot; no reboot cures it |
| every_repair | with `kernel`: likewise after each boot and each GPU reset, counted anew from each check that ends |
| standing | list of `{fault, device, message}`: what the node's monitors find from now on; an empty list: nothing |
| monitor_dead | a monitor that works no more; an empty text: all work |
| readings | device → metric → value: what a GPU reads otherwise than its peers; an empty table: nothing |
| driver | the version of the GPU driver that the node runs from now on |
| sensor | `{id, reading, health}`: a BMC sensor's reading (health OK, Warning or Critical) |
| leak | `{id, state}`: a leak detector (OK, Warning or Critical) |
| log | `{message, id, severity}`: an entry of the BMC's event log |
| silence | domain seconds in which nothing leaves the node |
| workload | true: a workload takes the GPUs; false: it ends |
| fail_check | list of checks or verbs that fail from now on; an empty list: all pass again |
| swap_plugs | two HCAs of the node, `["mlx5_0", "mlx5_1"]`: the plugs in them are exchanged |
| power | `off`, `on`, `force-restart`, `power-cycle`: somebody presses a button |
| bmc | `unreachable` or `ok` |
| note | words for people |

Each strike has exactly one deed. Everything about it is checked before the first strike falls; a mistake is one line
that names file, line and key. Monitors, faults and metrics are those of docs/monitoring.md.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ostler.agent.verbs import real_verbs
from ostler.checks.registry import CHECKS
from ostler.core.errors import BadInput
from ostler.faults.metrics import METRICS
from ostler.faults.model import Fault
from ostler.faults.monitored import fault
from ostler.twin.fabric import HCAS
from ostler.twin.monitors import MONITORS, monitor_of

LIMIT = 64 << 20
"""Bytes of one script."""
LINES = 1000
"""Kernel lines of one strike."""
HEALTHS = ("OK", "Warning", "Critical")
POWERS = ("on", "off", "force-restart", "power-cycle")
DEEDS = (
    "kernel", "standing", "monitor_dead", "readings", "driver", "sensor", "leak", "log", "silence", "workload",
    "fail_check", "swap_plugs", "power", "bmc",
)  # fmt: skip
_KEYS = ("at", "node", "every_boot", "every_repair", "note", *DEEDS)
_FAILING = frozenset(CHECKS) | frozenset(real_verbs())


class Start(StrEnum):
    """When a script's clock starts."""

    FLEET = "fleet"
    PRODUCTION = "production"


@dataclass(frozen=True)
class Strike:
    """One thing that happens to some nodes. `deed` names which of the keys it is, `value` is what stands there."""

    at: float
    node: str
    deed: str
    value: Any
    every_boot: float | None = None
    every_repair: float | None = None
    note: str = ""
    line: int = 0


@dataclass(frozen=True)
class Script:
    """Strikes in the order of their time."""

    start: Start = Start.FLEET
    strikes: tuple[Strike, ...] = field(default=())


def read(path: Path) -> Script:
    """The script in a file, `.jsonl` or TOML. Raises `BadInput` that names file, line and key."""
    try:
        with path.open("rb") as file:
            raw = file.read(LIMIT + 1)
    except OSError as error:
        raise BadInput(f"the script cannot be read: {error.strerror}", where=str(path)) from None
    if len(raw) > LIMIT:
        raise BadInput(f"a script has at most {LIMIT >> 20} MiB", where=str(path))
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput("this is not UTF-8 text", where=f"{path}:{line}") from None
    return parse(text, str(path), json_lines=path.suffix in (".jsonl", ".ndjson"))


def parse(text: str, where: str, *, json_lines: bool) -> Script:
    """A script from its text. Raises `BadInput`."""
    start, rows = _json_lines(text, where) if json_lines else _toml(text, where)
    strikes = [_strike(row, f"{where}:{line}", line) for line, row in rows]
    return Script(start, tuple(sorted(strikes, key=lambda one: (one.at, one.line))))


def resolve(node: str, names: Sequence[str], racks: Mapping[str, Sequence[str]]) -> list[str]:
    """The nodes that a strike means. Raises `BadInput` when there are none."""
    if node == "*":
        return list(names)
    if node.startswith("rack:"):
        if node[5:] not in racks:
            raise BadInput(f"there is no rack '{node[5:][:80]}'; there are {', '.join(list(racks)[:8])}")
        return list(racks[node[5:]])
    if node not in names:
        raise BadInput(f"there is no node '{node[:80]}'; the fleet has {names[0]} to {names[-1]}")
    return [node]


def _json_lines(text: str, where: str) -> tuple[Start, list[tuple[int, Mapping[str, Any]]]]:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    start = Start.FLEET
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            raise BadInput(f"this is no JSON object ({what})", where=f"{where}:{number}") from None
        if not isinstance(value, dict):
            raise BadInput("this is no JSON object", where=f"{where}:{number}")
        if not rows and set(value) == {"start"}:
            start = _start(value["start"], f"{where}:{number}")
        else:
            rows.append((number, value))
    return start, rows


def _toml(text: str, where: str) -> tuple[Start, list[tuple[int, Mapping[str, Any]]]]:
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"at line (\d+)", str(error))
        line = f":{found[1]}" if found else ""
        raise BadInput(f"this is no TOML: {error}", where=f"{where}{line}") from None
    for key in tree:
        if key not in ("start", "strike"):
            raise BadInput(f"the key '{key[:40]}' is neither start nor [[strike]]", where=where)
    strikes = tree.get("strike", [])
    if not isinstance(strikes, list) or not all(isinstance(one, dict) for one in strikes):
        raise BadInput("strikes are written as [[strike]]", where=where)
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith("[[strike]]")]
    lines += [0] * (len(strikes) - len(lines))
    return _start(tree.get("start", "fleet"), where), list(zip(lines, strikes, strict=False))


def _start(value: Any, where: str) -> Start:
    if value not in tuple(Start):
        raise BadInput("must be 'fleet' or 'production'", where=f"{where} start")
    return Start(value)


def _strike(row: Mapping[str, Any], where: str, line: int) -> Strike:
    for key in row:
        if key not in _KEYS:
            raise BadInput(f"the key '{key[:40]}' is none of {', '.join(_KEYS)}", where=where)
    deeds = [key for key in DEEDS if key in row]
    if len(deeds) != 1:
        raise BadInput(f"a strike has exactly one of {', '.join(DEEDS)}; this has {len(deeds)}", where=where)
    deed = deeds[0]
    again = {key: _number(row[key], f"{where} {key}") for key in ("every_boot", "every_repair") if key in row}
    for key in again:
        if deed != "kernel":
            raise BadInput("goes with kernel only", where=f"{where} {key}")
    if len(again) > 1:
        raise BadInput("every_repair includes every boot; leave out every_boot", where=f"{where} every_boot")
    node = row.get("node")
    if not isinstance(node, str) or not node:
        raise BadInput("must be a node's name, rack:NAME or *", where=f"{where} node")
    note = row.get("note", "")
    if not isinstance(note, str):
        raise BadInput("must be text", where=f"{where} note")
    at = _number(row.get("at"), f"{where} at")
    return Strike(at, node, deed, _value(deed, row[deed], f"{where} {deed}"), note=note, line=line, **again)


def _value(deed: str, value: Any, where: str) -> Any:
    match deed:
        case "kernel":
            lines = _texts(value, where)
            if not 1 <= len(lines) <= LINES or any("\n" in line or len(line) > 8192 for line in lines):
                raise BadInput(f"must be 1 to {LINES} lines of at most 8192 characters", where=where)
            return lines
        case "fail_check":
            names = _texts(value, where)
            if unknown := [name for name in names if name not in _FAILING]:
                raise BadInput(f"'{unknown[0][:40]}' is none of {', '.join(sorted(_FAILING))}", where=where)
            return names
        case "swap_plugs":
            plugs = _texts(value, where)
            if len(plugs) != 2 or plugs[0] == plugs[1] or any(one not in HCAS for one in plugs):
                raise BadInput(f"must be two different HCAs of {', '.join(HCAS)}", where=where)
            return plugs
        case "standing":
            return _standing(value, where)
        case "monitor_dead":
            return _one_of(value, ("", *MONITORS), where)
        case "readings":
            return _readings(value, where)
        case "driver":
            if not isinstance(value, str) or not re.fullmatch(r"[0-9][0-9.]{0,31}", value):
                raise BadInput("must be a version such as 575.57.08", where=where)
            return value
        case "log":
            table = _table(value, ("id", "message", "severity"), where)
            if not isinstance(table.get("message"), str) or not 1 <= len(table["message"]) <= 2000:
                raise BadInput("must be text of at most 2000 characters", where=f"{where}.message")
            return {**table, "severity": _one_of(table.get("severity", "OK"), HEALTHS, f"{where}.severity")}
        case "silence":
            return _number(value, where)
        case "workload":
            if not isinstance(value, bool):
                raise BadInput("must be true or false", where=where)
            return value
        case "power":
            return _one_of(value, POWERS, where)
        case "bmc":
            return _one_of(value, ("unreachable", "ok"), where)
        case "sensor":
            table = _table(value, ("id", "reading", "health"), where)
            reading = (
                None if table.get("reading") is None else _number(table["reading"], f"{where}.reading", least=-1e9)
            )
            return {**table, "reading": reading, "health": _one_of(table.get("health", "OK"), HEALTHS, where)}
        case _:
            table = _table(value, ("id", "state"), where)
            return {**table, "state": _one_of(table.get("state"), HEALTHS, f"{where}.state")}


def _standing(value: Any, where: str) -> tuple[Fault, ...]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadInput("must be a list of {fault, device, message}", where=where)
    found = []
    for one in value:
        if not set(one) <= {"fault", "device", "message"} or not all(isinstance(text, str) for text in one.values()):
            raise BadInput("must be a list of {fault, device, message}, all of them text", where=where)
        name = one.get("fault", "")
        if monitor_of(name) is None:
            raise BadInput(f"'{name[:40]}' is no fault that a node's monitors find", where=f"{where}.fault")
        found.append(fault(name, one.get("device", "")[:256], one.get("message", "")))
    return tuple(found)


def _readings(value: Any, where: str) -> dict[str, dict[str, float]]:
    if not isinstance(value, dict) or not all(isinstance(one, dict) for one in value.values()):
        raise BadInput("must be a table of tables: device, metric, value", where=where)
    for device, values in value.items():
        for metric in values:
            if metric not in METRICS:
                raise BadInput(f"'{metric[:40]}' is none of {', '.join(METRICS)}", where=f"{where}.{device[:40]}")
    return {
        device: {metric: _number(one, f"{where}.{device[:40]}.{metric}", least=-1e9) for metric, one in values.items()}
        for device, values in value.items()
    }


def _table(value: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= set(keys) or not isinstance(value.get("id"), str):
        raise BadInput(f"must be a table of {', '.join(keys)}, with at least the id", where=where)
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadInput("must be a list of texts", where=where)
    return tuple(value)


def _number(value: Any, where: str, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 1e9:
        raise BadInput(f"must be a number of at least {least:g}", where=where)
    return float(value)


def _one_of(value: Any, known: tuple[str, ...], where: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise BadInput(f"must be one of {', '.join(known)}", where=where)
    return value
