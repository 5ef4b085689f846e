"""The ledger as it grows: Server-Sent Events for the console and for consumers. The one place of events that is async.

The loop looks at the sealed end of the ledger a few times a second, in a thread, because the core is synchronous.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from ostler.core.errors import OstlerError
from ostler.db.engine import Database
from ostler.events import service
from ostler.events.body import document
from ostler.events.model import Event
from ostler.events.service import Page

POLL_SECONDS = 0.25
KEEP_ALIVE_SECONDS = 15.0
"""Real seconds without an event after which a comment is sent, so that proxies and dead peers are noticed."""

PAGE = 500


def never() -> bool:
    """The default answer to "is the server stopping?"."""
    return False


async def follow(
    db: Database,
    after: str,
    *,
    type: str | None = None,
    subject: str | None = None,
    tenant: str | None = None,
    stopping: Callable[[], bool] = never,
    poll: float = POLL_SECONDS,
) -> AsyncIterator[Page]:
    """Pages of sealed events past the cursor, for ever: an empty page each time nothing was new for `poll` seconds.

    Raises what `service.events` raises for a bad cursor, at the first step. Ends when `stopping` says so.
    """
    cursor = after
    while not stopping():
        page = await asyncio.to_thread(_look, db, cursor, type, subject, tenant)
        cursor = page.cursor
        yield page
        if not page.more:
            await asyncio.sleep(poll)


def _look(db: Database, cursor: str, type: str | None, subject: str | None, tenant: str | None) -> Page:
    return db.read(lambda tx: service.events(tx, after=cursor, limit=PAGE, type=type, subject=subject, tenant=tenant))


async def server_sent(
    pages: AsyncIterator[Page], *, poll: float = POLL_SECONDS, keep_alive: float = KEEP_ALIVE_SECONDS
) -> AsyncIterator[str]:
    """The text of a `text/event-stream`: the `id` of each message is the cursor after it (`Last-Event-ID` resumes)."""
    yield "retry: 2000\n\n"
    quiet = 0.0
    try:
        async for page in pages:
            for event in page.events:
                yield message(event)
            quiet = 0.0 if page.events else quiet + poll
            if quiet >= keep_alive:
                quiet = 0.0
                yield ": still here\n\n"
    except OstlerError as error:
        # The answer's status has been sent long ago; say why the stream ends. A client connects again and is told more.
        yield f"event: error\ndata: {json.dumps({'detail': str(error)})}\n\n"


def message(event: Event) -> str:
    """One event as a Server-Sent Event: its type is the event's name, one line of JSON its data."""
    return f"id: {event.position}\nevent: {event.type}\ndata: {json.dumps(document(event), ensure_ascii=False)}\n\n"
