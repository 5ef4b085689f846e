"""One simulated machine: power, boot, join, the real agent, a workload, faults. Stepped by `fleet.py`.

    off ── on ── post (boot_s domain seconds) ── netboot ── join ── up ──┐
     ▲           ▲                                                     │ power, a reset, a reboot order
     └───────────┴─────────────────────────────────────────────────────┘

A machine that is switched off stays off until somebody switches it on. One that runs already when the simulation begins
starts at `join`, with a seed by hand.

Nodes are stateless: each boot gets a new boot id, seed, key and certificate. Everything on the wire is real; simulated
are the time that things take, the kernel's words, the parts, and whether a check passes.
"""

from __future__ import annotations

import logging
import random
import shutil
import threading
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ostler.agent.agent import Agent, Detects
from ostler.agent.buffer import MemoryBuffer
from ostler.agent.join import IdentityStore, join
from ostler.agent.orders import OrderBook, Orders
from ostler.agent.sources.scripted import ScriptedSource
from ostler.agent.transport import HttpsTransport
from ostler.core.clock import Clock
from ostler.core.errors import BadInput, OstlerError, Temporary
from ostler.twin import netboot
from ostler.twin.bmc import TwinBmc
from ostler.twin.fabric import Plug, TwinFabric
from ostler.twin.monitors import TwinMonitors
from ostler.twin.spec import DRIVER, KERNEL, NodeSpec
from ostler.twin.verbs import twin_verbs
from ostler.wire.agent import Inventory
from ostler.wire.boot import Seed

_log = logging.getLogger("ostler.twin")

_IDLE = 3600.0
"""Real seconds that a machine with nothing to do sleeps; a wake-up ends it."""


class Phase(StrEnum):
    """Where a machine is between power-on and work."""

    OFF = "off"
    POST = "post"
    NETBOOT = "netboot"
    JOIN = "join"
    UP = "up"
    LOCAL = "local"
    """Told to boot from its own disk, which here holds nothing that talks to Ostler."""


@dataclass(frozen=True)
class NodeSettings:
    """What all nodes of a fleet have in common."""

    boot_url: str
    boot_s: float = 300.0
    """Domain seconds from reset to the boot loader: memory training, firmware, network."""
    images: bool = True
    """Whether kernel and initrd are asked for."""


