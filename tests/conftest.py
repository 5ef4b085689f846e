"""Fixtures that every test may use: a clock that stands still, an empty migrated database of either kind, recorded data."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.migrate import migrate
from tests import postgres_server

REPOSITORY = Path(__file__).parent.parent
_RUN_FOLDER = "OSTLER_TEST_RUN_FOLDER"
_ROOM = 2 << 30
_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    """The controller makes the run's folder; xdist's workers inherit its name."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="ostler-tests-", dir=_fast_folder())
        Path(folder).chmod(0o711)  # the server runs as another user
        os.environ[_RUN_FOLDER] = folder


def _fast_folder() -> str | None:
    """In memory, where there is room. Each test of PostgreSQL makes and drops a database of hundreds of files, and ext4
    does not reuse inodes for minutes: after some thousand tests a database took ten times as long as at first.
    """
    memory = Path("/dev/shm")
    try:
        room = os.statvfs(memory)
    except OSError:
        return None
    return str(memory) if os.access(memory, os.W_OK) and room.f_bavail * room.f_frsize >= _ROOM else None


def pytest_unconfigure(config: pytest.Config) -> None:
    """The controller stops what the run started."""
    if not hasattr(config, "workerinput") and (folder := os.environ.pop(_RUN_FOLDER, None)):
        postgres_server.stop(Path(folder))


@pytest.fixture
def clock() -> ManualClock:
    """Time that moves only by `clock.advance(seconds)`."""
    return ManualClock()


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """`postgresql://ostler@127.0.0.1:PORT` of the run's server, with a migrated database `ostler_template_N` on it."""
    try:
        return postgres_server.start_once(Path(os.environ[_RUN_FOLDER]))
    except postgres_server.Absent as absent:
        if os.environ.get("CI"):
            pytest.fail(f"PostgreSQL is needed here: {absent}")
        pytest.skip(str(absent))


@pytest.fixture(scope="session")
def _postgres_template(postgres_url: str) -> str:
    name = f"ostler_template_{os.getpid()}"
    with psycopg.connect(f"{postgres_url}/postgres", autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    migrate(f"{postgres_url}/{name}")
    return name


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "ostler.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, _sqlite_template: Path) -> str:
    """A fresh migrated SQLite file."""
    path = tmp_path / "ostler.db"
    shutil.copy(_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def new_postgres(postgres_url: str, _postgres_template: str) -> Iterator[Callable[[], str]]:
    """Makes fresh migrated PostgreSQL databases and returns their URLs; drops them after the test."""
    made = []

    def make() -> str:
        name = f"ostler_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(f"{postgres_url}/postgres", autocommit=True) as admin:
            admin.execute(f"create database {name} template {_postgres_template}".encode())
        made.append(name)
        return f"{postgres_url}/{name}"

    yield make
    with psycopg.connect(f"{postgres_url}/postgres", autocommit=True) as admin:
        for name in made:
            admin.execute(f"drop database if exists {name} with (force)".encode())


@pytest.fixture
def sqlite_db(sqlite_url: str, clock: ManualClock) -> Iterator[Database]:
    """A migrated empty database on SQLite, for what need not be shown on both."""
    database = Database(sqlite_url, clock)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def db_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated empty database; the test runs once per kind."""
    if request.param == "sqlite":
        url: str = request.getfixturevalue("sqlite_url")
        return url
    new: Callable[[], str] = request.getfixturevalue("new_postgres")
    return new()


@pytest.fixture
def db(db_url: str, clock: ManualClock) -> Iterator[Database]:
    """A migrated empty database; the test runs once on SQLite and once on PostgreSQL."""
    database = Database(db_url, clock)
    yield database
    database.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of recorded real data (`OSTLER_REAL_DATA`, else `../shared/real` beside the repository)."""
    folder = Path(os.environ.get("OSTLER_REAL_DATA") or REPOSITORY.parent / "shared" / "real")
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}; set OSTLER_REAL_DATA to where it is")
    return folder
