"""`ostler serve` as a process that is killed with SIGKILL and started again on the same database, and its machines.

The machines are the twin's, in the test's own process, so that a test sees what really happened to each of them; they
speak the real protocols over the network. Everything about the server is asked over its API, as a user would.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ostler.core.clock import ScaledClock
from ostler.core.errors import OstlerError, Unreachable
from ostler.twin.enrolment import OperatorApi
from ostler.twin.fleet import Fleet, FleetSettings
from ostler.twin.node import Phase, TwinNode
from ostler.twin.spec import fleet

SPEED = 60.0
PATIENCE_S = 90.0
"""Real seconds after which a wait is given up: far more than any of them takes on a slow machine."""

_ALL = '["observe", "cordon", "gpu-reset", "reboot", "power", "firmware", "provision"]'
_ADDRESSES = {"operator": "listen", "boot": "boot_listen", "agents": "agent_listen"}


class KillableServer:
    """One database, and a server process on it that may die at any moment."""

    def __init__(self, folder: Path, origin: float, more: str, cluster: str) -> None:
        """`more`: TOML that is added to the configuration. `cluster`: the scheduler of the pool `scheduled`."""
        self.password = secrets.token_urlsafe(12)
        self.where: dict[str, str] = {}
        self._token = secrets.token_urlsafe(32)
        self._folder = folder
        self._origin = origin
        self._more = more
        self._cluster = cluster
        self._process: subprocess.Popen[str] | None = None
        self._starts = 0
        images = folder / "images"
        images.mkdir()
        for name in ("vmlinuz", "initrd"):
            (images / name).write_bytes(b"fetched, and never run\n")

    @property
    def api(self) -> OperatorApi:
        return OperatorApi(self.where["operator"], self._token)

    def start(self) -> None:
        """Returns when it listens: where it did before, so that agents and machines find it again."""
        config = self._folder / "ostler.toml"
        config.write_text(self._config())
        self._starts += 1
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OSTLER_")}
        with (self._folder / f"server-{self._starts}.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ostler", "serve", "--config", str(config)],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**kept, "OSTLER_ADMIN_TOKEN": self._token, "OSTLER_BMC_PASSWORD": self.password},
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"it did not start: {self.last_words()}"
        ready = json.loads(line)
        self.where = {name: str(ready[name]) for name in _ADDRESSES}

    def kill(self) -> None:
        """kill -9: nothing is put in order. Safe to repeat, from any thread."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)

    def bury(self) -> None:
        """Waits until the killed process is gone. What it had leased runs out now, instead of in up to 30 seconds."""
        assert self._process is not None
        assert self._process.wait() == -signal.SIGKILL, self.last_words()
        if self._process.stdout is not None:
            self._process.stdout.close()
        with closing(sqlite3.connect(self._folder / "data" / "ostler.db")) as database, database:
            for table in ("job", "lease"):
                database.execute(f"update {table} set lease_until = 0 where lease_until is not null")

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()

    def last_words(self) -> str:
        log = self._folder / f"server-{self._starts}.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def _config(self) -> str:
        addresses = {name: url.split("://", 1)[1].rstrip("/") for name, url in self.where.items()}
        listens = "\n".join(f'{key} = "{addresses.get(name, "127.0.0.1:0")}"' for name, key in _ADDRESSES.items())
        return f"""
[server]
data_dir = {json.dumps(str(self._folder / "data"))}
{listens}

[simulation]
speed = {SPEED!r}
origin = {self._origin!r}

[bmc]
username = "admin"
password = "env:OSTLER_BMC_PASSWORD"

[pools.default]
capabilities = {_ALL}
auto_certify = true

[pools.scheduled]
capabilities = {_ALL}
auto_certify = true
cluster = "{self._cluster}"

[health]
heartbeat_s = 30.0
silent_after_s = 3600.0
boot_grace_s = 0.0

[acceptance]
sweep_s = 30.0
seatrial_window_s = 30.0
observe_s = 10.0
task_poll_s = 10.0
settle_s = 10.0
burn_in_s = 30.0
test_checks = ["cpu-arith"]
test_rounds = 1

[provisioning]
image_folder = {json.dumps(str(self._folder / "images"))}
retry_s = 1
{self._more}
"""


