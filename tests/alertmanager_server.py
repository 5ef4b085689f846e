"""Debian's Alertmanager on a loopback port, for the pager contract."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path


class Absent(Exception):
    """No Alertmanager on this machine."""


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Its base URL."""
    binary = shutil.which("prometheus-alertmanager")
    if binary is None:
        raise Absent("no prometheus-alertmanager; apt-get install prometheus-alertmanager")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = folder / "am.yml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={config}",
                f"--storage.path={folder / 'data'}",
                "--cluster.listen-address=",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            _wait(url, process, folder / "log")
            yield url
        finally:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise AssertionError(f"Alertmanager ended: {log.read_text()[-500:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=1):
            return
        time.sleep(0.05)  # a foreign server starts; there is nothing to wait on
    raise AssertionError(f"Alertmanager does not answer: {log.read_text()[-500:]}")
