"""`ostler twin`: a simulated fleet as a command. Registered by `cli/__init__.py`; what it does is `ostler.twin`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
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
    running: Annotated[
        int, typer.Option(help="Further machines, run-0001 on, that run already: --api adopts them.")
    ] = 0,
    running_pool: Annotated[str, typer.Option(help="Their pool.")] = "default",
    boot_s: Annotated[float, typer.Option(help="Domain seconds from reset to the boot loader.")] = 300.0,
    start_s: Annotated[float, typer.Option(help="Domain seconds over which first power-ons are spread.")] = 60.0,
    images: Annotated[bool, typer.Option(help="Ask for kernel and initrd, as a real machine must.")] = True,
    hands: Annotated[
        bool, typer.Option("--hands", help="Move plugs as lines on standard input say; see docs/twin.md.")
    ] = False,
    thin: Annotated[bool, typer.Option("--thin", help="No agent per node: real wire and certificates only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say what happens as JSON Lines.")] = False,
) -> None:
    """Simulate a fleet that boots, joins, reports and answers Redfish like real machines, until Ctrl-C.

    The BMCs' user name is admin; their password is in OSTLER_BMC_PASSWORD (default: changeme).
    """
    from ostler.twin.script import Start, read
    from ostler.twin.spec import fleet as machines
    from ostler.twin.spec import running as running_machines

    if speed <= 0:
        raise BadInput("the speed is above 0; 1 is real time", where="--speed")
    specs, others = machines(nodes, seed), running_machines(running, seed, nodes)
    clock: Clock = SystemClock() if speed == 1.0 else ScaledClock(speed, origin or time.time())
    plan = None if script is None else read(script)
    if plan is not None and plan.start is Start.PRODUCTION and api is None:
        raise BadInput("a script that starts with production needs --api, to see when that is", where="--script")
    if others and (api is None or thin):
        raise BadInput("running machines need --api, which adopts them, and an agent each", where="--running")
    if hands and (thin or not as_json):
        raise BadInput("hands need cabled machines, which thin ones are not, and answers as --json", where="--hands")
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
    machinery = _Machinery(specs, others, seed, pool, running_pool, boot, boot_s, start_s, images, hands)
    _run(machinery, clock, operators, plan, voice, stop)


@dataclass(frozen=True)
class _Machinery:
    """What the fleet is made of, and how it boots."""

    specs: list[NodeSpec]
    running: list[NodeSpec]
    seed: int
    pool: str
    running_pool: str
    boot: str
    boot_s: float
    start_s: float
    images: bool
    hands: bool
    """Whether somebody moves plugs by standard input, and says when the machines are switched on."""


def _run(
    made: _Machinery,
    clock: Clock,
    operators: OperatorApi | None,
    plan: Script | None,
    voice: _Voice,
    stop: threading.Event,
) -> None:
    from ostler.twin.fleet import Fleet, FleetSettings
    from ostler.twin.hands import Hands
    from ostler.twin.strikes import Strikes

    password = os.environ.get("OSTLER_BMC_PASSWORD", "changeme")
    settings = FleetSettings(
        made.boot, boot_s=made.boot_s, start_s=made.start_s, images=made.images, bmc_password=password
    )
    specs, running = made.specs, made.running
    with Fleet([*specs, *running], settings, clock, seed=made.seed, on_bmc_write=voice.bmc_write) as fleet:
        strikes = None if plan is None else Strikes(fleet, plan, told=voice.strike)
        hands = Hands(fleet.fabric, lambda answer: voice.say("hand", **answer)) if made.hands else None
        if hands is not None:
            hands.start(sys.stdin.fileno())
        if operators is not None:
            operators.enrol(specs, fleet.bmc_addresses, pool=made.pool)
            if running:
                for name, seed in operators.adopt(running, fleet.bmc_addresses, pool=made.running_pool).items():
                    fleet.hand_over(name, seed)
        try:
            while hands is not None and not hands.go.wait(LOOK_S) and not stop.is_set():
                pass
            fleet.power_on(but={spec.name for spec in running})
            voice.say("started", nodes=len(specs) + len(running), racks=len(fleet.racks))
            _watch(fleet, specs, operators, plan, strikes, voice, stop)
        finally:
            for one in (strikes, hands):
                if one is not None:
                    one.stop()


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

    def bmc_write(self, node: str, request: str) -> None:
        """Somebody told a BMC to do something."""
        if self._as_json:
            self.say("bmc-write", node=node, request=request)
        else:
            self.say(f"the BMC of {node}: {request}")

    def strike(self, strike: Strike, names: list[str]) -> None:
        if self._as_json:
            self.say("strike", at=strike.at, nodes=names, deed=strike.deed, note=strike.note)
        else:
            who = names[0] if len(names) == 1 else f"{len(names)} nodes"
            self.say(f"{strike.at:.0f} s: {strike.deed} on {who}" + (f" ({strike.note})" if strike.note else ""))
