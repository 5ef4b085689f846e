"""Carries out a fault script on a running fleet, each strike at its domain time. Started by `ostler twin` and tests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ostler.core.errors import BadInput
from ostler.twin.fleet import Fleet
from ostler.twin.node import TwinNode
from ostler.twin.script import Script, Strike, resolve


class Strikes:
    """One thread that waits for the next strike; `done` is set after the last one."""

    def __init__(
        self, fleet: Fleet, script: Script, *, told: Callable[[Strike, list[str]], None] = lambda one, names: None
    ) -> None:
        """Raises `BadInput` when a strike names no node of the fleet. `told` hears of each strike as it falls."""
        self._fleet = fleet
        self._told = told
        self._stop = threading.Event()
        self.done = threading.Event()
        names = list(fleet.nodes)
        self._plan: list[tuple[Strike, list[str]]] = []
        for strike in script.strikes:
            try:
                self._plan.append((strike, resolve(strike.node, names, fleet.racks)))
            except BadInput as error:
                raise BadInput(error.message, where=f"script line {strike.line} node") from None
        self._thread = threading.Thread(target=self._run, name="twin-strikes", daemon=True)

    def start(self) -> None:
        """The script's clock starts now."""
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        clock = self._fleet.clock
        began = clock.now()
        for strike, names in self._plan:
            while (left := began + strike.at - clock.now()) > 0:
                if self._stop.wait(clock.real_seconds(left)):
                    return
            for name in names:
                node = self._fleet.nodes[name]
                apply(strike, node)
                self._fleet.wake(node)
            self._told(strike, names)
        self.done.set()


def apply(strike: Strike, node: TwinNode) -> None:
    """Does one strike to one machine."""
    value = strike.value
    match strike.deed:
        case "kernel":
            node.say(value)
            if strike.every_boot is not None:
                node.recurring = (strike.every_boot, value)
            elif strike.every_repair is not None:
                node.recurring, node.returns = (strike.every_repair, value), True
        case "standing":
            node.monitors.stand(value)
        case "monitor_dead":
            node.monitors.kill(value)
        case "readings":
            node.monitors.read(value)
        case "driver":
            node.change_driver(value)
        case "silence":
            node.silence(value)
        case "workload":
            node.work(value)
        case "swap_plugs":
            node.swap_plugs(*value)
        case "fail_check":
            node.failing = frozenset(value)
        case "power":
            node.bmc.set_power({"on": "On", "off": "ForceOff", "power-cycle": "PowerCycle"}.get(value, "ForceRestart"))
        case "bmc":
            node.bmc.faults.unreachable = value == "unreachable"
        case "sensor":
            node.bmc.readings[value["id"]] = (value["reading"], value["health"])
        case "leak":
            node.bmc.leaks[value["id"]] = value["state"]
        case "log":
            node.bmc.add_log(value["message"], value["id"], value["severity"])
