"""What this agent can do on a real node, if it is allowed: run a check, restart a service, reset a GPU (gpu_reset.py),
reboot.

Handed to `Orders` by run.py; the twin brings its own. Every argument is checked against what this verb takes, and no
shell is involved.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ostler.agent.confine import Child
from ostler.agent.gpu_reset import GpuResetVerb, Holder
from ostler.agent.orders import YIELDS, Execution, Verb
from ostler.checks.model import CheckResult, CheckVerdict
from ostler.checks.registry import find
from ostler.core.errors import BadInput, Permanent
from ostler.wire.agent import MESSAGE_LIMIT, Order, OrderResult, Verdict
from ostler.wire.decode import JsonValue, fit

SERVICES = ("nvidia-fabricmanager", "nvidia-persistenced", "nvidia-dcgm", "nvidia-imex", "openibd")
"""What `restart-service` may restart: the services whose restart is a recovery of the driver's or the fabric's own."""

VERBS = ("run-check", "restart-service", "reset-gpu", "reboot")


class CommandExecution:
    """A command that runs; `read` turns (exit status, output) into the result."""

    def __init__(
        self, order: Order, argv: Sequence[str], read: Callable[[Order, int, bytes], OrderResult | None]
    ) -> None:
        self._order = order
        self._read = read
        self._over = False
        try:
            self._child = Child(argv, name=re.sub(r"[^A-Za-z0-9]", "", order.id)[:40] or "order")
        except OSError as error:
            raise Permanent(f"{argv[0]} cannot be started: {error.strerror}", where=order.verb) from None

    def poll(self) -> OrderResult | None:
        ended = None if self._over else self._child.poll()
        if ended is None:
            return None
        self._over = True
        return self._read(self._order, *ended)

    def stop(self) -> None:
        self._child.kill()


class CommandVerb:
    """A verb that is one command."""

    def __init__(
        self,
        argv: Callable[[Order], Sequence[str]],
        read: Callable[[Order, int, bytes], OrderResult | None],
        *,
        ends_boot: bool = False,
    ) -> None:
        self._argv = argv
        self._read = read
        self.ends_boot = ends_boot

    def start(self, order: Order) -> Execution:
        return CommandExecution(order, self._argv(order), self._read)


def real_verbs(monitors: Holder | None = None, reset_note: Path | None = None) -> Mapping[str, Verb]:
    """All of them; which are allowed is decided elsewhere. `monitors` hold GPUs, `reset_note` is a file (gpu_reset)."""
    return {
        "run-check": CommandVerb(_check_argv, read_check),
        "restart-service": CommandVerb(_service_argv, read_exit),
        "reset-gpu": GpuResetVerb(holder=monitors, note=reset_note),
        "reboot": CommandVerb(lambda order: ("systemctl", "reboot"), read_reboot, ends_boot=True),
    }


def _argument(order: Order, name: str) -> str:
    value = order.arguments.get(name)
    if not isinstance(value, str):
        raise BadInput(f"the order needs the argument {name!r} as text", where=order.verb)
    return value


def _check_argv(order: Order) -> Sequence[str]:
    check = find(_argument(order, "check"))
    argv = [sys.executable, "-m", "ostler.checks", check.name, "--json", "--budget", f"{order.deadline_s * 0.9:.1f}"]
    for key, value in order.arguments.items():
        if key in ("check", YIELDS):
            continue
        if key not in check.arguments or isinstance(value, bool) or not isinstance(value, str | int | float):
            raise BadInput(f"{check.name} takes no such {key[:40]!r}", where=order.verb)
        argv += ["--set", f"{key}={value}"]
    return argv


def _service_argv(order: Order) -> Sequence[str]:
    service = _argument(order, "service").removesuffix(".service")
    if service not in SERVICES:
        raise BadInput(f"{service[:64]!r} is none of {', '.join(SERVICES)}", where=order.verb)
    return ("systemctl", "restart", f"{service}.service")


def read_check(order: Order, status: int, output: bytes) -> OrderResult:
    """The JSON line of `python -m ostler.checks`; anything else means that the check itself broke: inconclusive."""
    try:
        said = json.loads(output.splitlines()[-1])
        result = CheckResult(
            str(said["name"]), CheckVerdict(said["verdict"]), dict(said["measured"]), str(said["message"])
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        tail = fit(output[-500:].decode("utf-8", "replace").strip(), MESSAGE_LIMIT)
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return OrderResult(order.id, Verdict.INCONCLUSIVE, f"the check ended without a result ({how}): {tail}")
    measured: dict[str, JsonValue] = {
        fit(key, 64): fit(value) if isinstance(value, str) else value
        for key, value in list(result.measured.items())[:64]
    }
    return OrderResult(order.id, Verdict(result.verdict.value), fit(result.message, MESSAGE_LIMIT), measured)


def read_exit(order: Order, status: int, output: bytes) -> OrderResult:
    """Exit status 0 passed, all else failed, with the last words."""
    tail = fit(output[-1000:].decode("utf-8", "replace").strip(), MESSAGE_LIMIT)
    return OrderResult(order.id, Verdict.PASSED if status == 0 else Verdict.FAILED, tail, {"exit_status": status})


def read_reboot(order: Order, status: int, output: bytes) -> OrderResult | None:
    """Taking the order is no success: that is the next boot. Only a refusal is an answer now."""
    return None if status == 0 else read_exit(order, status, output)
