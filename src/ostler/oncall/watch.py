"""Tells the pagers what stands now and what is over, and pings the dead-man's switch. Schedules of `app.py` call it.

Level, not edge: what should ring is computed anew each time and compared with what each pager was told. A pager that is
away is told later, and its trouble keeps no other from ringing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import sqlalchemy as sa
import structlog

from ostler.adapters.pager.port import Page, Pager, Urgency
from ostler.core.errors import OstlerError, Temporary, Unavailable
from ostler.db.engine import Database
from ostler.oncall import policy, store
from ostler.oncall.model import OncallSettings

log = structlog.get_logger(__name__)


class OncallWatch:
    """One replica at a time, through its schedule's lease."""

    def __init__(self, db: Database, pagers: Sequence[Pager], settings: OncallSettings) -> None:
        self._db = db
        self._pagers = tuple(pagers)
        self._settings = settings

    def look(self) -> None:
        """One round over all pagers. Raises the first pager's trouble after all have had their turn."""
        if not self._pagers:
            return
        held_before = self._db.clock.now() - self._settings.held_s
        standing = policy.pages(self._db.read(lambda tx: store.facts(tx, held_before)), self._settings)
        troubles = [trouble for pager in self._pagers if (trouble := self._tell(pager, standing)) is not None]
        if troubles:
            raise troubles[0]

    def _tell(self, pager: Pager, standing: Sequence[Page]) -> OstlerError | None:
        now = self._db.clock.real()
        known = self._db.read(lambda tx: store.open_pages(tx, pager.name))
        due = [page for page in standing if _is_due(page, known.get(page.key), pager.repeat_s, now)]
        still = {page.key for page in standing}
        due += [_ended(key, row) for key, row in known.items() if key not in still]
        trouble: OstlerError | None = None
        for start in range(0, len(due), pager.most_at_once):
            some = due[start : start + pager.most_at_once]
            try:
                pager.send(some)
            except OstlerError as error:
                log.warning("oncall.pager_failed", pager=pager.name, pages=len(due) - start, error=str(error))
                trouble = trouble or error
                if isinstance(error, Temporary):
                    break  # the rest next time; what it has taken is noted, so that it is not told all of it again
                continue  # what it does not take keeps no other page from ringing
            self._db.write(partial(store.note_sent, target=pager.name, sent=some, at=now))
        return trouble


class DeadManSwitch:
    """Pings only while every loop works: a server that serves and does nothing must be missed too."""

    def __init__(self, outside: Callable[[], None], stale_loops: Callable[[], Sequence[str]]) -> None:
        self._outside = outside
        self._stale_loops = stale_loops

    def ping(self) -> None:
        if stale := self._stale_loops():
            raise Unavailable(f"The dead-man's switch is not fed: {', '.join(stale)} stand still.", where="oncall")
        self._outside()


def _is_due(page: Page, known: sa.RowMapping | None, repeat_s: float, now: float) -> bool:
    if known is None or (known["summary"], known["severity"]) != (page.summary, page.urgency):
        return True
    return repeat_s > 0 and (known["sent_at"] or 0.0) + repeat_s <= now


def _ended(key: str, row: sa.RowMapping) -> Page:
    labels: Mapping[str, str] = row["detail"]
    told = Page(key, Urgency(row["severity"]), row["summary"], labels, row["opened_at"])
    return replace(told, over=True)
