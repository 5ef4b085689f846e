"""NVIDIA's `dcgmi diag`, where it is installed, read for what it says rather than for its last word.

It is known to say Pass beside an allocation error (NVIDIA/DCGM issue 284) and with every NVLink down (issue 198): so
each result's warnings are read, the links are asked for by themselves, and a skipped test is a gap.
"""

from __future__ import annotations

import re

from ostler.checks.commands import Ran, Runner, run_command
from ostler.checks.dcgm_report import Line, Report, links_down, parse
from ostler.checks.model import Arguments, CheckResult, number
from ostler.checks.tally import Tally

NAME = "dcgm-diag"
_NOT_HARDWARE = re.compile(
    r"DCGM_FR_(MEMORY_ALLOC|CUDA_UNBOUND|CUDA_DEVICE)|out of memory|(unable|failed|could ?n.t|cannot) to? ?allocat"
    r"|memory allocation (error|failure|failed)|insufficient .{0,20}memory|less than .{0,40} of .{0,20}memory"
    r"|busy or unavailable|in use by (another|other)|another (process|instance)|MCUTIL|persistence mode",
    re.IGNORECASE,
)
"""Why a test did not cover the GPU, whatever status stands beside it."""
_LINK_DOWN = re.compile(r"nv-?link[^;.]{0,60}\b(is|are)\b[^;.]{0,20}\bdown\b|DCGM_FR_NVLINK_DOWN", re.IGNORECASE)
_STATED = 200


def run(arguments: Arguments, budget_s: float, command: Runner = run_command) -> CheckResult:
    """`dcgmi diag -r LEVEL -j`, then the state of the links."""
    level = int(number(arguments, "level", 2, 1, 4))
    gpus = int(number(arguments, "gpus", 0, 1, 64))
    links = arguments.get("nvlink", "1") not in ("0", "no")
    skips = {name.strip().lower().replace("-", " ") for name in arguments.get("allow_skipped", "").split(",") if name}
    tally = Tally(NAME)
    tally.note("level", level)
    try:
        ran = command(("dcgmi", "diag", "-r", str(level), "-j"), budget_s)
        state = command(("dcgmi", "nvlink", "--link-status"), 30.0) if links and ran.status is not None else None
    except FileNotFoundError:
        tally.gap("dcgmi is not installed")
        return tally.result()
    except OSError as error:
        tally.gap(f"dcgmi cannot be started: {error.strerror}")
        return tally.result()
    judge(tally, ran, gpus, skips)
    if links:
        judge_links(tally, state)
    return tally.result()


def judge(tally: Tally, ran: Ran, gpus: int, skips: set[str]) -> None:
    """The report, result by result."""
    if ran.status is None:
        tally.gap("dcgmi diag was not done in time")
        return
    report = parse(ran.output)
    if report is None:
        tally.gap(f"dcgmi diag gave no report (status {ran.status}): {ran.last_words}")
        return
    if report.error:
        tally.gap(f"dcgmi diag could not run: {_short(report.error)}")
    for line in report.lines:
        _one(tally, line, skips)
    _count(tally, report, gpus)
    statuses = [line.status for line in report.lines]
    for name in ("pass", "fail", "warn", "skip"):
        tally.note(f"results_{name}", sum(1 for status in statuses if status.startswith(name)))
    if ran.status != 0 and not tally.failures and not tally.gaps:
        tally.gap(f"every result says pass, but dcgmi ended with status {ran.status}: {ran.last_words}")


def _one(tally: Tally, line: Line, skips: set[str]) -> None:
    where = f"GPU {','.join(line.gpus)}: {line.test}" if line.gpus else line.test
    said = f": {_short(line.said)}" if line.said else ""
    if _LINK_DOWN.search(line.said):
        tally.fail(f"{where} says {line.status}, and an NVLink is down{said}")
    elif _NOT_HARDWARE.search(line.said):
        tally.gap(f"{where} says {line.status}, but did not test it all{said}")
    elif line.status.startswith("fail"):
        tally.fail(f"{where} failed{said}")
    elif line.status.startswith("pass"):
        tally.fine()
    elif line.status.startswith(("skip", "not run")) and line.test.lower().replace("-", " ") in skips:
        tally.remark(f"{line.test} was skipped, as allowed")
    else:
        tally.gap(f"{where}: {line.status or 'no status'}{said}")


def _count(tally: Tally, report: Report, gpus: int) -> None:
    tally.note("gpus", len(report.gpus))
    if gpus and len(report.gpus) < gpus:
        tally.gap(f"the report names {len(report.gpus)} of {gpus} GPUs")


def judge_links(tally: Tally, state: Ran | None) -> None:
    """Links that are down are a failure; not knowing is a gap."""
    if state is None:
        return
    if state.status != 0:
        tally.gap(f"the state of the NVLinks could not be read: {state.last_words}")
        return
    down, up = links_down(state.output)
    tally.note("nvlinks_up", up)
    tally.note("nvlinks_down", len(down))
    if down:
        tally.fail(f"{len(down)} NVLinks are down: {', '.join(down[:8])}{' …' if len(down) > 8 else ''}")
    elif up:
        tally.fine()


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _STATED else line[: _STATED - 1] + "…"
