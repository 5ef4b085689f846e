"""The demo's processes: `ostler serve` and `ostler twin` as a user would start them. Used by `cli/demo.py`.

Whatever happens (an error, Ctrl-C, SIGTERM), leaving the `with` ends both and removes the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ostler.core.errors import BadInput, Unavailable

START_S = 30.0
"""Real seconds in which the server must be ready."""
STOP_S = 10.0
HAND_S = 60.0
"""Real seconds in which the fleet must have moved a plug."""
BURN_IN_S = 1800.0
"""Domain seconds of the test before production: 24 h in the field."""
REPAIR_TEST_S = 600.0
"""Domain seconds of the test after a repair: an hour in the field."""
HEARTBEAT_S = 120.0
SILENT_AFTER_S = 600.0
SETTLE_S = 600.0
"""Domain seconds that an action waits for what else is reported: 30 in the field. Reports take their real time."""
READINGS_S = 600.0
"""Domain seconds between two measurements of a node's GPUs: 60 in the field."""
OBSERVED = "adopted"
"""The pool of the nodes that run already."""
REPAIRED_AGAIN = "xid-48"
"""The fault whose ladder ends with the part's return."""


@dataclass(frozen=True)
class Play:
    """What is staged."""

    nodes: int
    seed: int
    speed: float
    script: str
    """Strikes as JSON Lines."""
    running: int = 0
    """Nodes that run already, adopted into a pool that grants nothing."""