class TwinNode:
    """Not thread-safe in `step`; `power`, `say`, `silence` and the others may come from any thread."""

    def __init__(
        self,
        spec: NodeSpec,
        bmc: TwinBmc,
        settings: NodeSettings,
        clock: Clock,
        detector: Detects,
        folder: Path,
        rng: random.Random,
        fabric: TwinFabric | None = None,
    ) -> None:
        """`folder`: where this machine's identity lies while it is up; `fabric`: what its HCAs are cabled to."""
        self.spec = spec
        self.bmc = bmc
        self.phase = Phase.OFF
        self.failing: frozenset[str] = frozenset()
        self.boots = 0
        self.recurring: tuple[float, tuple[str, ...]] | None = None
        """(domain seconds after each boot, lines): a fault that no reboot cures."""
        self.returns = False
        """It comes back after a GPU reset as well, and only once the checks that follow are over."""
        self.driver_version = DRIVER
        self.monitors = TwinMonitors(spec, clock)
        self.last_words = ""
        """Why this machine is not further, for people."""
        self.agent: Agent | None = None
        self._settings = settings
        self._clock = clock
        self._detector = detector
        self._folder = folder
        self._rng = rng
        self._fabric = fabric
        self._lock = threading.Lock()
        self._power: list[str] = []
        self._busy = False
        self._silent_until = 0.0
        self._ready_at = 0.0
        self._recur_at = float("inf")
        self._booted_at = 0.0
        self._source: ScriptedSource | None = None
        self._said: list[str] = []
        self._tell = False
        self._loader: Generator[float, None, Seed | None] | None = None
        self._seed: Seed | None = None

    # ── what the world does to it (any thread) ───────────────────────────────────────────────────────────────────────

    def power(self, event: str) -> None:
        """A word of the BMC: `on`, `off`, `graceful-off`, `graceful-restart`, `force-restart`, `power-cycle`."""
        with self._lock:
            self._power.append(event)

    def say(self, lines: Sequence[str]) -> None:
        """The kernel writes these lines; on a machine that is down they are never said."""
        with self._lock:
            self._said += lines

    def silence(self, seconds: float) -> None:
        """Nothing leaves the machine for so many domain seconds; what happens meanwhile is told afterwards."""
        self._silent_until = self._clock.now() + seconds

    def work(self, on: bool) -> None:
        """A workload takes all GPUs, or ends."""
        self._busy = on
        self.monitors.work(on)

    def change_driver(self, version: str) -> None:
        """Another GPU driver is loaded; the agent tells what the node is made of anew."""
        self.driver_version, self._tell = version, True

    def swap_plugs(self, one: str, other: str) -> None:
        """Somebody exchanges the plugs in two of its HCAs. Raises `BadInput` where that cannot be."""
        if self._fabric is None:
            raise BadInput(f"{self.spec.name} has no InfiniBand cabling")
        self._fabric.swap(Plug(self.spec.name, one), Plug(self.spec.name, other))

    def start_agent(self, seed: Seed) -> None:
        """The machine runs, and somebody starts its agent. Before its first step only."""
        self._powered(True)
        self._seed = seed
        self._go(Phase.JOIN)

    def gpu_reset(self, device: str) -> None:
        del device
        if self.returns:
            self._recur()
        self.say([f"NVRM: GPU reset finished, driver {DRIVER}"])

    def checked(self) -> None:
        if self.returns and self._recur_at < float("inf"):
            self._recur()

    def neighbours(self) -> Mapping[str, Any]:
        return {} if self._fabric is None else self._fabric.neighbours(self.spec.name)

    def restarted(self, service: str) -> None:
        self.say([f"systemd[1]: Restarted {service}.service."])

    def reboot(self) -> None:
        self.power("graceful-restart")

    # ── what the agent asks of it ────────────────────────────────────────────────────────────────────────────────────

    def inventory(self) -> Inventory:
        return self.spec.inventory(self.bmc.firmware, self.driver_version)

    def driver(self) -> str:
        return self.driver_version

    def busy(self) -> bool:
        return self._busy

    def uptime(self) -> float:
        return max(0.0, self._clock.now() - self._booted_at)

    # ── stepping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self) -> float:
        """Does what is due; answers the real seconds until the next thing is. Never raises."""
        try:
            self._take_power()
            match self.phase:
                case Phase.OFF | Phase.LOCAL:
                    return _IDLE
                case Phase.POST:
                    return self._post()
                case Phase.NETBOOT:
                    return self._netboot()
                case Phase.JOIN:
                    return self._join()
                case Phase.UP:
                    return self._up()
        except (OstlerError, OSError) as error:
            self.last_words = str(error)
            _log.info("%s: %s", self.spec.name, error)
            self._go(Phase.NETBOOT)
            return netboot.RETRY_S * self._rng.uniform(0.5, 1.5)

    def close(self) -> None:
        """Ends the agent and forgets the identity."""
        self._down()

    def _take_power(self) -> None:
        with self._lock:
            events, self._power = self._power, []
        for event in events:
            self._down()
            if event in ("off", "graceful-off"):
                self._powered(False)
                self._go(Phase.OFF)
            else:
                if self._fabric is not None:
                    self._fabric.node_off(self.spec.name)  # a reset takes the links down too
                self._powered(True)
                jitter = self._rng.uniform(0.9, 1.1)
                self._ready_at = self._clock.now() + self._settings.boot_s * jitter
                self._go(Phase.POST)

    def _powered(self, on: bool) -> None:
        """The HCAs' links come and go with the host's power."""
        self.bmc.host_powered(on)
        if self._fabric is not None:
            (self._fabric.node_on if on else self._fabric.node_off)(self.spec.name)

    def _go(self, phase: Phase) -> None:
        self.phase = phase
        self._loader = None

    def _down(self) -> None:
        agent, self.agent = self.agent, None
        if agent is not None:
            agent.close()
        self._source = None
        self.work(False)
        with self._lock:
            self._said.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _post(self) -> float:
        left = self._ready_at - self._clock.now()
        if left > 0:
            return self._clock.real_seconds(left)
        if self.bmc.booted() == "disk":
            self._go(Phase.LOCAL)
            return 0.0
        self._go(Phase.NETBOOT)
        return 0.0

    def _netboot(self) -> float:
        if self._loader is None:
            self._loader = netboot.boot(self.spec, self._settings.boot_url, images=self._settings.images)
        try:
            return next(self._loader)
        except StopIteration as stop:
            self._seed = stop.value
        self._go(Phase.LOCAL if self._seed is None else Phase.JOIN)
        return 0.0

    def _join(self) -> float:
        if self._seed is None:
            self._go(Phase.NETBOOT)
            return 0.0
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = IdentityStore(self._folder)
        try:
            identity = join(self._seed, store, self.inventory(), real=self._clock.real)
        except Temporary as error:
            self.last_words = str(error)
            return min(error.delay, 10.0) * self._rng.uniform(0.5, 1.0)
        self._seed = None
        boot_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        context = identity.context()
        settings = store.load_settings()
        shutil.rmtree(self._folder, ignore_errors=True)
        verbs = twin_verbs(self, self._clock)
        self._source = ScriptedSource()
        self._booted_at = self._clock.now()
        self.boots += 1
        self.agent = Agent(
            sources=(self._source,),
            buffer=MemoryBuffer(boot_id),
            transport=HttpsTransport(identity.server, context, real=self._clock.real),
            clock=self._clock,
            node=self,
            detector=self._detector,
            orders=Orders(verbs, verbs, OrderBook(), self._clock, boot_id),
            monitors=self.monitors.booted(),
            settings=settings,
            rng=self._rng,
        )
        self._recur()
        for line in _BOOT_LINES:
            self._source.say(self._booted_at, line)
        self.last_words = ""
        self._go(Phase.UP)
        return 0.0

    def _up(self) -> float:
        agent, source, now = self.agent, self._source, self._clock.now()
        if agent is None or source is None:
            self._go(Phase.NETBOOT)
            return 0.0
        if self.recurring is not None and now >= self._recur_at:
            self._recur_at = float("inf")
            self.say(self.recurring[1])
        with self._lock:
            said, self._said = self._said, []
        for line in said:
            source.say(now, line)
        self.monitors.apply()
        if self._tell:
            self._tell = False
            agent.tell_inventory()
        if now < self._silent_until:
            return self._clock.real_seconds(self._silent_until - now)
        wait = agent.poll()
        if self._recur_at < float("inf"):
            wait = min(wait, self._clock.real_seconds(max(0.0, self._recur_at - now)))
        return wait

    def _recur(self) -> None:
        self._recur_at = float("inf") if self.recurring is None else self._clock.now() + self.recurring[0]


_BOOT_LINES = (
    f"Linux version {KERNEL} (buildd@lcy02) (gcc 13.3.0) #60-Ubuntu SMP PREEMPT_DYNAMIC",
    "Command line: initrd=initrd console=ttyS0",
    "x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'",
    f"NVRM: loading NVIDIA UNIX x86_64 Kernel Module  {DRIVER}  Wed Feb 26 01:17:49 UTC 2025",
    "mlx5_core 0000:19:00.0: firmware version: 28.39.3560",
    "nvme nvme0: 224/0/0 default/read/poll queues",
)
"""What a healthy boot says; none of it is a fault."""
