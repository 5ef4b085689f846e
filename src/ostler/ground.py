"""The ground that the server stands on: its folder, clock, database, pools, clusters and certificate. For `app.py`.

Each function opens one thing from the configuration, or raises one line that says what is wrong with it.
"""

from __future__ import annotations

import fcntl
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ostler.adapters.cluster.kubernetes import KubernetesCluster
from ostler.adapters.cluster.nothing import NoCluster
from ostler.adapters.cluster.port import Cluster
from ostler.adapters.cluster.slurm import SlurmCluster
from ostler.adapters.fabric import tools
from ostler.adapters.fabric.port import Collector
from ostler.adapters.fabric.replay import FolderCollector
from ostler.adapters.keys.authority import Authority
from ostler.adapters.keys.private_files import write_private
from ostler.config import Config
from ostler.core.actor import ostler as ostler_actor
from ostler.core.clock import Clock, ScaledClock, SystemClock
from ostler.core.errors import BadInput, Conflict, NotFound
from ostler.db import migrate
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.provisioning.model import ProvisioningSettings


def data_folder(config: Config) -> Path:
    """The folder for keys and files, made if it is missing. Raises `BadInput`."""
    folder = config.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BadInput(f"The data folder cannot be made: {error.strerror}.", where=str(folder)) from None
    return folder


def clock(config: Config) -> Clock:
    """Domain time as the configuration wants it."""
    simulation = config.simulation
    if simulation.speed == 1.0:
        return SystemClock()
    if simulation.speed <= 0:
        raise BadInput("The speed is above 0; 1 is real time.", where="[simulation] speed")
    return ScaledClock(simulation.speed, simulation.origin or time.time())


@contextmanager
def sole_server(config: Config) -> Iterator[None]:
    """Keep a second server off the same SQLite file for as long as this one runs. Raises `Conflict`.

    SQLite is for one process; replicas share a PostgreSQL.
    """
    url = config.database_url
    if not url.startswith("sqlite:///"):
        yield
        return
    path = Path(url.removeprefix("sqlite:///") + ".serving")
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"Its lock file cannot be made: {error.strerror}.", where=str(path)) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "Another ostler serve runs on this SQLite database; stop it, or give both a PostgreSQL.", where=url
            ) from None
        yield


def database(config: Config, clock: Clock) -> Database:
    """Open it; an empty one gets its schema, one of another version is refused with what to do."""
    db = Database(config.database_url, clock)
    try:
        empty = migrate.current(db) is None
    except NotFound:  # SQLite's file is not there yet
        empty = True
    if empty:
        migrate.migrate(config.database_url)
    migrate.require_current(db)
    return db


def define_pools(db: Database, config: Config) -> None:
    """Bring the pools that the file names to what it says."""

    def use_case(tx: Tx) -> None:
        known = {pool.name for pool in node_store.pools(tx)}
        for pool in config.pool_list():
            if pool.name in known and pool.name not in config.pools:
                continue  # the file says nothing of it: what was granted since stands
            nodes.define_pool(tx, pool, actor=ostler_actor("configuration"), reason="configuration at start")

    db.write(use_case)


def clusters(config: Config) -> dict[str, Cluster]:
    """The schedulers that pools may name; `none` is always there."""
    clusters: dict[str, Cluster] = {"none": NoCluster()}
    for name, one in config.clusters.items():
        if name == "none":
            raise BadInput("The name none is that of no cluster at all; choose another.", where="[clusters.none]")
        if one.kind == "slurm":
            clusters[name] = SlurmCluster(
                name, conf=one.slurm_conf, bin=one.bin, idle_partition=one.idle_partition, idle_qos=one.idle_qos
            )
        else:
            clusters[name] = KubernetesCluster.from_kubeconfig(
                name,
                one.kubeconfig or None,
                one.context or None,
                namespace=one.idle_namespace,
                idle_image=one.idle_image,
                idle_tolerations=one.idle_tolerations,
                idle_runtime_class=one.idle_runtime_class,
            )
    for pool in config.pool_list():
        if pool.cluster not in clusters:
            known = ", ".join(clusters)
            raise BadInput(f"No cluster '{pool.cluster}'; known are {known}.", where=f"[pools.{pool.name}] cluster")
    return clusters


def adopt_sources(config: Config, clusters: Mapping[str, Cluster]) -> dict[str, Cluster]:
    """The clusters that `ostler adopt KIND:NAME` reads, by that word."""
    return {f"{one.kind}:{name}": clusters[name] for name, one in config.clusters.items()}


def server_certificate(authority: Authority, folder: Path, config: Config, host: str) -> tuple[Path, Path]:
    """A fresh certificate of the agents' listener at every start: short-lived, and for the names of today."""
    names = dict.fromkeys(["localhost", "127.0.0.1", *config.server.names])
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        names[host] = None
    certificate, key = authority.issue_server(list(names))
    write_private(folder / "ca" / "server.key", key)
    write_private(folder / "ca" / "server.pem", certificate)
    return folder / "ca" / "server.pem", folder / "ca" / "server.key"


def reachable(config: Config, host: str, port: int) -> ProvisioningSettings:
    """The settings of Day 0 with the agents' URL filled in, where the configuration leaves it to us."""
    if config.provisioning.server_url:
        return config.provisioning
    name = config.server.names[0] if config.server.names else host
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(name, name)  # noqa: S104
    return replace(config.provisioning, server_url=f"https://{f'[{name}]' if ':' in name else name}:{port}")


def free_port(host: str) -> int:
    """A port of this address that is free now."""
    with socket.create_server((host, 0)) as taken:
        return int(taken.getsockname()[1])


def collectors(config: Config, clock: Clock) -> dict[str, Collector]:
    """What looks at each fabric from here; one that others push has none. Raises `BadInput`."""
    found: dict[str, Collector] = {}
    for name, fabric in config.fabrics.items():
        if fabric.collector == "folder":
            found[name] = FolderCollector(name, Path(fabric.folder).expanduser(), clock.real)
        elif fabric.collector == "tools":
            settings = tools.Settings(
                vantage=fabric.through[-1] if fabric.remote and fabric.through else socket.gethostname(),
                ca=fabric.ca,
                port=fabric.ca_port,
                prefix=fabric.through,
                remote=fabric.remote,
                config=fabric.config,
                subnet_list=fabric.subnet_list,
                discovery_s=fabric.deadline_s,
                counters_s=fabric.deadline_s,
            )
            found[name] = tools.ToolsCollector(settings, clock.real)
    return found