class Stage:
    """`with Stage(play) as stage:` runs server and fleet; `operator` is the console's address."""

    def __init__(self, play: Play) -> None:
        self.token = secrets.token_urlsafe(32)
        self.operator = ""
        self._play = play
        self._folder = Path(tempfile.mkdtemp(prefix="ostler-demo-"))
        self._origin = time.time()
        self._server: subprocess.Popen[str] | None = None
        self._twin: subprocess.Popen[str] | None = None
        self._lock = threading.Condition()
        self._said: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked = 0
        keep = {name: value for name, value in os.environ.items() if not name.startswith("OSTLER_")}
        secret = {"OSTLER_ADMIN_TOKEN": self.token, "OSTLER_TOKEN": self.token}
        self._environment = {**keep, **secret, "OSTLER_BMC_PASSWORD": secrets.token_urlsafe(12)}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends both processes, the fleet first, and removes the folder."""
        for process in (self._twin, self._server):
            if process is not None and process.poll() is None:
                process.terminate()
        for process in (self._twin, self._server):
            if process is None:
                continue
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdout, process.stdin):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def clock(self) -> float:
        """Domain time now, UTC seconds."""
        return self._origin + (time.time() - self._origin) * self._play.speed

    def said(self) -> list[dict[str, Any]]:
        """What the fleet has said so far: `started`, `strike`, `script-done`, …"""
        with self._lock:
            return list(self._said)

    def said_of(self, event: str) -> dict[str, Any] | None:
        """The fleet's first word about an event."""
        return next((one for one in self.said() if one.get("event") == event), None)

    def bmc_writes(self) -> dict[str, list[str]]:
        """Node → what its BMC was told to do so far."""
        found: dict[str, list[str]] = {}
        for one in self.said():
            if one.get("event") == "bmc-write":
                found.setdefault(str(one["node"]), []).append(str(one["request"]))
        return found

    def hand(self, deed: str, **what: Any) -> dict[str, Any]:
        """Somebody's hands on the fleet's cabling: `docs/twin.md` has the deeds. What the fleet answers.

        Raises `BadInput` with the fleet's words where it cannot be done, `Unavailable` where it does not answer.
        """
        with self._lock:
            self._asked += 1
            number = self._asked
        line = json.dumps({"id": number, "do": deed, **what}) + "\n"
        try:
            if self._twin is None or self._twin.stdin is None:
                raise Unavailable("it is not there", where="fleet")
            self._twin.stdin.write(line)
            self._twin.stdin.flush()
        except OSError:
            self.check()
            raise Unavailable("it takes no orders", where="fleet") from None
        deadline = time.monotonic() + HAND_S
        with self._lock:
            while number not in self._answers:
                if time.monotonic() > deadline:
                    raise Unavailable(f"it did not answer to '{deed}'", where="fleet")
                self._lock.wait(0.5)
                self.check()
            answer = self._answers.pop(number)
        if not answer["ok"]:
            raise BadInput(str(answer["why"]), where=deed)
        return answer

    def check(self) -> None:
        """Raises `Unavailable` with the last words of a process that ended before its time."""
        for name, process in (("server", self._server), ("fleet", self._twin)):
            if process is not None and process.poll() is not None:
                raise Unavailable(f"it ended with status {process.returncode}: {self._last_words(name)}", where=name)

    def _start(self) -> None:
        images = self._folder / "images"
        images.mkdir()
        for name in ("vmlinuz", "initrd"):
            (images / name).write_bytes(b"the demo's machines fetch this, and boot nothing\n")
        config = self._folder / "ostler.toml"
        config.write_text(self._config(images))
        self._server = self._run("server", "serve", "--config", str(config))
        ready = self._ready(self._server)
        self.operator = str(ready["operator"])
        script = self._folder / "script.jsonl"
        script.write_text(self._play.script)
        play = self._play
        self._twin = self._run(
            "fleet",
            "twin",
            *("--boot", str(ready["boot"]), "--api", self.operator),
            *("--nodes", str(play.nodes), "--seed", str(play.seed)),
            *("--running", str(play.running), "--running-pool", OBSERVED),
            *("--speed", repr(play.speed), "--origin", repr(self._origin)),
            *("--script", str(script), "--json", "--hands"),
            stdin=subprocess.PIPE,
        )
        threading.Thread(target=self._listen, args=(self._twin,), name="demo-fleet", daemon=True).start()

    def _run(self, name: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        with (self._folder / f"{name}.log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "ostler", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=stdin,
                env=self._environment,
                text=True,
                start_new_session=True,  # Ctrl-C is for us: we end them in order
            )

    def _ready(self, server: subprocess.Popen[str]) -> dict[str, Any]:
        """The line that the server says when it listens."""
        timer = threading.Timer(START_S, server.kill)
        timer.start()
        try:
            line = server.stdout.readline() if server.stdout is not None else ""
        finally:
            timer.cancel()
        try:
            ready = json.loads(line)
        except ValueError:
            server.wait()
            raise Unavailable(f"it did not start: {self._last_words('server')}", where="server") from None
        return dict(ready)

    def _listen(self, twin: subprocess.Popen[str]) -> None:
        if twin.stdout is None:
            return
        try:
            for line in twin.stdout:
                said = json.loads(line)
                with self._lock:
                    if said.get("event") == "hand":
                        self._answers[said["id"]] = said
                        self._lock.notify_all()
                    else:
                        self._said.append(said)
        except ValueError:
            return  # the process ended in the middle of a line, or we closed the pipe

    def _last_words(self, name: str) -> str:
        try:
            words = (self._folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            words = []
        return words[-1][:500] if words else "it said nothing"

    def _config(self, images: Path) -> str:
        """Everything is granted in the demo's own pool, and nothing in the adopted one; Day 1 is shortened, which the
        page says. Spans that must outlast a report's real time are longer.
        """
        data = json.dumps(str(self._folder / "data"))
        return f"""
[server]
data_dir = {data}
listen = "127.0.0.1:0"
boot_listen = "127.0.0.1:0"
agent_listen = "127.0.0.1:0"

[simulation]
speed = {float(self._play.speed)!r}
origin = {self._origin!r}

[bmc]
username = "admin"
password = "env:OSTLER_BMC_PASSWORD"

[pools.default]
capabilities = ["observe", "cordon", "gpu-reset", "reboot", "power", "firmware", "provision"]
auto_certify = true

[pools.{OBSERVED}]
capabilities = ["observe"]

[health]
heartbeat_s = {HEARTBEAT_S}
silent_after_s = {SILENT_AFTER_S}
readings_s = {READINGS_S}

[fleet]
stale_after_s = {3 * READINGS_S}

[remediation]
settle_s = {SETTLE_S}

[remediation.faults.{REPAIRED_AGAIN}]
ladder = ["reset-gpu", "reboot", "power-cycle", "rma"]
repair_limit = 4

[acceptance]
sweep_s = 60.0
seatrial_window_s = 300.0
observe_s = 60.0
task_poll_s = 60.0
settle_s = 120.0
burn_in_s = {BURN_IN_S}
repair_test_s = {REPAIR_TEST_S}
test_rounds = 1

[provisioning]
image_folder = {json.dumps(str(images))}
retry_s = 1

[webhooks]
allow_networks = ["127.0.0.0/8"]

[console]
open = true
"""
