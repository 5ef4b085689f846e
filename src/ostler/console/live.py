"""Pushes to browsers what changed: one look at the event ledger serves every open page. Used by `pages.py`.

While somebody watches, a task in the event loop asks every half second for events past the last position, draws the
changed tiles once, and hands the same text to all. A browser that comes back says which position it saw last
(`after=`), and is brought up to date first. A stream that cannot keep up is told to draw everything again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from starlette.concurrency import run_in_threadpool

from ostler.console.model import Change
from ostler.core.errors import OstlerError

_log = structlog.get_logger()

_PAUSE = 0.5
"""Real seconds between two looks."""
_KEEP_ALIVE = 15.0
"""Real seconds after which a silent stream says that it lives, for proxies."""
_BACKLOG = 16
"""Messages that wait for a slow browser before it is told to draw everything again."""


@dataclass(frozen=True)
class News:
    """One change, drawn."""

    change: Change
    html: str


@dataclass(eq=False)
class _Watcher:
    node_id: str | None
    nudged: bool = False
    queue: asyncio.Queue[News | None] = field(default_factory=lambda: asyncio.Queue(_BACKLOG))


class Live:
    """The hub. `look(after)` reads and draws in a worker thread; it answers None when nothing happened."""

    def __init__(self, look: Callable[[int], News | None], *, pause: float = _PAUSE) -> None:
        self._look = look
        self._pause = pause
        self._watchers: set[_Watcher] = set()
        self._position = 0
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def stream(self, after: int, node_id: str | None = None, *, nudged: bool = False) -> AsyncIterator[str]:
        """Messages of `text/event-stream` from a position on; of one node only, if it is named.

        `nudged`: nothing drawn, only word that something happened.
        """
        watcher = _Watcher(node_id, nudged)
        self._loop = asyncio.get_running_loop()
        # Joined first, brought up to date second: what happens between the two is told twice, which changes nothing.
        self._position = self._position if self._watchers else max(self._position, after)
        self._watchers.add(watcher)
        try:
            yield "retry: 2000\n: hello\n\n"
            if (missed := await run_in_threadpool(self._safely, after)) is not None:
                for text in _messages(missed, watcher):
                    yield text
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._watch())
            while not self._closed:
                try:
                    async with asyncio.timeout(_KEEP_ALIVE):
                        news = await watcher.queue.get()
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if news is None:
                    break
                for text in _messages(news, watcher):
                    yield text
        finally:
            self._watchers.discard(watcher)

    def close(self) -> None:
        """End every stream, from any thread: the server is stopping."""
        self._closed = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is gone, and the streams with it
                self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        for watcher in self._watchers:
            _offer(watcher, None)

    async def _watch(self) -> None:
        while self._watchers and not self._closed:
            started = time.monotonic()
            news = await run_in_threadpool(self._safely, self._position)
            if news is not None:
                self._position = news.change.position
                for watcher in self._watchers:
                    _offer(watcher, news)
            # A fleet that takes long to draw is looked at less often: at most a fifth of the time goes there.
            await asyncio.sleep(max(self._pause, 4 * (time.monotonic() - started)))

    def _safely(self, after: int) -> News | None:
        """A database that is away for a moment ends no stream."""
        try:
            return self._look(after)
        except OstlerError as error:
            _log.warning("console cannot read", error=str(error))
            return None


def _offer(watcher: _Watcher, news: News | None) -> None:
    """Hand it over; a full queue is emptied, and its reader told to draw everything again."""
    try:
        watcher.queue.put_nowait(news)
    except asyncio.QueueFull:
        while not watcher.queue.empty():
            watcher.queue.get_nowait()
        again = None if news is None else News(Change(news.change.position, frozenset(), everything=True), news.html)
        watcher.queue.put_nowait(again)


def _messages(news: News, watcher: _Watcher) -> list[str]:
    """The events that one browser gets: `changed` with HTML, `everything`, `node` or `again` as a nudge to ask."""
    if watcher.node_id is not None:
        touched = news.change.everything or watcher.node_id in news.change.node_ids
        return [_event("node", "again")] if touched else []
    if watcher.nudged:
        return [_event("again", "again")]
    found = [_event("changed", news.html)]
    if news.change.everything:
        found.append(_event("everything", "again"))
    return found


def _event(name: str, data: str) -> str:
    """The format of the HTML standard, section 9.2: one `data:` line per line of text."""
    lines = data.replace("\r", "").split("\n")
    return f"event: {name}\n" + "".join(f"data: {line}\n" for line in lines) + "\n"
