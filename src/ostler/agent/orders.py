"""What the server asks of this node: each order is run once, and only if this agent's own allow-list has its verb.

`Orders` is stepped by the agent. Verbs are handed in (verbs.py on a real node, the twin's own), so that nothing here
knows how a GPU is reset. Two lists must agree before anything happens: what the server says the pool grants, and what
was allowed when this agent was started (`--allow`; nothing by default). The rest answers `refused`.

An order is written to the journal before it starts. After the agent's death it is not started again: what was running
is `inconclusive`, except that a verb which ends the boot has `passed` once the node is up under another boot id.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ostler.core.clock import Clock
from ostler.core.errors import BadInput, OstlerError
from ostler.wire.agent import MESSAGE_LIMIT, AgentSettings, Order, OrderResult, Verdict
from ostler.wire.decode import decode_value, encode, fit

REMEMBERED = 256
"""Orders whose result is kept after the server has it, so that a late repeat is not run again."""
RUNNING = 4
"""Orders that run side by side; the next ones wait their turn."""

YIELDS = "yields"
"""Argument of an order: `true` stops it as soon as a workload takes a GPU. No verb sees it."""

_log = logging.getLogger("ostler.agent")


class Execution(Protocol):
    """An order that runs."""

    def poll(self) -> OrderResult | None:
        """Its result when it is over; never blocks. `started_at` and `finished_at` may be left at zero."""
        ...

    def stop(self) -> None:
        """Ends it and everything it started."""
        ...


class Verb(Protocol):
    """One kind of order."""

    ends_boot: bool
    """The node restarts: coming up under another boot id is its success."""

    def start(self, order: Order) -> Execution:
        """Raises OstlerError when it cannot be started: `failed` with that message."""
        ...


@dataclass(slots=True)
class _Entry:
    order_id: str
    verb: str
    boot_id: str
    started_at: float
    result: OrderResult | None = None
    told: bool = False


@dataclass(slots=True)
class _Running:
    execution: Execution
    until: float
    yields: bool = False
    """It stops when a workload takes the node: what it was asked for is not worth anybody's time."""


class OrderBook:
    """The journal in memory: what the twin needs. `FileOrderBook` survives the agent."""

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}

    def save(self) -> None:
        """Makes it durable; raises OSError, and then nothing may be started."""
        while len(self.entries) > REMEMBERED:
            oldest = next((key for key, entry in self.entries.items() if entry.told), None)
            if oldest is None:
                return
            del self.entries[oldest]


