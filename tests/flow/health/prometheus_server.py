"""Debian's real Prometheus on a port of its own, and an exporter that says what a test wants. For this folder's tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

Answer = tuple[int, str, bytes]


def needs(program: str) -> str:
    """The program's path, or skip."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed: apt-get install prometheus")
    return found


class Site:
    """A small HTTP server on 127.0.0.1 that answers what `answer` says of (path, body)."""

    def __init__(self, answer: Callable[[str, str], Answer]) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["content-length"])).decode())

            def _answer(self, body: str) -> None:
                outer.asked.append((self.path, body, dict(self.headers)))
                status, kind, content = answer(self.path, body)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                try:
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.address}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Exporter:
    """dcgm-exporter's text for GPUs whose figures a test sets: `figures[node, gpu]["GPU_TEMP"] = 60`."""

    def __init__(self) -> None:
        self.figures: dict[tuple[str, int], dict[str, float]] = {}
        self.lock = threading.Lock()
        self.site = Site(lambda path, body: (200, "text/plain; version=0.0.4", self.text().encode()))

    def text(self) -> str:
        names = sorted({name for figures in self.figures.values() for name in figures})
        lines = []
        for name in names:
            kind = "counter" if name.endswith(("_TOTAL", "_COUNTER")) else "gauge"
            lines += [f"# HELP DCGM_FI_DEV_{name} as DCGM says.", f"# TYPE DCGM_FI_DEV_{name} {kind}"]
            for (node, gpu), figures in self.figures.items():
                if name in figures:
                    lines.append(
                        f'DCGM_FI_DEV_{name}{{gpu="{gpu}",UUID="GPU-{node}-{gpu}",pci_bus_id="00000000:{gpu + 16:02X}:00.0",'
                        f'device="nvidia{gpu}",modelName="NVIDIA H100 80GB HBM3",Hostname="{node}",'
                        f'DCGM_FI_DRIVER_VERSION="550.54.15"}} {figures[name]:g}'
                    )
        return "\n".join(lines) + "\n"


class Server:
    """A Prometheus that scrapes one target four times a second."""

    def __init__(self, folder: Path, target: str) -> None:
        program = needs("prometheus")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 250ms, scrape_timeout: 250ms}\n"
            "scrape_configs:\n"
            f"  - {{job_name: dcgm, honor_labels: true, static_configs: [{{targets: ['{target}']}}]}}\n"
        )
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(self._ready, "Prometheus is ready")

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError("Prometheus ended at once")
        try:
            return httpx2.get(f"{self.url}/-/ready", timeout=2, trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def until(true: Callable[[], bool], what: str | Callable[[], str], seconds: float = 60) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what() if callable(what) else what}")
        threading.Event().wait(0.1)
