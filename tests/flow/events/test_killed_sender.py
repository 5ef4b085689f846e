"""kill -9 of the sender, again and again: nothing is lost, order per subject holds, doubles only where it was cut off."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler

import sqlalchemy as sa

from ostler.core.clock import SystemClock
from ostler.db.engine import Database
from ostler.db.schema import delivery
from tests.conftest import REPOSITORY
from tests.flow.events.memory import LOOPBACK, SECRET, MemorySecrets, publish, states, subscribe
from tests.flow.events.receiver import answer, receiving

KILLS = 6
EVENTS = 240
SUBJECTS = 12


def test_kill_9_loses_nothing(db_url: str) -> None:
    rng = random.Random(7)
    db = Database(db_url, SystemClock())
    with receiving(SystemClock().real, SECRET) as receiver:
        endpoint = subscribe(db, MemorySecrets(), receiver.url + "/", settings=LOOPBACK)
        for number in range(EVENTS):
            publish(db, f"node_{number % SUBJECTS}")
        process: subprocess.Popen[bytes] | None = None
        kills = 0
        next_kill = rng.randrange(5, 30)
        killed = threading.Event()

        def kill_at_random(handler: BaseHTTPRequestHandler, number: int) -> None:
            """Kills in the middle of a batch, sometimes before and sometimes after the 2xx left."""
            nonlocal next_kill, kills
            after_answer = rng.random() < 0.5
            if number >= next_kill and kills < KILLS and not killed.is_set():
                killed.set()
                if after_answer:
                    answer(200)(handler, number)
                assert process is not None
                process.kill()
                return
            answer(200)(handler, number)

        receiver.behaviours["/"] = kill_at_random
        while True:
            killed.clear()
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.flow.events.killed_sender", db_url, str(kills)], cwd=REPOSITORY
            )
            if kills == KILLS:
                break
            process.wait()
            kills += 1
            next_kill = receiver.requests["/"] + rng.randrange(1, 30)
            # What the dead one held runs out now instead of in 45 seconds.
            db.write(lambda tx: tx.execute(delivery.update().values(lease_until=0.0)) and None)
        try:
            receiver.wait_for(lambda: len({event.id for event in receiver.events["/"]}) == EVENTS)
            settled = sa.select(sa.func.count()).where(delivery.c.settled_at.is_not(None))
            while db.read(lambda tx: tx.scalar(settled)) < EVENTS:
                assert process.poll() is None
        finally:
            process.kill()
            process.wait()
        order = receiver.order()
        assert receiver.refused == []
    for subject in {pair[0] for pair in order}:
        seqs = [seq for s, seq in order if s == subject]
        assert seqs == sorted(seqs), "a delivery overtook another of its subject"
        assert set(seqs) == set(range(1, EVENTS // SUBJECTS + 1))
    doubles = len(order) - EVENTS
    assert doubles <= KILLS * LOOPBACK.in_flight_per_endpoint
    assert states(db, endpoint) == ["delivered"] * EVENTS
    db.close()
