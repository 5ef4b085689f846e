"""A real PostgreSQL server for the tests: started once per run on a random loopback port, thrown away at the end.

Used by `conftest.py`. All xdist workers share one server, which the first that needs it starts under a file lock in the
run's folder; the controller stops it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psycopg

FLAGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # nothing here outlives the run
    "full_page_writes": "off",
    "max_connections": "400",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "autovacuum": "off",
}


class Absent(Exception):
    """No PostgreSQL server program on this machine."""


def binary(name: str) -> str:
    """Where `initdb`, `postgres`, … are: Debian keeps them out of the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name.split(".")[0]))
    for folder in [*folders, Path("/usr/local/bin"), Path("/usr/local/pgsql/bin"), Path("/usr/bin")]:
        if (folder / name).exists():
            return str(folder / name)
    raise Absent(f"no {name} in /usr/lib/postgresql/*/bin or /usr/local; apt-get install postgresql")


def start_once(folder: Path) -> str:
    """The URL of the run's server without a database name; starts it if nobody has."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        url = folder / "url"
        if not url.exists():
            written = _start(folder)
            url.write_text(written)
        return url.read_text()


def stop(folder: Path) -> None:
    """Stop the server, if it was started, and remove the run's folder."""
    pid_file = folder / "pid"
    if pid_file.exists():
        pid = int(pid_file.read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)  # immediate shutdown: the data is thrown away anyway
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and _state(pid) != "Z" and time.monotonic() < deadline:
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def _start(folder: Path) -> str:
    data = folder / "postgres"
    data.mkdir(mode=0o700)
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(data, user.pw_uid, user.pw_gid)
        as_user = ["runuser", "-u", "postgres", "--"]
    initdb = [binary("initdb"), "-D", str(data), "-U", "ostler", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    made = subprocess.run([*as_user, *initdb], check=False, capture_output=True, text=True, cwd="/")
    if made.returncode != 0:
        raise RuntimeError(f"initdb failed: {made.stderr or made.stdout}")
    for _attempt in range(5):
        port = _free_port()
        flags = [f"-c{name}={value}" for name, value in {**FLAGS, "unix_socket_directories": str(data)}.items()]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*as_user, binary("postgres"), "-D", str(data), "-p", str(port), *flags],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        if _answers(server, port):
            # runuser is the parent; the server itself names its process in its data folder.
            (folder / "pid").write_text((data / "postmaster.pid").read_text().splitlines()[0])
            server.returncode = 0  # it is stopped by `stop`, perhaps from another process
            return f"postgresql://ostler@127.0.0.1:{port}"
    raise RuntimeError(f"PostgreSQL does not start: {(folder / 'log').read_text()[-2000:]}")


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    while server.poll() is None:
        try:
            psycopg.connect(f"postgresql://ostler@127.0.0.1:{port}/postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.05)  # polls for the real condition; the suite's time-out bounds it
        else:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
