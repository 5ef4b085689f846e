"""The composition root: what Ostler's server is made of, as one readable list. Built by `cli/serve.py` and by tests.

`build` opens the database and the keys, wires each feature to its ports, and binds the listeners; `Server.run` starts
the loops and serves until it is told to stop. Nothing else in the code knows all the parts.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry

import ostler.acceptance.api
import ostler.access.api
import ostler.audit.api
import ostler.brake.api
import ostler.events.api
import ostler.events.webhooks_api
import ostler.health.api
import ostler.nodes.api
import ostler.provisioning.agent_api
import ostler.provisioning.api
import ostler.provisioning.boot_api
import ostler.remediation.api
import ostler.tickets.api
from ostler import ground, retention
from ostler.acceptance import driver
from ostler.acceptance.tasks import procedures as acceptance_procedures
from ostler.access.api import Authorize
from ostler.adapters.bmc.port import Bmc, Credentials
from ostler.adapters.bmc.redfish import RedfishBmcs
from ostler.adapters.keys.authority import Authority
from ostler.adapters.keys.file import FileSecrets
from ostler.adapters.keys.references import resolve
from ostler.audit.sequencer import Sequencer
from ostler.brake.guard import GuardedBmc
from ostler.brake.pause_file import PauseFile
from ostler.config import Config
from ostler.console import Console
from ostler.core.errors import Permanent
from ostler.db.engine import Database
from ostler.events.sender import Sender
from ostler.health.desk import AgentDesk
from ostler.health.silence import SilenceWatch
from ostler.http.agents import agents_app
from ostler.http.auth import Doorkeeper
from ostler.http.boot import boot_app
from ostler.http.edge import RequestMetrics
from ostler.http.idempotency import Once
from ostler.http.listeners import Bound, Listener, Listeners, parse_address
from ostler.http.metrics import FleetMetrics
from ostler.http.operator import Loop, operator_app
from ostler.http.peer import peer_fingerprint, server_context
from ostler.jobs.runner import Runner
from ostler.jobs.schedule import Schedule
from ostler.nodes.cordon import CordonController
from ostler.nodes.model import Node
from ostler.provisioning.certified import CertifiedNodes
from ostler.provisioning.model import Trust
from ostler.provisioning.signing import AuthoritySigner, trust_of
from ostler.remediation import service as remediation_service
from ostler.remediation.tasks import Remediation


@dataclass
class Server:
    """Everything that runs, in the order in which it starts."""

    config: Config
    db: Database
    runner: Runner
    cordon: CordonController
    sequencer: Sequencer
    sender: Sender
    desk: AgentDesk
    listeners: Listeners
    console: Console

    @property
    def bound(self) -> Mapping[str, Bound]:
        """Where it listens, by name: `operator`, `boot`, `agents`."""
        return self.listeners.bound

    def start(self) -> None:
        """Start the loops and serve in threads; returns when every listener answers."""
        self._start_loops()
        self.listeners.start()

    def run(self, announce: Callable[[Server], None]) -> None:
        """Start the loops and serve in this thread until SIGINT or SIGTERM; then stop in good order."""
        self._start_loops()
        announce(self)
        try:
            self.listeners.run()
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop listening, finish what runs, close the database."""
        self.listeners.stop()
        self.cordon.stop()
        self.runner.stop()
        self.desk.stop()
        self.sender.stop()
        self.sequencer.stop()
        self.db.close()

    def _start_loops(self) -> None:
        self.sequencer.start()
        self.sender.start()
        self.desk.start()
        self.cordon.start()
        self.runner.start()


