"""Hands on a simulated fleet's cabling from another process: JSON Lines in, one answer to each.

For `ostler twin --hands`. A line is `{"id": 7, "do": DEED, …}`; the answer has the id, `ok`, and `why` where it could
not be done:

| do | with | deed |
|---|---|---|
| power-on | | the machines are switched on; before that, nothing boots |
| blueprint | | answers `text`: the design that the fleet is cabled by, as Ostler's CSV |
| dump | host | answers `text`: what `ibnetdiscover` prints there |
| swap | plugs (two) | exchanges them |
| cut | plugs (one) | takes the cable out |
| connect | plugs (two) | puts a cable between two free ports |
| move | moves: `[{now, then, stays}, …]` | takes all these plugs out, then puts each in its place |

A plug is `["gpu-0001", "mlx5_0"]`. The end of the lines switches the machines on, if nobody has yet.
"""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ostler.core.errors import BadInput
from ostler.twin.fabric import Plug, TwinFabric

LIMIT = 1 << 20
"""Bytes of one line."""
MOST = 4096
"""Moves of one line."""
_LOOK_S = 0.2
_READ = 1 << 16


class Hands:
    """Reads lines from a descriptor in a thread of its own; `go` is set when the machines are to be switched on."""

    def __init__(self, fabric: TwinFabric, answer: Callable[[Mapping[str, Any]], None]) -> None:
        self._fabric = fabric
        self._answer = answer
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.go = threading.Event()

    def start(self, descriptor: int) -> None:
        self._thread = threading.Thread(target=self._run, args=(descriptor,), name="twin-hands", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def take(self, line: bytes) -> dict[str, Any]:
        """Does what one line says; its answer."""
        number: Any = None
        try:
            said = json.loads(line)
            if not isinstance(said, dict):
                raise BadInput("a line is a JSON object")
            number = said.get("id")
            return {"id": number, "ok": True, **self._do(said)}
        except BadInput as error:
            return {"id": number, "ok": False, "why": str(error)}
        except (ValueError, RecursionError):
            return {"id": number, "ok": False, "why": "this is no JSON"}

    def _do(self, said: Mapping[str, Any]) -> dict[str, Any]:
        match said.get("do"):
            case "power-on":
                self.go.set()
            case "blueprint":
                return {"text": self._fabric.blueprint_csv()}
            case "dump":
                host = said.get("host")
                if not isinstance(host, str) or host not in self._fabric.hosts:
                    raise BadInput("must be a host of the fleet", where="host")
                return {"text": self._fabric.dump(host)}
            case "swap":
                self._fabric.swap(*_plugs(said, 2))
            case "cut":
                self._fabric.cut(*_plugs(said, 1))
            case "connect":
                self._fabric.connect(*_plugs(said, 2))
            case "move":
                self._fabric.rearrange(_moves(said))
            case _:
                raise BadInput("must be power-on, blueprint, dump, swap, cut, connect or move", where="do")
        return {}

    def _run(self, descriptor: int) -> None:
        # Not `sys.stdin`: a thread that blocks in it keeps the interpreter from ending.
        rest = b""
        while not self._stop.is_set():
            if not select.select([descriptor], [], [], _LOOK_S)[0]:
                continue
            chunk = os.read(descriptor, _READ)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LIMIT:
                self._answer({"id": None, "ok": False, "why": f"a line has at most {LIMIT} bytes"})
                break
            for line in lines:
                if line.strip():
                    self._answer(self.take(line))
        self.go.set()


def _plugs(said: Mapping[str, Any], count: int) -> list[Plug]:
    found = said.get("plugs")
    if not isinstance(found, list) or len(found) != count:
        raise BadInput(f"must be {count} of [CHASSIS, PORT]", where="plugs")
    return [_plug(one, "plugs") for one in found]


def _moves(said: Mapping[str, Any]) -> list[tuple[Plug, Plug, Plug]]:
    found = said.get("moves")
    if not isinstance(found, list) or not 1 <= len(found) <= MOST or not all(isinstance(one, dict) for one in found):
        raise BadInput(f"must be 1 to {MOST} of {{now, then, stays}}", where="moves")
    return [
        (_plug(one.get("now"), "now"), _plug(one.get("then"), "then"), _plug(one.get("stays"), "stays"))
        for one in found
    ]


def _plug(value: Any, where: str) -> Plug:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(part, str) for part in value):
        raise BadInput("must be [CHASSIS, PORT]", where=where)
    return Plug(value[0], value[1])
