"""RDMA write bandwidth between two nodes with perftest's `ib_write_bw`: one side waits, the other measures.

Both nodes run this check: `role=server` first, then `role=client` with the server's address as `peer`. The rate is the
"BW average" of the report; the report's own header says its unit. Ports that are not ACTIVE in sysfs are a failure by
themselves.
"""

from __future__ import annotations

import re
from pathlib import Path

from ostler.checks.commands import Ran, Runner, run_command
from ostler.checks.model import Arguments, CheckResult, floor, number
from ostler.checks.tally import Tally
from ostler.core.errors import BadInput

NAME = "ib-write-bw"
SYSFS = Path("/sys/class/infiniband")
_GBIT = {"Gb/sec": 1.0, "MB/sec": 8 * 1.048576e-3, "MiB/sec": 8 * 1.048576e-3}
"""Report unit to Gbit/s. perftest's MB are 2^20 bytes (perftest README, "--report_gbits")."""
_HEADER = re.compile(r"#bytes\s+#iterations\s+BW peak\[(\S+?)\]\s+BW average\[(\S+?)\]")
_DEVICE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_%-]{0,252}")
_GRACE_S = 20.0
"""What connecting may take beyond the measuring itself."""


def run(arguments: Arguments, budget_s: float, command: Runner = run_command, sysfs: Path = SYSFS) -> CheckResult:
    """One side of the pair."""
    role, device, peer = (arguments.get(name, "") for name in ("role", "hca", "peer"))
    if role not in ("server", "client"):
        raise BadInput("say role=server or role=client", where="role")
    if _DEVICE.fullmatch(device) is None:
        raise BadInput("name the adapter, such as mlx5_0", where="hca")
    if role == "client" and _HOST.fullmatch(peer) is None:
        raise BadInput("give the address of the node with role=server", where="peer")
    port = int(number(arguments, "port", 18_515, 1, 65_535))
    ib_port = int(number(arguments, "ib_port", 1, 1, 255))
    size = int(number(arguments, "bytes", 1 << 20, 2, 1 << 30))
    seconds = int(number(arguments, "seconds", 10, 3, 3600))
    least = floor(arguments, "min_gbit_s")
    argv = ["ib_write_bw", "-d", device, "-i", str(ib_port), "-p", str(port), "-s", str(size), "-D", str(seconds)]
    argv += ["-F", "--report_gbits"]
    if "cuda" in arguments:
        argv.append(f"--use_cuda={int(number(arguments, 'cuda', 0, 0, 63))}")
    if role == "client":
        argv.append(peer)
    tally = Tally(NAME)
    tally.note("hca", f"{device}/{ib_port}")
    tally.note("role", role)
    state = _port_state(sysfs, device, ib_port)
    if state is None:
        tally.gap(f"{device} port {ib_port} is not here")
        return tally.result()
    if state != "ACTIVE":
        tally.fail(f"{device} port {ib_port} is {state}, not ACTIVE")
        return tally.result()
    # A server waits for its client for as long as it may; a client needs little more than the measuring.
    allowed = budget_s if role == "server" else min(budget_s, seconds + _GRACE_S)
    try:
        ran = command(argv, allowed)
    except FileNotFoundError:
        tally.gap("ib_write_bw is not installed (package perftest)")
        return tally.result()
    except OSError as error:
        tally.gap(f"ib_write_bw cannot be started: {error.strerror}")
        return tally.result()
    judge(tally, ran, size, least, role)
    return tally.result()


def judge(tally: Tally, ran: Ran, size: int, least: float | None, role: str) -> None:
    """A rate counts only from a run that ended well, with a report for the size that was asked for."""
    if ran.status is None:
        tally.gap("ib_write_bw was not done in time")
        return
    rate = average_gbit_s(ran.output, size)
    if ran.status != 0:
        tally.gap(f"ib_write_bw ended with status {ran.status}: {ran.last_words}")
        return
    if rate is None:
        tally.gap(
            "the client measures; nothing was reported here" if role == "server" else f"no report: {ran.last_words}"
        )
        return
    tally.note("average_gbit_s", rate)
    if least is None:
        tally.gap("nobody said how fast (min_gbit_s)")
    elif rate < least:
        tally.fail(f"{rate:.4g} Gbit/s, at least {least:.4g} are wanted")
    else:
        tally.fine()


def average_gbit_s(output: str, size: int) -> float | None:
    """The "BW average" of the report for messages of `size` bytes, in Gbit/s; None when there is none.

    Lines after the header: `1048576  37500  0.00  392.97  0.046846`. Duration runs print a peak of 0.
    """
    unit, found = None, None
    for line in output.splitlines():
        header = _HEADER.search(line)
        if header is not None:
            unit = _GBIT.get(header[2])
            continue
        columns = line.split()
        if unit is None or len(columns) < 4 or columns[0] != str(size):
            continue
        try:
            value = float(columns[3])
        except ValueError:
            continue
        found = value * unit if 0 <= value < 1e6 else None  # a NaN compares false
    return found


def _port_state(sysfs: Path, device: str, port: int) -> str | None:
    try:
        text = (sysfs / device / "ports" / str(port) / "state").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return text.strip().rpartition(" ")[2][:32]  # "4: ACTIVE"
