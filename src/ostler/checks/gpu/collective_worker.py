"""One rank of the all-reduce: `python -m ostler.checks.gpu.collective_worker JSON`, started by nccl_allreduce.py.

It says one JSON line on standard output: what it measured, or what went wrong. In a process of its own because NCCL
wants one per GPU and because a collective that hangs can only be killed.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from importlib import import_module
from typing import Any

from ostler.checks.runner import end_with_parent


def main(argv: list[str]) -> int:
    """Joins the others, reduces, checks, measures."""
    end_with_parent()
    order: dict[str, Any] = json.loads(argv[0])
    try:
        said = _reduce(order)
    except (RuntimeError, ImportError, OSError, ValueError) as error:
        said = {"error": " ".join(str(error).split())[:500] or type(error).__name__}
    sys.stdout.write(json.dumps({"rank": order["rank"], **said}) + "\n")
    return 0


def _reduce(order: dict[str, Any]) -> dict[str, Any]:
    torch: Any = import_module("torch")
    dist: Any = import_module("torch.distributed")
    rank, world, cuda = int(order["rank"]), int(order["world"]), order["kind"] == "cuda"
    place = f"cuda:{order['gpu']}" if cuda else "cpu"
    timeout = timedelta(seconds=float(order["timeout_s"]))
    if cuda:
        torch.cuda.set_device(place)
    else:
        torch.set_num_threads(1)
    if order.get("file"):
        store = dist.FileStore(order["file"], world)
    else:
        store = dist.TCPStore(order["peer"], int(order["port"]), world, rank == 0, timeout)
    # Ranks that were given another token wait in another room, and never meet these.
    room = dist.PrefixStore(f"ostler-{order['token']}", store)
    dist.init_process_group("nccl" if cuda else "gloo", store=room, rank=rank, world_size=world, timeout=timeout)
    try:
        count = max(1, int(order["bytes"]) // 4)
        tensor = torch.empty(count, dtype=torch.float32, device=place)
        tensor.fill_(float(rank + 1))
        dist.all_reduce(tensor)
        right = world * (world + 1) / 2
        wrong = int((tensor != right).sum())
        seconds = []
        for _ in range(int(order["repeats"]) + 2):
            tensor.fill_(1.0)
            dist.barrier()
            seconds.append(_timed(torch, dist, tensor, cuda))
        return {"wrong": wrong, "seconds": sorted(seconds[2:])}
    finally:
        dist.destroy_process_group()


def _timed(torch: Any, dist: Any, tensor: Any, cuda: bool) -> float:
    import time

    if not cuda:
        began = time.perf_counter()
        dist.all_reduce(tensor)
        return time.perf_counter() - began
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    dist.all_reduce(tensor)
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1000


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
