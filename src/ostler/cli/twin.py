"""`ostler twin`: a simulated fleet as a command. Registered by `cli/__init__.py`; what it does is `ostler.twin`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostler.core.clock import Clock, ScaledClock, SystemClock
from ostler.core.errors import BadInput, Unreachable

if TYPE_CHECKING:
    from ostler.twin.enrolment import OperatorApi
    from ostler.twin.fleet import Fleet
    from ostler.twin.script import Script, Strike
    from ostler.twin.spec import NodeSpec
    from ostler.twin.strikes import Strikes

TOLD_EVERY_S = 5.0
"""Real seconds between two words about how many machines are where."""
LOOK_S = 0.5
"""Real seconds between two looks at how many nodes are in production."""


def twin_command(
    boot: Annotated[str, typer.Option(help="Base URL of the boot listener.", metavar="URL")],
    api: Annotated[
        str | None, typer.Option(help="The operators' API: enter the fleet's inventory there first.")
    ] = None,
    token: Annotated[str, typer.Option(envvar="OSTLER_TOKEN", help="API token for --api (admin).")] = "",
    nodes: Annotated[int, typer.Option(help="How many machines.")] = 16,
    seed: Annotated[int, typer.Option(help="Same seed, same machines and jitter.")] = 0,
    speed: Annotated[float, typer.Option(help="Domain seconds per real second; the same as the server's.")] = 1.0,
    origin: Annotated[float, typer.Option(help="UTC seconds from which time is scaled; the same as the server's.")] = 0,
    script: Annotated[Path | None, typer.Option(help="Fault script, TOML or JSON Lines; see docs/twin.md.")] = None,
    pool: Annotated[str, typer.Option(help="Pool of the machines that --api enters.")] = "default",
    boot_s: Annotated[float, typer.Option(help="Domain seconds from reset to the boot loader.")] = 300.0,
    start_s: Annotated[float, typer.Option(help="Domain seconds over which first power-ons are spread.")] = 60.0,
    images: Annotated[bool, typer.Option(help="Ask for kernel and initrd, as a real machine must.")] = True,
    thin: Annotated[bool, typer.Option("--thin", help="No agent per node: real wire and certificates only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say what happens as JSON Lines.")] = False,
) -> None:
    """Simulate a fleet that boots, joins, reports and answers Redfish like real machines, until Ctrl-C.

    The BMCs' user name is admin; their password is in OSTLER_BMC_PASSWORD (default: changeme).
    """
    from ostler.twin.script import Start, read
    from ostler.twin.spec import fleet as machines

    if speed <= 0:
        raise BadInput("the speed is above 0; 1 is real time", where="--speed")
    specs = machines(nodes, seed)
    clock: Clock = SystemClock() if speed == 1.0 else ScaledClock(speed, origin or time.time())
    plan = None if script is None else read(script)
    if plan is not None and plan.start is Start.PRODUCTION and api is None:
        raise BadInput("a script that starts with production needs --api, to see when that is", where="--script")
    voice = _Voice(as_json)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    operators = None
    if api is not None:
        from ostler.twin.enrolment import OperatorApi

        operators = OperatorApi(api, token)
    if thin:
        from ostler.twin.thin import run_thin

        if plan is not None:
            raise BadInput("thin nodes have no kernel log to strike", where="--script")
        run_thin(specs, boot, clock, operators, pool=pool, seed=seed, images=images, stop=stop, told=voice.say)
        return
    _run(specs, boot, clock, operators, plan, voice, stop, seed, pool, boot_s, start_s, images)


def _run(
    specs: list[NodeSpec],
    boot: str,
    clock: Clock,
    operators: OperatorApi | None,
    plan: Script | None,
    voice: _Voice,
    stop: threading.Event,
    seed: int,
    pool: str,
    boot_s: float,
    start_s: float,
    images: bool,
) -> None:
    from ostler.twin.fleet import Fleet, FleetSettings
    from ostler.twin.strikes import Strikes

    password = os.environ.get("OSTLER_BMC_PASSWORD", "changeme")
    settings = FleetSettings(boot, boot_s=boot_s, start_s=start_s, images=images, bmc_password=password)
    with Fleet(specs, settings, clock, seed=seed) as fleet:
        strikes = None if plan is None else Strikes(fleet, plan, told=voice.strike)
        if operators is not None:
            operators.enrol(specs, fleet.bmc_addresses, pool=pool)
        fleet.power_on()
        voice.say("started", nodes=len(specs), racks=len(fleet.racks))
        try:
            _watch(fleet, specs, operators, plan, strikes, voice, stop)
        finally:
            if strikes is not None:
                strikes.stop()


def _watch(
    fleet: Fleet,
    specs: list[NodeSpec],
    operators: OperatorApi | None,
    plan: Script | None,
    strikes: Strikes | None,
    voice: _Voice,
    stop: threading.Event,
) -> None:
    """Until Ctrl-C: starts the script when its time has come, and says now and then how far the machines are."""
    from ostler.twin.script import Start

    begun = strikes is None
    over = strikes is None
    told_at, told = 0.0, ""
    while not stop.is_set():
        if not begun and strikes is not None and plan is not None:
            waits = plan.start is Start.PRODUCTION and operators is not None
            if not waits or _all_in_production(operators, specs):
                strikes.start()
                begun = True
                voice.say("script-started", strikes=len(plan.strikes), at=round(fleet.clock.now(), 3))
        if not over and strikes is not None and strikes.done.is_set():
            over = True
            voice.say("script-done")
        phases = dict(fleet.phases())
        now = time.monotonic()
        if str(phases) != told and now - told_at >= TOLD_EVERY_S:
            told_at, told = now, str(phases)
            voice.say("machines", **phases)
        stop.wait(LOOK_S)


def _all_in_production(operators: OperatorApi | None, specs: list[NodeSpec]) -> bool:
    try:
        return operators is None or operators.in_production(specs) == len(specs)
    except Unreachable:
        return False


class _Voice:
    """One line per thing that happened, for people or for programs; from any thread."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()

    def say(self, event: str, **facts: Any) -> None:
        if self._as_json:
            line = json.dumps({"event": event, **facts})
        else:
            line = f"{event}: " + ", ".join(f"{value} {name}" for name, value in facts.items()) if facts else event
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def strike(self, strike: Strike, names: list[str]) -> None:
        if self._as_json:
            self.say("strike", at=strike.at, nodes=names, deed=strike.deed, note=strike.note)
        else:
            who = names[0] if len(names) == 1 else f"{len(names)} nodes"
            self.say(f"{strike.at:.0f} s: {strike.deed} on {who}" + (f" ({strike.note})" if strike.note else ""))
