"""The composition root: what Ostler's server is made of, as one readable list. Built by `cli/serve.py` and by tests.

`build` opens the database and the keys, wires each feature to its ports, and binds the listeners; `Server.run` starts
the loops and serves until it is told to stop. Nothing else in the code knows all the parts.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry

import ostler.acceptance.api
import ostler.access.api
import ostler.audit.api
import ostler.brake.api
import ostler.breakfix.api
import ostler.events.api
import ostler.events.webhooks_api
import ostler.fabric.api
import ostler.health.api
import ostler.nodes.api
import ostler.oncall.api
import ostler.provisioning.agent_api
import ostler.provisioning.api
import ostler.provisioning.boot_api
import ostler.remediation.api
import ostler.tickets.api
import ostler.verification.api
from ostler import ground, retention
from ostler.acceptance import driver
from ostler.acceptance.cabling import designed_in
from ostler.acceptance.store import find_sku
from ostler.acceptance.tasks import procedures as acceptance_procedures
from ostler.access.api import Authorize
from ostler.adapters.bmc.port import Bmc, Credentials
from ostler.adapters.bmc.redfish import RedfishBmcs
from ostler.adapters.cluster.port import Cluster
from ostler.adapters.keys.authority import Authority
from ostler.adapters.keys.file import FileSecrets
from ostler.adapters.keys.references import resolve
from ostler.adapters.pager.http import Alertmanager, DeadMan, PagerDuty
from ostler.adapters.pager.port import Pager
from ostler.audit.sequencer import Sequencer
from ostler.brake.guard import GuardedBmc
from ostler.brake.pause_file import PauseFile
from ostler.breakfix import maintenance
from ostler.config import Config
from ostler.console import Console
from ostler.core.errors import Permanent
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.events.sender import Sender
from ostler.fabric.metrics import FabricMetrics
from ostler.fabric.service import Fabrics
from ostler.fabric.tasks import LOOK_S, Looks
from ostler.faults.model import Fault
from ostler.health import bmc_watch, levels
from ostler.health.bmc_watch import BmcWatch
from ostler.health.desk import AgentDesk
from ostler.health.fleet_watch import FleetWatch
from ostler.health.model import Diagnosis
from ostler.health.prometheus import PrometheusWatch
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
from ostler.oncall import inbound
from ostler.oncall.watch import DeadManSwitch, OncallWatch
from ostler.provisioning.certified import CertifiedNodes
from ostler.provisioning.model import Trust
from ostler.provisioning.signing import AuthoritySigner, trust_of
from ostler.remediation import service as remediation_service
from ostler.remediation.tasks import Remediation
from ostler.verification.tasks import Verification


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
    bmcs: BmcWatch
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
        self.bmcs.stop()
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
        self.bmcs.start()


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

    def open_bmc(node: Node, through: RedfishBmcs = bmcs) -> Bmc:
        if node.bmc_address is None:
            raise Permanent(f"{node.name} has no BMC address.", where="bmc")
        reference = node.bmc_secret or config.bmc.password
        password = resolve(reference, environment, secret_store) if reference else ""
        bmc = through.open(node.bmc_address, Credentials(config.bmc.username, password))
        return GuardedBmc(bmc, db, node.id, pause_file)

    # Features
    clusters = ground.clusters(config)
    consider = remediation_service.consider

    def next_window(tx: Tx, node: Node) -> float | None:
        return maintenance.soon(tx, node.id, config.breakfix)

    remediation = Remediation(db, open_bmc, config.remediation, config.health, clusters, next_window)
    verification = Verification(db, clusters, config.verification, consider)
    fabrics = Fabrics(db, config.fabrics, config.health, consider)
    looks = Looks(db, fabrics, ground.collectors(config, clock))
    acceptance = acceptance_procedures(db, config.acceptance, open_bmc, designed_in(fabrics))
    fleet_watch = FleetWatch(db, config.fleet, config.health, consider)
    desk = AgentDesk(db, config.health, consider, on_readings=fleet_watch.hear, each_round=fleet_watch.step)
    silence = SilenceWatch(db, config.health)

    def declared_firmware(node: Node) -> Mapping[str, str]:
        sku = db.read(lambda tx: find_sku(tx, node.sku))
        return {} if sku is None else {target.component: target.version for target in sku.firmware}

    polled = RedfishBmcs(bmc_watch.limits(config.bmc_watch), ca_file=config.bmc.ca_file or None)
    bmcs_watch = BmcWatch(
        db,
        lambda node: open_bmc(node, polled),
        config.bmc_watch,
        config.health,
        consider,
        owner=owner,
        declared=declared_firmware,
    )

    def converge(tx: Tx, node_id: str, source: str, faults: Sequence[Fault]) -> list[Diagnosis]:
        if found := levels.converge(tx, node_id, source, faults, config.health):
            consider(tx, node_id, found)
        return found

    prometheus = PrometheusWatch(db, config.prometheus, converge) if config.prometheus.url else None

    pagers = _pagers(config, db, environment, secret_store)
    oncall = OncallWatch(db, pagers, config.oncall)
    inbound.check(config.oncall)

    # The three loops
    fastest = config.simulation.speed * 0.5  # no schedule runs more often than twice a real second

    def every(name: str, seconds: float, run: Callable[[], None]) -> Schedule:
        return Schedule(name, max(seconds, fastest), run)

    loops: list[Loop] = []  # filled below, once there is something to watch
    deadman: list[Schedule] = []
    if config.oncall.deadman_url:
        switch = DeadManSwitch(
            DeadMan(config.oncall.deadman_url).ping, lambda: [one.name for one in loops if one.is_stale]
        )
        deadman.append(every("deadman", config.simulation.speed * config.oncall.deadman_s, switch.ping))

    runner = Runner(
        db,
        [remediation.procedure(), verification.procedure(), looks.procedure(), *acceptance.values()],
        owner=owner,
        schedules=[
            every("acceptance", config.acceptance.sweep_s, lambda: driver.sweep(db, acceptance)),
            every("silence", config.health.silent_after_s / 4, silence.look),
            every("remediation", 10.0, remediation.sweep),
            every("retention", 24 * 3600.0, lambda: retention.sweep(db, config.retention)),
            every("pause-file", 1.0, lambda: pause_file.mirror(db)),
            every("verification", 60.0, verification.sweep),
            every("fabric", LOOK_S, looks.sweep),
            every("fabric-retention", 3600.0, looks.forget),
            every("maintenance", 10.0, lambda: maintenance.sweep(db, config.breakfix, maintenance.ordered_drain)),
            *(
                [every("prometheus", config.simulation.speed * config.prometheus.every_s, prometheus.look)]
                if prometheus
                else []
            ),
            *([every("oncall", config.simulation.speed * config.oncall.every_s, oncall.look)] if pagers else []),
            *deadman,
        ],
    )
    cordon = CordonController(db, clusters, owner=owner)
    sender = Sender(db, secret_store, config.webhooks, owner)
    sequencer = Sequencer(db, owner)

    # Faces
    door = Doorkeeper(db, environment.get("OSTLER_ADMIN_TOKEN") or None, config.console.open)
    console = Console(
        db, door, pause_file=pause_file.path, oncall=config.oncall, remediation=config.remediation, fabrics=fabrics
    )
    loops += [
        _loop("jobs", db, lambda: runner.last_success, 30.0),
        _loop("cordon", db, lambda: cordon.last_success, 60.0),
        _loop("webhooks", db, lambda: sender.last_success, 60.0),
        _loop("sequencer", db, lambda: sequencer.last_success, 15.0),
        _loop("agents' desk", db, lambda: desk.last_success, 30.0),
        *([_loop("BMC watch", db, lambda: bmcs_watch.last_success, 60.0)] if config.bmc_watch.enabled else []),
    ]
    registry = CollectorRegistry()
    requests = RequestMetrics.on(registry)
    registry.register(FleetMetrics(db, loops, bmcs_watch.counts if config.bmc_watch.enabled else None))
    registry.register(FabricMetrics(fabrics))
    stopping = threading.Event()
    agent_host, agent_port = parse_address(config.server.agent_listen, "[server] agent_listen")
    agent_port = agent_port or ground.free_port(agent_host)  # it stands in every seed, so it is known before serving
    provisioning = ground.reachable(config, agent_host, agent_port)
    trust = trust_of(authority, secret_store)
    reachable = replace(config, provisioning=provisioning)
    operator = operator_app(
        [
            *routers(
                reachable,
                db,
                door.authorize,
                secret_store,
                stopping.is_set,
                trust,
                ground.adopt_sources(config, clusters),
                fabrics,
            ),
            console.router,
        ],
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
    return Server(config, db, runner, cordon, sequencer, sender, desk, bmcs_watch, listeners, console)


def routers(
    config: Config,
    db: Database,
    authorize: Authorize,
    secret_store: FileSecrets,
    stopping: Callable[[], bool],
    trust: Trust | None = None,
    sources: Mapping[str, Cluster] | None = None,
    fabrics: Fabrics | None = None,
) -> list[APIRouter]:
    """The operators' API, feature by feature: what docs/api/openapi.json describes."""
    return [
        ostler.nodes.api.router(db, authorize, sources),
        ostler.remediation.api.router(db, authorize),
        ostler.health.api.router(db, authorize),
        ostler.verification.api.router(db, authorize, config.verification),
        ostler.breakfix.api.router(db, authorize, config.breakfix),
        ostler.oncall.api.router(db, authorize, config.oncall, config.health, remediation_service.consider),
        ostler.acceptance.api.router(db, authorize, config.acceptance),
        ostler.provisioning.api.router(db, authorize, config.provisioning, trust),
        ostler.tickets.api.router(db, authorize, config.oncall.console_url),
        ostler.fabric.api.router(
            fabrics or Fabrics(db, config.fabrics, config.health, remediation_service.consider), authorize
        ),
        ostler.brake.api.router(db, authorize),
        ostler.events.api.router(db, authorize, stopping=stopping),
        ostler.events.webhooks_api.router(db, authorize, secret_store, config.webhooks),
        ostler.audit.api.router(db, authorize),
        ostler.access.api.router(db, authorize),
    ]


def _pagers(config: Config, db: Database, environment: Mapping[str, str], secrets: FileSecrets) -> list[Pager]:
    """Who calls people, as `[oncall]` says. Raises `BadInput` or `NotFound` for a key that cannot be had."""
    settings = config.oncall
    link = settings.console_url
    found: list[Pager] = [Alertmanager(url, db.clock.real, generator=link) for url in settings.alertmanager]
    if settings.pagerduty:
        key = resolve(settings.pagerduty, environment, secrets)
        found.append(PagerDuty(key, url=settings.pagerduty_url, client_url=link))
    return found


def _loop(name: str, db: Database, last: Callable[[], float | None], stale_after: float) -> Loop:
    def age() -> float | None:
        at = last()
        return None if not at else db.clock.real() - at

    return Loop(name, age, stale_after)
