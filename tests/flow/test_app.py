"""The whole server as `ostler serve` builds it: it starts, is ready, stops, starts again, and says what keeps it from it."""

from __future__ import annotations

import json
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ostler.app import Server, build
from ostler.config import Config, DatabaseSettings, PoolSettings, ServerSettings
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, OstlerError, WrongVersion
from ostler.db.migrate import migrate
from ostler.nodes import service, store
from ostler.nodes.model import Capability, Pool


@pytest.fixture
def config(tmp_path: Path) -> Config:
    anywhere = "127.0.0.1:0"
    return Config(server=ServerSettings(str(tmp_path / "data"), anywhere, anywhere, anywhere))


@contextmanager
def running(config: Config) -> Iterator[Server]:
    server = build(config, {})
    try:
        server.start()
        yield server
    finally:
        server.stop()


def ask(server: Server, path: str) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{server.bound['operator'].port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def ready(server: Server) -> Any:
    """What `/readyz` says once every loop has run; the suite's time-out bounds the wait."""
    while True:
        status, said = ask(server, "/readyz")
        if status == 200 or not all("has not run yet" in one for one in said["wrong"]):
            return said


def test_it_starts_is_ready_and_stops(config: Config) -> None:
    with running(config) as server:
        assert ready(server)["status"] == "ready"
        assert {bound.name for bound in server.bound.values()} == {"operator", "boot", "agents"}
        assert ask(server, "/v1/nodes")[0] == 401
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.bound["operator"].port), timeout=5).close()


def test_a_second_start_keeps_the_authority_and_the_grants(config: Config) -> None:
    certificate = config.data_dir / "ca" / "ca.pem"
    with running(config) as server:
        first = certificate.read_text()
        granted = Pool("default", frozenset({Capability.OBSERVE, Capability.CORDON}))
        server.db.write(lambda tx: service.define_pool(tx, granted, actor=Actor("person:mara")))
    with running(config) as server:
        assert certificate.read_text() == first
        assert server.db.read(lambda tx: store.get_pool(tx, "default")) == granted, "the file says nothing of it"
    with running(replace(config, pools={"default": PoolSettings()})) as server:
        assert server.db.read(lambda tx: store.get_pool(tx, "default")) == Pool("default"), "now it does"


def refused(config: Config, error: type[OstlerError] = OstlerError) -> str:
    with pytest.raises(error) as caught:
        build(config, {})
    said = str(caught.value)
    assert "\n" not in said and len(said) < 400
    return said


def revise(config: Config, revision: str) -> None:
    config.data_dir.mkdir()
    migrate(config.database_url)
    with sqlite3.connect(config.data_dir / "ostler.db") as raw:
        raw.execute("update alembic_version set version_num = ?", (revision,))
    raw.close()


def test_a_database_of_a_newer_version(config: Config) -> None:
    revise(config, "9999")
    assert "this Ostler is older than its database" in refused(config, WrongVersion)


def test_a_file_that_is_no_database(config: Config) -> None:
    config.data_dir.mkdir()
    (config.data_dir / "ostler.db").write_text("not a database at all, whatever its name says" * 100)
    assert "no SQLite database" in refused(config, BadInput)


def test_a_port_in_use(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(replace(config, server=replace(config.server, boot_listen=f"127.0.0.1:{port}")), BadInput)
    assert "[server] boot_listen" in said and f"Port {port} is in use" in said
    with running(config):
        pass  # what was opened before the mistake does not stand in the way


@pytest.mark.parametrize("folder", ["file/data", "/proc/ostler-data", "/proc/self"])
def test_a_data_folder_that_cannot_be_written(config: Config, tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    said = refused(replace(config, server=replace(config.server, data_dir=str(tmp_path / folder))))
    assert folder in said


def test_addresses_that_are_none(config: Config) -> None:
    for settings, key in (
        (replace(config.server, listen="nowhere"), "[server] listen"),
        (replace(config.server, agent_listen="127.0.0.1:99999"), "[server] agent_listen"),
    ):
        assert key in refused(replace(config, server=settings), BadInput)


def test_a_url_that_is_no_database(config: Config) -> None:
    assert "[database] url" in refused(replace(config, database=DatabaseSettings("mysql://x")), BadInput)


def test_a_pool_of_an_unknown_cluster(config: Config) -> None:
    pools = {"train": PoolSettings(cluster="prod")}
    assert "[pools.train] cluster: No cluster 'prod'" in refused(replace(config, pools=pools), BadInput)
