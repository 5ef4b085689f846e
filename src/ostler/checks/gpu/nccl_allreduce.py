"""All-reduce over the GPUs of a node, or of two nodes: is the sum right, and how fast is it.

Bus bandwidth is what nccl-tests prints as busbw: bytes / seconds · 2(n−1)/n (nccl-tests, doc/PERFORMANCE.md), from the
slowest rank. Between two nodes both run this check, one with `role=first`, the other with `role=second`, the same
`peer` (the address at which `first` listens), `port` and `token`; each side reports for the whole ring.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ostler.checks.gpu import faults
from ostler.checks.gpu.bench import Bench, measure
from ostler.checks.model import Arguments, CheckResult, CheckVerdict, floor, number
from ostler.checks.tally import Tally
from ostler.core.errors import BadInput

NAME = "nccl-allreduce"
_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,253}")


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the ranks meet, and which of them are here."""

    world: int
    first_rank: int
    peer: str = ""
    port: int = 0
    token: str = ""


def run(arguments: Arguments, budget_s: float, bench: Bench | None = None) -> CheckResult:
    """Starts one worker per GPU of this node and judges what they say."""
    mib = int(number(arguments, "mib", 0, 1, 65_536))
    repeats = int(number(arguments, "repeats", 0, 1, 10_000))
    least = floor(arguments, "min_busbw_gb_s")
    role, peer, token = (arguments.get(name, "") for name in ("role", "peer", "token"))
    port = int(number(arguments, "port", 29_400, 1, 65_535))
    if role not in ("", "first", "second"):
        raise BadInput(f"{role[:40]!r} is neither first nor second", where="role")
    if role and _HOST.fullmatch(peer) is None:
        raise BadInput("give the address at which role=first listens", where="peer")
    if role and _TOKEN.fullmatch(token) is None:
        raise BadInput("give both nodes the same 1 to 64 letters and digits", where="token")
    end = time.monotonic() + budget_s

    def body(ready: Bench, tally: Tally) -> None:
        here = len(ready.devices)
        world = here * (2 if role else 1)
        if world < 2:
            tally.gap("one GPU alone reduces with nobody")
            return
        rank = here if role == "second" else 0
        meeting = Meeting(world, rank, peer, port, token) if role else Meeting(world, 0, token=secrets.token_hex(8))
        size = (mib or ready.small(4096, 1)) << 20
        said = _workers(ready, meeting, size, repeats or ready.small(20, 3), end)
        judge(tally, said, meeting, size, least)

    return measure(NAME, arguments, body, bench)


def judge(
    tally: Tally, said: Sequence[Mapping[str, Any] | None], meeting: Meeting, size: int, least: float | None
) -> None:
    """What this node's workers said, in the order of their ranks; None for one that said nothing."""
    n = meeting.world
    tally.note("ranks", n)
    tally.note("bytes", size)
    slowest: list[float] = []
    for place, answer in enumerate(said):
        rank = meeting.first_rank + place
        if answer is None:
            tally.gap(f"rank {rank} ended or hung without an answer")
        elif "error" in answer:
            verdict, why = faults.meaning(RuntimeError(str(answer["error"])))
            (tally.fail if verdict is CheckVerdict.FAILED else tally.gap)(f"rank {rank}: {why}")
        elif answer.get("wrong"):
            tally.fail(f"rank {rank} (GPU {place}): {answer['wrong']} elements of the sum are wrong")
        else:
            tally.fine()
        seconds = (answer or {}).get("seconds")
        if isinstance(seconds, list) and seconds:
            slowest.append(float(median(map(float, seconds))))
    if len(slowest) < len(said):
        return
    algorithm = size / max(*slowest, 1e-9) / 1e9
    bus = algorithm * 2 * (n - 1) / n
    tally.note("algbw_gb_s", algorithm)
    tally.note("busbw_gb_s", bus)
    if least is None:
        tally.gap("nobody said how fast (min_busbw_gb_s)")
    elif bus < least:
        tally.fail(f"bus bandwidth {bus:.4g} GB/s over {n} ranks, at least {least:.4g} are wanted")
    else:
        tally.fine()


def _workers(bench: Bench, meeting: Meeting, size: int, repeats: int, end: float) -> list[dict[str, Any] | None]:
    """One process per GPU, in this process's group so that a kill reaches them; ended by `end` whatever happens."""
    left = max(end - time.monotonic(), 1.0)
    with tempfile.TemporaryDirectory(prefix="ostler-ring-") as folder:
        running = []
        try:
            for place, device in enumerate(bench.devices):
                order = {
                    "rank": meeting.first_rank + place,
                    "world": meeting.world,
                    "kind": bench.kind,
                    "gpu": device.index,
                    "bytes": size,
                    "repeats": repeats,
                    "timeout_s": left,
                    "file": "" if meeting.peer else str(Path(folder, "store")),
                    "peer": meeting.peer,
                    "port": meeting.port,
                    "token": meeting.token,
                }
                argv = (sys.executable, "-m", "ostler.checks.gpu.collective_worker", json.dumps(order))
                running.append(
                    subprocess.Popen(
                        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                    )
                )
            return [_answer(worker, end) for worker in running]
        finally:
            for worker in running:
                worker.kill()
                worker.wait()
                if worker.stdout is not None:
                    worker.stdout.close()


def _answer(worker: subprocess.Popen[str], end: float) -> dict[str, Any] | None:
    try:
        output, _ = worker.communicate(timeout=max(end - time.monotonic(), 0.1))
        said = json.loads(output.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return None
    return said if isinstance(said, dict) else None