class FileOrderBook(OrderBook):
    """The journal as one small JSON file, replaced as a whole and synced."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        try:
            saved = json.loads(path.read_bytes())
            for row in saved:
                entry = _entry(row)
                self.entries[entry.order_id] = entry
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, BadInput) as error:
            _log.error("%s: cannot be read (%s); orders of an earlier life are forgotten", path, error)

    def save(self) -> None:
        super().save()
        new = self._path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(json.dumps([_row(entry) for entry in self.entries.values()]).encode())
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


class Orders:
    """Takes orders, runs them, keeps their results until the server has them."""

    def __init__(
        self,
        verbs: Mapping[str, Verb],
        allowed: Iterable[str],
        book: OrderBook,
        clock: Clock,
        boot_id: str,
        busy: Callable[[], bool | None] = lambda: None,
    ) -> None:
        """`busy`: whether a workload is on the node now, our own checks aside; asked often while a check yields."""
        self._verbs = verbs
        self._busy = busy
        self._allowed = frozenset(allowed)
        self._book = book
        self._clock = clock
        self._boot_id = boot_id
        self._running: dict[str, _Running] = {}
        self._waiting: dict[str, Order] = {}
        for entry in book.entries.values():
            if entry.result is None:
                entry.result = self._after_death(entry)

    def take(self, orders: Iterable[Order], settings: AgentSettings) -> None:
        """Remembers new orders; the ones that are known already are neither run again nor forgotten."""
        for order in orders:
            entry = self._book.entries.get(order.id)
            if entry is not None:
                entry.told = False  # the server asks again: it does not have the result
                continue
            if order.id in self._waiting:
                continue
            if order.verb not in self._allowed or order.verb not in self._verbs:
                self._finish(order, Verdict.REFUSED, f"this agent was not started with --allow {order.verb}")
            elif order.verb not in settings.verbs:
                self._finish(order, Verdict.REFUSED, f"the node's pool does not grant {order.verb}")
            else:
                self._waiting[order.id] = order

    def step(self) -> None:
        """Collects what has ended, stops what is over its time, starts what waits."""
        now = self._clock.now()
        for order_id, running in list(self._running.items()):
            result = running.execution.poll()
            if result is None and now >= running.until:
                running.execution.stop()
                result = OrderResult(order_id, Verdict.INCONCLUSIVE, "stopped: it was over its deadline")
            elif result is None and running.yields and self._busy() is True:
                running.execution.stop()
                result = OrderResult(order_id, Verdict.INCONCLUSIVE, "stopped: a workload came", {"stopped": True})
            if result is not None:
                del self._running[order_id]
                entry = self._book.entries[order_id]
                entry.result = replace(result, order_id=order_id, started_at=entry.started_at, finished_at=now)
                self._try_save()
        while self._waiting and len(self._running) < RUNNING:
            order_id = next(iter(self._waiting))
            self._start(self._waiting.pop(order_id))

    def results(self, most: int = 64) -> tuple[OrderResult, ...]:
        """What the server does not have yet."""
        return tuple(
            entry.result for entry in self._book.entries.values() if entry.result is not None and not entry.told
        )[:most]

    def told(self, results: Iterable[OrderResult]) -> None:
        """The server has these."""
        for result in results:
            entry = self._book.entries.get(result.order_id)
            if entry is not None:
                entry.told = True

    def active(self) -> bool:
        """Something runs or waits: step often."""
        return bool(self._running or self._waiting)

    def close(self) -> None:
        """Stops everything; the journal will call it inconclusive."""
        for running in self._running.values():
            running.execution.stop()
        self._running.clear()

    def _start(self, order: Order) -> None:
        now = self._clock.now()
        entry = _Entry(order.id, order.verb, self._boot_id, now)
        self._book.entries[order.id] = entry
        try:
            self._book.save()
        except OSError as error:
            del self._book.entries[order.id]
            self._finish(order, Verdict.FAILED, f"not started: the agent cannot write its journal ({error})")
            return
        if order.arguments.get(YIELDS) == "true" and self._busy() is True:
            stopped = OrderResult(order.id, Verdict.INCONCLUSIVE, "a workload is on the node", {"stopped": True})
            entry.result = replace(stopped, started_at=now, finished_at=now)
            self._try_save()
            return
        _log.info("order %s: %s %s", order.id, order.verb, dict(order.arguments))
        try:
            execution = self._verbs[order.verb].start(order)
        except OstlerError as error:
            self._finish(order, Verdict.FAILED, str(error))
            return
        self._running[order.id] = _Running(execution, now + order.deadline_s, order.arguments.get(YIELDS) == "true")

    def _finish(self, order: Order, verdict: Verdict, message: str) -> None:
        now = self._clock.now()
        result = OrderResult(order.id, verdict, fit(message, MESSAGE_LIMIT), started_at=now, finished_at=now)
        self._book.entries[order.id] = _Entry(order.id, order.verb, self._boot_id, now, result)
        _log.info("order %s: %s %s", order.id, verdict.value, message)
        self._try_save()

    def _after_death(self, entry: _Entry) -> OrderResult:
        now = self._clock.now()
        verb = self._verbs.get(entry.verb)
        if verb is not None and verb.ends_boot and entry.boot_id != self._boot_id:
            verdict, message = Verdict.PASSED, f"the node is up again, boot {self._boot_id}"
        else:
            verdict, message = Verdict.INCONCLUSIVE, "the agent ended while it ran"
        return OrderResult(entry.order_id, verdict, message, started_at=entry.started_at, finished_at=now)

    def _try_save(self) -> None:
        try:
            self._book.save()
        except OSError as error:
            _log.error("the journal of orders cannot be written: %s", error)


def _row(entry: _Entry) -> dict[str, Any]:
    result = None if entry.result is None else json.loads(encode(entry.result))
    return {
        "id": entry.order_id,
        "verb": entry.verb,
        "boot_id": entry.boot_id,
        "started_at": entry.started_at,
        "result": result,
        "told": entry.told,
    }


def _entry(row: Mapping[str, Any]) -> _Entry:
    result = None if row["result"] is None else decode_value(OrderResult, row["result"])
    return _Entry(
        str(row["id"]), str(row["verb"]), str(row["boot_id"]), float(row["started_at"]), result, bool(row["told"])
    )
