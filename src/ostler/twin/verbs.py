"""What a simulated node does when it is ordered: run a check, reset a GPU, restart a service, reboot. For `node.py`.

The agent that takes the orders is the real one; only the deed is simulated. It takes domain time, and it passes unless
the fault script says that it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ostler.agent.orders import Execution, Verb
from ostler.agent.verbs import SERVICES
from ostler.checks.ib_neighbours import NAME as IB_NEIGHBOURS
from ostler.checks.registry import find
from ostler.core.clock import Clock
from ostler.core.errors import BadInput
from ostler.wire.agent import Order, OrderResult, Verdict
from ostler.wire.decode import JsonValue

RESET_S = 45.0
RESTART_S = 15.0
"""Domain seconds that a GPU reset and a service's restart take."""


class Machine(Protocol):
    """What the verbs ask of the node they run on."""

    failing: frozenset[str]
    """Names of checks and verbs that fail now."""

    def busy(self) -> bool: ...

    def gpu_reset(self, device: str) -> None: ...

    def checked(self) -> None:
        """A check has ended, however."""
        ...

    def neighbours(self) -> Mapping[str, Any]:
        """What is at the other end of its InfiniBand cables now; empty: it has none."""
        ...

    def restarted(self, service: str) -> None: ...

    def reboot(self) -> None: ...


class _Timed(Execution):
    """Something that ends by itself at a domain time."""

    def __init__(self, clock: Clock, until: float, end: Callable[[], OrderResult]) -> None:
        self._clock = clock
        self._until = until
        self._end = end

    def poll(self) -> OrderResult | None:
        return self._end() if self._clock.now() >= self._until else None

    def stop(self) -> None:
        self._until = float("inf")


class TwinVerb(Verb):
    """One kind of order on one node."""

    def __init__(self, start: Callable[[Order], Execution], *, ends_boot: bool = False) -> None:
        self._start = start
        self.ends_boot = ends_boot

    def start(self, order: Order) -> Execution:
        return self._start(order)


def twin_verbs(machine: Machine, clock: Clock) -> Mapping[str, Verb]:
    """All that the real agent knows, on a simulated machine."""

    def check(order: Order) -> Execution:
        known = find(_text(order, "check"))

        def end() -> OrderResult:
            machine.checked()
            measured: dict[str, JsonValue] = {"simulated": True, "seconds": known.seconds}
            if known.name in machine.failing:
                return OrderResult(order.id, Verdict.FAILED, f"{known.name} found a difference (scripted)", measured)
            if known.name == IB_NEIGHBOURS:
                found = machine.neighbours()
                if not found:
                    return OrderResult(order.id, Verdict.INCONCLUSIVE, "unsupported: no InfiniBand device", measured)
                measured |= found
            return OrderResult(order.id, Verdict.PASSED, "", measured)

        return _Timed(clock, clock.now() + known.seconds, end)

    def reset(order: Order) -> Execution:
        device = _text(order, "device")

        def end() -> OrderResult:
            if machine.busy():
                return OrderResult(order.id, Verdict.FAILED, "a process holds the GPU", {"exit_status": 5})
            if "reset-gpu" in machine.failing:
                return OrderResult(order.id, Verdict.FAILED, "the GPU did not come back", {"exit_status": 255})
            machine.gpu_reset(device)
            return OrderResult(order.id, Verdict.PASSED, "", {"exit_status": 0})

        return _Timed(clock, clock.now() + RESET_S, end)

    def restart(order: Order) -> Execution:
        service = _text(order, "service").removesuffix(".service")
        if service not in SERVICES:
            raise BadInput(f"{service[:64]!r} is none of {', '.join(SERVICES)}", where=order.verb)

        def end() -> OrderResult:
            machine.restarted(service)
            failed = "restart-service" in machine.failing
            return OrderResult(order.id, Verdict.FAILED if failed else Verdict.PASSED, "", {"exit_status": int(failed)})

        return _Timed(clock, clock.now() + RESTART_S, end)

    def reboot(order: Order) -> Execution:
        machine.reboot()
        return _Timed(clock, float("inf"), lambda: OrderResult(order.id, Verdict.INCONCLUSIVE))

    return {
        "run-check": TwinVerb(check),
        "reset-gpu": TwinVerb(reset),
        "restart-service": TwinVerb(restart),
        "reboot": TwinVerb(reboot, ends_boot=True),
    }


def _text(order: Order, name: str) -> str:
    value = order.arguments.get(name)
    if not isinstance(value, str):
        raise BadInput(f"the order needs the argument {name!r} as text", where=order.verb)
    return value
