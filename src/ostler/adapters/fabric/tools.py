"""`Collector` over the tools that every InfiniBand site has: infiniband-diags, and the list that opensm writes.

Works on the subnet manager's host and on any host with an InfiniBand port; through `prefix` also elsewhere: a network
namespace, `sudo`, or another host over ssh (`remote`: then files are fetched from there). Never resets a counter.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from ostler.adapters.fabric.command import Commands, Finished
from ostler.adapters.fabric.port import MOST_BYTES, Collection, Output, Want
from ostler.core.errors import BadInput, Forbidden, Unavailable, Unreachable

_SAFE = re.compile(r"[A-Za-z0-9_./:=@%+,-]+")
"""What may stand in an argument of ours: ssh hands it to a shell at the other end."""
_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Debian keeps the tools in /usr/sbin, which a service's PATH often lacks."""
_AT_ONCE = "8"
"""Management datagrams on the way at a time (-o): the default of 2 doubles the time, more than 8 gains little."""


@dataclass(frozen=True)
class Settings:
    """How to look. `ground.py` makes it of `[fabrics.NAME]`."""

    vantage: str
    ca: str = ""
    """Device to look through, `mlx5_0`; empty: the first with a link."""
    port: int = 0
    """Its port; 0: the first with a link."""
    prefix: tuple[str, ...] = ()
    """Put before each command: `("ip", "netns", "exec", "ib")`, `("ssh", "-o", "BatchMode=yes", "sm01")`."""
    remote: bool = False
    """Whether `prefix` leads to another host, with files of its own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to PATH and LC_ALL; nothing else of the server's environment is handed on."""
    config: str = ""
    """An ibdiag.conf instead of the system's: that is where an M_Key belongs, not on a command line."""
    subnet_list: str = ""
    """Path of opensm-subnet.lst, where the subnet manager's own view is at hand: a second vantage for nothing."""
    discovery_s: float = 300.0
    """Deadline of ibnetdiscover: 98,304 simulated ports took 20 to 31 s on two cores."""
    counters_s: float = 300.0
    query_s: float = 30.0
    """Deadline of a query of one node."""


