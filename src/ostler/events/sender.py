"""The webhook loop: claims what is due, has it sent, writes down what came of it. Started by `app.py`, one per replica.

The book-keeper (this thread) and the wire (`transport.py`, its own thread) meet in a queue: while a commit waits for
the disk, requests go on. A sender that is killed leaves claims that run out; what it had sent without writing it down
is sent again, with the same event id. Nothing is lost, and per subject and endpoint nothing overtakes.
"""

from __future__ import annotations

import queue
import random
import threading
from collections import Counter

import structlog

from ostler.core.errors import OstlerError
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.events import deliveries
from ostler.events.body import body
from ostler.events.deliveries import Parcel, Result
from ostler.events.model import DeliveryState, Secrets, WebhookSettings
from ostler.events.nudge import listen
from ostler.events.policy import Answer
from ostler.events.transport import Request, Transport
from ostler.wire import signatures

_log = structlog.get_logger()

_GATHER = 500
"""At most so many results are written down in one transaction."""


class Sender:
    """`start` and `stop` the loop, or `run_once` for tests and for draining."""

    def __init__(
        self,
        db: Database,
        secrets: Secrets,
        settings: WebhookSettings,
        owner: str,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._db = db
        self._secrets = secrets
        self._settings = settings
        self._owner = owner
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._unsettled: list[Result] = []
        self._under_way: dict[str, Parcel] = {}
        self._keys: dict[str, str] = {}
        self._transport: Transport | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_success: float | None = None
        """Real time of the last round that went well: what `/readyz` and `/metrics` show."""
        self.counts: Counter[DeliveryState] = Counter()
        """Tries written down since the start, by what they came to; `due` are failures that will be repeated."""

    def run_once(self) -> list[DeliveryState]:
        """Send what is due now, wait for the answers, write them down; returns what became of each try.

        Not beside a running loop.
        """
        self._round()
        while self._under_way:
            self._gather(None)
        states = self._db.write(self._settle)
        self._unsettled.clear()
        self.counts.update(states)
        return states

    def start(self) -> None:
        """Run in a thread until `stop`."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._loop, name="ostler-webhooks", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write down what has been answered, break off the rest and give it back (it will be sent again), and
        return.
        """
        self._stopping.set()
        self.nudge()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        self._gather(0.0)
        broken_off = list(self._under_way.values())
        self._under_way.clear()
        if broken_off or self._unsettled:
            self._db.write(lambda tx: self._leave(tx, broken_off))

    def nudge(self) -> None:
        """Look now. Never needed; it shortens the wait."""
        self._results.put(None)

    def _loop(self) -> None:
        end_listening = listen(self.nudge)
        try:
            while not self._stopping.is_set():
                pause = self._settings.poll_s
                try:
                    self._round()
                    self.last_success = self._db.clock.real()
                except OstlerError as error:
                    _log.warning("webhooks.delayed", error=str(error))
                    pause = 1.0
                except Exception:
                    # Anything else is a bug; other deliveries must go on, and the bug must be seen.
                    _log.exception("webhooks.failed")
                    pause = 1.0
                self._gather(pause)
        finally:
            end_listening()

    def _round(self) -> None:
        """One transaction: results in, claims out. Then the claims are handed to the wire."""
        if not self._unsettled and not self._db.read(deliveries.anything_due):
            return

        def book(tx: Tx) -> tuple[list[DeliveryState], list[Parcel]]:
            states = self._settle(tx)
            under_way = Counter(parcel.endpoint.id for parcel in self._under_way.values())
            return states, deliveries.claim(
                tx, owner=self._owner, settings=self._settings, under_way=under_way, rng=self._rng
            )

        states, parcels = self._db.write(book)
        self._unsettled.clear()
        self.counts.update(states)
        for parcel in parcels:
            self._under_way[parcel.claim.key] = parcel
            self._send(parcel)

    def _settle(self, tx: Tx) -> list[DeliveryState]:
        return deliveries.settle(tx, self._unsettled, settings=self._settings, rng=self._rng)

    def _leave(self, tx: Tx, broken_off: list[Parcel]) -> None:
        self._settle(tx)
        deliveries.give_back(tx, [parcel.claim for parcel in broken_off])

    def _gather(self, timeout: float | None) -> None:
        """Take in what the wire has answered: wait for a first word as long as that, then take what is there."""
        taken = 0
        while taken < _GATHER:
            try:
                result = self._results.get(timeout=timeout) if timeout != 0 else self._results.get_nowait()
            except queue.Empty:
                return
            timeout = 0
            taken += 1
            if result is not None:
                del self._under_way[result.parcel.claim.key]
                self._unsettled.append(result)

    def _send(self, parcel: Parcel) -> None:
        now = self._db.clock.real()
        content = body(parcel.event)
        try:
            secrets = [self._key(ref) for ref in parcel.endpoint.secret_refs(now)]
        except (OstlerError, KeyError, OSError) as error:
            answer = Answer(0, error=f"the signing secret cannot be read: {error}")
            self._results.put(Result(parcel, now, answer))
            return
        if self._transport is None:
            self._transport = Transport(self._settings)
        headers = signatures.headers(parcel.event.id, int(now), content, secrets)

        def done(answer: Answer) -> None:
            self._results.put(Result(parcel, now, answer))

        self._transport.submit(Request(parcel.endpoint.url, headers, content, done))

    def _key(self, ref: str) -> str:
        """A signing secret; what a reference names never changes, so it is read once."""
        if ref not in self._keys:
            self._keys[ref] = self._secrets.get(ref)
        return self._keys[ref]
