"""A real server in this process and a simulated fleet against it: what the flow tests of the twin stand on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ostler.acceptance.model import AcceptanceSettings
from ostler.app import Server, build
from ostler.config import (
    BmcSettings,
    Config,
    ConsoleSettings,
    PoolSettings,
    ServerSettings,
    SimulationSettings,
)
from ostler.health.model import HealthSettings
from ostler.nodes import store
from ostler.nodes.model import Node
from ostler.provisioning.model import ProvisioningSettings
from ostler.twin.enrolment import OperatorApi
from ostler.twin.fleet import Fleet, FleetSettings
from ostler.twin.spec import fleet, running

SPEED = 600.0
TOKEN = "an-admin-token-for-these-tests"
PASSWORD = "the-bmcs-password"
ALL = ("observe", "cordon", "gpu-reset", "reboot", "power", "firmware", "provision")


def start_server(folder: Path, origin: float) -> Server:
    """`ostler serve` without the process: every listener on a free port, everything granted, a short Day 1."""
    images = folder / "images"
    images.mkdir()
    for name in ("vmlinuz", "initrd"):
        (images / name).write_bytes(b"fetched, and never run\n")
    config = Config(
        server=ServerSettings(str(folder / "data"), "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"),
        simulation=SimulationSettings(SPEED, origin),
        bmc=BmcSettings("admin", "env:OSTLER_BMC_PASSWORD"),
        console=ConsoleSettings(open=True),
        health=HealthSettings(heartbeat_s=120.0, silent_after_s=1200.0),
        acceptance=AcceptanceSettings(
            sweep_s=60.0,
            seatrial_window_s=120.0,
            observe_s=60.0,
            task_poll_s=60.0,
            settle_s=60.0,
            burn_in_s=600.0,
            test_rounds=1,
        ),
        provisioning=ProvisioningSettings(image_folder=str(images), retry_s=1),
        pools={"default": PoolSettings(ALL, auto_certify=True), "observed": PoolSettings(("observe",))},
    )
    server = build(config, {"OSTLER_ADMIN_TOKEN": TOKEN, "OSTLER_BMC_PASSWORD": PASSWORD})
    server.start()
    return server


class World:
    """A server, `count` simulated machines that it knows, and `others` that run already."""

    def __init__(self, server: Server, count: int, *, others: int = 0, boot_s: float = 120.0) -> None:
        self.server = server
        self.specs = fleet(count, 11)
        self.others = running(others, 11, count)
        self.bmc_writes: list[tuple[str, str]] = []
        self.boot_url = server.bound["boot"].url
        self.api = OperatorApi(server.bound["operator"].url, TOKEN)
        settings = FleetSettings(self.boot_url, boot_s=boot_s, start_s=30.0, bmc_password=PASSWORD, threads=4)
        self.fleet = Fleet(
            [*self.specs, *self.others],
            settings,
            server.db.clock,
            seed=11,
            on_bmc_write=lambda name, request: self.bmc_writes.append((name, request)),
        )

    def get(self, path: str) -> dict[str, Any]:
        return self.api.call("GET", path)

    def node(self, name: str) -> Node:
        return self.server.db.read(lambda tx: store.get(tx, name))

    def in_production(self) -> bool:
        return self.api.in_production(self.specs) == len(self.specs)


def until(what: Callable[[], object]) -> None:
    """Wait for something that another thread or process does; the test's own time limit ends a vain wait."""
    pause = threading.Event()
    while not what():
        pause.wait(0.02)