class ToolsCollector:
    """Asks the fabric through one port of one host."""

    def __init__(self, settings: Settings, real: Callable[[], float]) -> None:
        for what, text in (("ca", settings.ca), ("config", settings.config), ("subnet_list", settings.subnet_list)):
            if text and (not _SAFE.fullmatch(text) or text.startswith("-")):
                raise BadInput(f"{text!r} has characters that are not taken here.", where=f"[fabrics] {what}")
        self._settings = settings
        self._real = real
        # The search path is ours, not the server's: it is the same for a service and for a shell.
        path = os.pathsep.join(dict.fromkeys([*_FOLDERS, *os.environ.get("PATH", os.defpath).split(os.pathsep)]))
        self._environment = {"PATH": path, "LC_ALL": "C", **settings.environment}
        # With a prefix the settings' environment is for the tool, not for the program that starts it.
        self._commands = Commands({"PATH": path, "LC_ALL": "C"} if settings.prefix else self._environment)
        chosen = (("-C", settings.ca), ("-P", str(settings.port or "")), ("-z", settings.config))
        self._where = [part for option, value in chosen if value for part in (option, value)]

    @property
    def vantage(self) -> str:
        return self._settings.vantage

    def collect(self, what: Want) -> Collection:
        started, began = self._real(), time.monotonic()
        with tempfile.TemporaryDirectory(prefix="ostler-fabric-") as name:
            folder = Path(name)
            if what.around:
                outputs = self._around(what.around, folder)
            else:
                outputs = self._whole(what, folder)
        return Collection(self.vantage, started, time.monotonic() - began, tuple(outputs))

    def close(self) -> None:
        self._commands.close()

    # ── what is asked ───────────────────────────────────────────────────────────────────────────────────────────────

    def _whole(self, what: Want, folder: Path) -> list[Output]:
        there = self._folder_there(folder)
        try:
            cache = f"{there}/fabric.cache"
            # One sweep gives both: the cache has all ports with their states, the text is what people know.
            text = self._tool("ibnetdiscover", ["-o", _AT_ONCE, "--cache", cache], folder, self._settings.discovery_s)
            outputs = [text]
            if (found := self._read(cache, folder)) is not None:
                outputs.append(Output("ibnetdiscover-cache", (cache,), found.data, "", text.status))
            outputs.append(self._tool("sminfo", [], folder, self._settings.query_s))
            if what.counters and found is not None and found.data:
                outputs.append(self._counters(cache, folder))
            if self._settings.subnet_list:
                outputs.append(self._subnet_list(folder))
        finally:
            if self._settings.remote and not self._commands.closed:
                self._run(["rm", "-rf", there], folder, self._settings.query_s)
        return outputs

    def _counters(self, cache: str, folder: Path) -> Output:
        # An empty threshold file: the host's own may keep counters to itself. `--data` adds the traffic counters of
        # the ports that have errors. No -k, no -K: counters are not ours to reset.
        arguments = ["-o", _AT_ONCE, "--threshold-file", "/dev/null", "--data"]
        done = self._tool("ibqueryerrors", ["--load-cache", cache, *arguments], folder, self._settings.counters_s)
        if "loading cached fabric failed" in done.stderr:
            # libibnetdisc does not take its own cache back if one node on a link kept a port to itself.
            done = self._tool("ibqueryerrors", arguments, folder, self._settings.counters_s)
        return done

    def _around(self, routes: Sequence[Sequence[int]], folder: Path) -> list[Output]:
        # By directed route: it needs neither a subnet manager nor a LID, so it works on a node that is being set up.
        return [
            self._tool("iblinkinfo", ["-l", "-D", ",".join(map(str, route)), "-n", "1"], folder, self._settings.query_s)
            for route in routes
        ]

    def _subnet_list(self, folder: Path) -> Output:
        path = self._settings.subnet_list
        for _attempt in range(3):  # opensm rewrites it in place: what changed meanwhile is not taken
            before = self._modified(path, folder)
            found = self._read(path, folder)
            if found is not None and before is not None and before == self._modified(path, folder):
                return Output("opensm-subnet", (path,), found.data, found.stderr, 0, found.seconds, before)
        return Output("opensm-subnet", (path,), b"", f"{path} cannot be read, or does not stop changing", 1)

    # ── how ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tool(self, tool: str, arguments: Sequence[str], folder: Path, seconds: float) -> Output:
        if not self._settings.prefix and shutil.which(tool, path=self._environment["PATH"]) is None:
            self._missing(tool)
        done = self._run([tool, *self._where, *arguments], folder, seconds)
        self._judge(tool, done)
        return Output(tool, (tool, *self._where, *arguments), done.data, done.stderr, done.status, done.seconds)

    def _run(self, command: Sequence[str], folder: Path, seconds: float) -> Finished:
        settings = self._settings
        argv = list(command)
        if settings.prefix and settings.environment:
            argv = ["env", *(f"{key}={value}" for key, value in settings.environment.items()), *argv]
        if settings.remote:
            # Over there it must end even if nobody here is left to say so.
            argv = ["timeout", "-k", "5", f"{seconds:.0f}", *argv]
            if unsafe := next((part for part in argv if not _SAFE.fullmatch(part)), None):
                raise BadInput(f"{unsafe!r} has characters that are not taken here.", where="[fabrics] through")
        done = self._commands.run([*settings.prefix, *argv], folder, seconds + (5 if settings.remote else 0))
        if settings.remote and done.status == 124:
            return Finished(done.data, done.stderr, None, done.seconds)
        return done

    def _judge(self, tool: str, done: Finished) -> None:
        """What nobody needs to look for in a report: nothing could be asked at all."""
        said, where = done.stderr.lower(), self.vantage
        if done.status == 127 or (done.status and "command not found" in said):
            self._missing(tool)
        if self._settings.remote and done.status == 255 and not said.startswith("ib") and "iberror" not in said:
            raise Unreachable(f"{self._settings.prefix[0]}: {_line(done.stderr)}", where=where)
        if "umad port" not in said or not done.status:
            return
        if "permission denied" in said or "operation not permitted" in said:
            raise Forbidden(
                "InfiniBand's management device may not be opened: run as root, or let this user read and write "
                "/dev/infiniband/umad* (a udev rule).",
                where=where,
            )
        through = f"{self._settings.ca or 'any device'} port {self._settings.port or 'any'}"
        raise Unavailable(
            f"No InfiniBand port to ask through ({through}): load ib_umad (modprobe ib_umad), see what ibstat lists, "
            "and name it as ca and port; or collect on a host that has one.",
            where=where,
            delay=60.0,
        )

    def _missing(self, tool: str) -> NoReturn:
        raise BadInput(f"No {tool} here: apt-get install infiniband-diags.", where=self.vantage)

    def _folder_there(self, folder: Path) -> str:
        """A private folder where the tool runs; of another host, made there."""
        if not self._settings.remote:
            return str(folder)
        done = self._run(["mktemp", "-d", "-t", "ostler-fabric.XXXXXXXX"], folder, self._settings.query_s)
        name = done.data.decode(errors="replace").strip()
        if done.status != 0 or not name.startswith("/") or not _SAFE.fullmatch(name):
            raise Unreachable(f"{self._settings.prefix[0]}: {_line(done.stderr) or 'no answer'}", where=self.vantage)
        return name

    def _read(self, path: str, folder: Path) -> Finished | None:
        """A file's bytes, None if there is none or it is too long."""
        if self._settings.remote:
            done = self._run(["cat", path], folder, self._settings.query_s)
            return done if done.status == 0 else None
        try:
            if Path(path).stat().st_size > MOST_BYTES:
                return None
            return Finished(Path(path).read_bytes(), "", 0, 0.0)
        except OSError:
            return None

    def _modified(self, path: str, folder: Path) -> float | None:
        if self._settings.remote:
            done = self._run(["stat", "-c", "%.9Y", path], folder, self._settings.query_s)
            text = done.data.decode(errors="replace").strip()
            return float(text) if re.fullmatch(r"\d{1,12}\.\d{1,9}", text) else None
        try:
            return Path(path).stat().st_mtime
        except OSError:
            return None


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