class Machine:
    """One simulated node: what the server's API says of it, and what really happened to it."""

    def __init__(self, world: World, twin: TwinNode) -> None:
        self.name = twin.spec.name
        self.twin = twin
        self.resets: list[str] = []
        """What its BMC was told to do to its power since it came to production."""
        self.on_reset: Callable[[], None] = lambda: None
        """Called once, in the BMC, when a reset is done and nobody has been told so yet."""
        self._world = world
        through = twin.bmc.on_power

        def power(event: str) -> None:
            self.resets.append(event)
            if through is not None:
                through(event)
            struck, self.on_reset = self.on_reset, lambda: None
            struck()

        twin.bmc.on_power = power

    def seen(self) -> dict[str, Any]:
        return self._world.get(f"/v1/nodes/{self.name}")

    def chain(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._world.get(f"/v1/nodes/{self.name}/why")["chain"]
        return found

    def waits_for(self, words: str) -> bool:
        return any(link["kind"] == "waiting" and words in link["text"] for link in self.chain())

    def states(self) -> list[str]:
        """Where it went, in order."""
        items = self._world.get(f"/v1/nodes/{self.name}/history")["items"]
        return [one["to_state"] for one in sorted(items, key=lambda one: str(one["at"]))]

    def say(self, line: str) -> None:
        self.twin.say([line])
        self._world.fleet.wake(self.twin)

    def work(self, on: bool) -> None:
        self.twin.work(on)
        self._world.fleet.wake(self.twin)

    @property
    def is_up(self) -> bool:
        return self.twin.phase is Phase.UP


class World:
    """A killable server and machines that came to production on it."""

    def __init__(self, server: KillableServer, fleet_: Fleet) -> None:
        self.server = server
        self.fleet = fleet_
        self.machines = [Machine(self, twin) for twin in fleet_.nodes.values()]

    def get(self, path: str) -> dict[str, Any]:
        return self.server.api.call("GET", path)

    def until(self, what: Callable[[], object], told: Callable[[], object] = lambda: "") -> None:
        """Wait for something that another process does. A server that is down just now is asked again."""
        pause, end = threading.Event(), time.monotonic() + PATIENCE_S
        while True:
            try:
                if what():
                    return
            except Unreachable:
                pass
            assert time.monotonic() < end, f"{told()}\n{self.server.last_words()}"
            pause.wait(0.05)

    def permits(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/v1/brake")["permits"]
        return found


@contextmanager
def world_of(folder: Path, count: int, more: str = "", *, cluster: str = "none") -> Iterator[World]:
    """`count` machines in production; the last one is of the pool `scheduled`."""
    origin = time.time()
    server = KillableServer(folder, origin, more, cluster)
    specs = fleet(count, 11, outdated_share=0.0)
    try:
        server.start()
        settings = FleetSettings(
            server.where["boot"], boot_s=30.0, start_s=1.0, bmc_password=server.password, threads=4
        )
        with Fleet(specs, settings, ScaledClock(SPEED, origin), seed=11) as machines:
            server.api.enrol(specs[:-1], machines.bmc_addresses)
            server.api.enrol(specs[-1:], machines.bmc_addresses, pool="scheduled")
            machines.power_on()
            world = World(server, machines)
            world.until(lambda: server.api.in_production(specs) == count, lambda: _where(world))
            for machine in world.machines:
                machine.resets.clear()
            yield world
    finally:
        server.close()


def _where(world: World) -> str:
    try:
        told = [f"{one['name']} is in {one['state']}" for one in world.get("/v1/nodes")["items"]]
    except OstlerError as error:
        return str(error)
    return "; ".join(told + [f"{one.name}: {one.twin.phase} {one.twin.last_words}" for one in world.machines])
