"""A replica dies by SIGKILL before and after every commit; another takes over when the lease has run out.

No step is lost, no journaled step runs again, and what a step writes with its answer is there exactly once. The scenario
has about 13 commits: the claim, one per step, and the wait's second claim. `OSTLER_KILL_POINTS` (make proof) raises how
many are enumerated, and how many processes die one after the other.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.core.clock import SystemClock
from ostler.db.engine import Database
from ostler.db.schema import incident
from ostler.jobs import store
from tests.store.jobs.worker import STEPS

REPOSITORY = Path(__file__).parents[3]

CAMPAIGN = int(os.environ.get("OSTLER_KILL_POINTS", "0"))
"""How many random chains of kills to run beside the enumerated points; unset in `make test`, which takes two."""

ENUMERATED = [f"{when}:{number}" for number in range(1, 14) for when in ("before", "after")]
POINTS = ENUMERATED if CAMPAIGN else [point for index, point in enumerate(ENUMERATED) if index % 5 != 2][:20]


def work(url: str, log: Path, kill_at: str, owner: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "tests.store.jobs.worker", url, str(log), kill_at, owner]
    return subprocess.Popen(
        arguments, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    )


def enqueue(url: str) -> str:
    db = Database(url, SystemClock())
    job_id = db.write(lambda tx: store.enqueue(tx, "ten-steps", "node_1", step=STEPS[0], version=1))
    db.close()
    return job_id


def journaled(url: str, job_id: str) -> list[str]:
    db = Database(url, SystemClock())
    steps = [row["step"] for row in db.read(lambda tx: store.journal(tx, job_id))]
    db.close()
    return steps


def assert_once_and_complete(url: str, log: Path, job_id: str, journaled_at_deaths: list[list[str]]) -> None:
    db = Database(url, SystemClock())
    row = db.read(lambda tx: store.get(tx, job_id))
    effects = Counter(db.read(lambda tx: tx.execute(sa.select(incident.c.cause)).scalars().all()))
    db.close()
    assert row["state"] == "done"
    assert journaled(url, job_id) == STEPS, "no step lost, none journaled twice"
    assert effects == Counter(STEPS), "what a step writes is there exactly once"
    runs = Counter(log.read_text().split())
    expected = Counter(STEPS) + Counter(["step-4"])  # it waits once
    repeated = runs - expected
    # A death can repeat only the step that it interrupted.
    assert sum(repeated.values()) <= len(journaled_at_deaths), repeated
    for finished in journaled_at_deaths:
        assert finished == STEPS[: len(finished)]
    interrupted = {STEPS[len(finished)] for finished in journaled_at_deaths if len(finished) < len(STEPS)}
    assert set(repeated) <= interrupted, "no journaled step runs again"


def die_and_take_over(url: str, log: Path, kill_points: list[str]) -> None:
    job_id = enqueue(url)
    deaths = []
    for number, point in enumerate(kill_points):
        code = work(url, log, point, f"victim-{number}").wait()
        if code == 0:
            break  # it was through before it came to its kill point
        assert code == -signal.SIGKILL
        deaths.append(journaled(url, job_id))
    heir = work(url, log, "never", "heir")
    assert heir.wait() == 0
    assert_once_and_complete(url, log, job_id, deaths)


@pytest.mark.parametrize("point", POINTS)
def test_one_dies_and_another_takes_over(db_url: str, tmp_path: Path, point: str) -> None:
    die_and_take_over(db_url, tmp_path / "log", [point])


def test_the_points_reach_the_end_of_the_scenario(db_url: str, tmp_path: Path) -> None:
    """The last enumerated commit is the one that finishes the job: after it there is nothing left to do.

    On a loaded machine a lease may be renewed meanwhile, which is a commit of its own; then it is the last but one.
    """
    job_id = enqueue(db_url)
    assert work(db_url, tmp_path / "log", ENUMERATED[-1], "a").wait() == -signal.SIGKILL
    assert journaled(db_url, job_id)[-1] in STEPS[-2:]


def test_two_replicas_share_the_work_while_one_dies(db_url: str, tmp_path: Path) -> None:
    """The heir is there from the start, as in production."""
    job_id = enqueue(db_url)
    victim = work(db_url, tmp_path / "log", "before:4", "victim")
    heir = work(db_url, tmp_path / "log", "never", "heir")
    assert heir.wait() == 0
    victim.wait()
    runs = Counter((tmp_path / "log").read_text().split()) - (Counter(STEPS) + Counter(["step-4"]))
    assert sum(runs.values()) <= 1
    assert journaled(db_url, job_id) == STEPS


@pytest.mark.parametrize("seed", range(CAMPAIGN or 2))
def test_campaign(db_url: str, tmp_path: Path, seed: int) -> None:
    """Several die one after the other at random points."""
    chance = random.Random(seed)
    points = [f"{chance.choice(['before', 'after'])}:{chance.randint(1, 6)}" for _ in range(chance.randint(1, 4))]
    die_and_take_over(db_url, tmp_path / "log", points)