def build(config: Config, environment: Mapping[str, str]) -> Server:
    """Wire everything and bind the listeners. Raises `BadInput`, `WrongVersion`, … in one line for what is wrong."""
    folder = ground.data_folder(config)
    clock = ground.clock(config)
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    secret_store = FileSecrets(folder / "secrets")
    authority = Authority.open(folder / "ca", clock)
    db = ground.database(config, clock)
    ground.define_pools(db, config)

    # The outside world, behind its ports
    bmcs = RedfishBmcs(ca_file=config.bmc.ca_file or None)
    pause_file = PauseFile(folder / "pause")

    def open_bmc(node: Node) -> Bmc:
        if node.bmc_address is None:
            raise Permanent(f"{node.name} has no BMC address.", where="bmc")
        reference = node.bmc_secret or config.bmc.password
        password = resolve(reference, environment, secret_store) if reference else ""
        bmc = bmcs.open(node.bmc_address, Credentials(config.bmc.username, password))
        return GuardedBmc(bmc, db, node.id, pause_file)

    # Features
    remediation = Remediation(db, open_bmc, config.remediation, config.health)
    acceptance = acceptance_procedures(db, config.acceptance, open_bmc)
    desk = AgentDesk(db, config.health, remediation_service.consider)
    silence = SilenceWatch(db, config.health)

    # The three loops
    fastest = config.simulation.speed * 0.5  # no schedule runs more often than twice a real second

    def every(name: str, seconds: float, run: Callable[[], None]) -> Schedule:
        return Schedule(name, max(seconds, fastest), run)

    runner = Runner(
        db,
        [remediation.procedure(), *acceptance.values()],
        owner=owner,
        schedules=[
            every("acceptance", config.acceptance.sweep_s, lambda: driver.sweep(db, acceptance)),
            every("silence", config.health.silent_after_s / 4, silence.look),
            every("remediation", 10.0, remediation.sweep),
            every("retention", 24 * 3600.0, lambda: retention.sweep(db, config.retention)),
            every("pause-file", 1.0, lambda: pause_file.mirror(db)),
        ],
    )
    cordon = CordonController(db, ground.clusters(config), owner=owner)
    sender = Sender(db, secret_store, config.webhooks, owner)
    sequencer = Sequencer(db, owner)

    # Faces
    door = Doorkeeper(db, environment.get("OSTLER_ADMIN_TOKEN") or None, config.console.open)
    console = Console(db, door, pause_file=pause_file.path)
    loops = [
        _loop("jobs", db, lambda: runner.last_success, 30.0),
        _loop("cordon", db, lambda: cordon.last_success, 60.0),
        _loop("webhooks", db, lambda: sender.last_success, 60.0),
        _loop("sequencer", db, lambda: sequencer.last_success, 15.0),
        _loop("agents' desk", db, lambda: desk.last_success, 30.0),
    ]
    registry = CollectorRegistry()
    requests = RequestMetrics.on(registry)
    registry.register(FleetMetrics(db, loops))
    stopping = threading.Event()
    agent_host, agent_port = parse_address(config.server.agent_listen, "[server] agent_listen")
    agent_port = agent_port or ground.free_port(agent_host)  # it stands in every seed, so it is known before serving
    provisioning = ground.reachable(config, agent_host, agent_port)
    trust = trust_of(authority, secret_store)
    reachable = replace(config, provisioning=provisioning)
    operator = operator_app(
        [*routers(reachable, db, door.authorize, secret_store, stopping.is_set, trust), console.router],
        registry=registry,
        loops=loops,
        metrics=requests,
        ping=lambda: db.read(lambda tx: tx.conn.exec_driver_sql("select 1")),
        once=lambda app: Once(app, db, door.identify),
    )
    certified = CertifiedNodes(db)

    def node_of(fingerprint: Annotated[str | None, Depends(peer_fingerprint)]) -> str:
        return certified.node_of(fingerprint)

    boot_host, boot_port = parse_address(config.server.boot_listen, "[server] boot_listen")
    host, port = parse_address(config.server.listen, "[server] listen")
    certificate, key = ground.server_certificate(authority, folder, config, agent_host)

    def before_stop() -> None:
        stopping.set()
        console.close()

    listeners = Listeners(
        [
            Listener("operator", "[server] listen", host, port, operator),
            Listener(
                "boot",
                "[server] boot_listen",
                boot_host,
                boot_port,
                boot_app([ostler.provisioning.boot_api.router(db, provisioning, trust)], metrics=requests),
            ),
            Listener(
                "agents",
                "[server] agent_listen",
                agent_host,
                agent_port,
                agents_app(
                    [
                        ostler.provisioning.agent_api.router(
                            db,
                            provisioning,
                            trust,
                            AuthoritySigner(authority),
                            settings_for=desk.settings_for,
                            peer=peer_fingerprint,
                        ),
                        ostler.health.api.agent_router(desk, node_of),
                    ],
                    metrics=requests,
                ),
                tls=server_context(certificate=str(certificate), key=str(key), client_ca=str(folder / "ca" / "ca.pem")),
            ),
        ],
        before_stop=before_stop,
    )
    return Server(config, db, runner, cordon, sequencer, sender, desk, listeners, console)


def routers(
    config: Config,
    db: Database,
    authorize: Authorize,
    secret_store: FileSecrets,
    stopping: Callable[[], bool],
    trust: Trust | None = None,
) -> list[APIRouter]:
    """The operators' API, feature by feature: what docs/api/openapi.json describes."""
    return [
        ostler.nodes.api.router(db, authorize),
        ostler.remediation.api.router(db, authorize),
        ostler.health.api.router(db, authorize),
        ostler.acceptance.api.router(db, authorize, config.acceptance),
        ostler.provisioning.api.router(db, authorize, config.provisioning, trust),
        ostler.tickets.api.router(db, authorize),
        ostler.brake.api.router(db, authorize),
        ostler.events.api.router(db, authorize, stopping=stopping),
        ostler.events.webhooks_api.router(db, authorize, secret_store, config.webhooks),
        ostler.audit.api.router(db, authorize),
        ostler.access.api.router(db, authorize),
    ]


def _loop(name: str, db: Database, last: Callable[[], float | None], stale_after: float) -> Loop:
    def age() -> float | None:
        at = last()
        return None if not at else db.clock.real() - at

    return Loop(name, age, stale_after)
