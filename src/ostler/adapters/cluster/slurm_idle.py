"""Idle runs on Slurm: active checks as jobs of the lowest priority, which any other job preempts. Used by `slurm.py`.

The result travels in the job's AdminComment, which the job writes itself when its command has ended: no shared folder
is needed, only operators may write it, and Ostler's user is one, for it drains nodes. Limits: the output's last line,
at most 4 KiB, readable by whoever may see the job, for as long as Slurm remembers it (MinJobAge, 300 s by default).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex

from ostler.adapters.cluster.port import IdlePhase, IdleRun, IdleView
from ostler.adapters.cluster.slurm_tools import Failed, Tools
from ostler.core.errors import NotFound, Unavailable

JOB_NAME = "ostler-idle"
NICE = 100_000
MOST_OUTPUT = 4096
"""Bytes of the last line."""

_WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED"})
_RUNNING = frozenset({"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "SUSPENDED"})
_ENDED = frozenset({"COMPLETED", "FAILED"})
_TIMED_OUT = (124, 137)
"""What timeout(1) ends with: its time was up, or the command had to be killed."""

# `timeout` hands a SIGTERM on to its whole process group and kills that after the grace, whatever KillWait says.
_SCRIPT = """\
#!/bin/sh
said=$( { timeout -k %(grace)d %(seconds)d %(command)s </dev/null 2>&1; printf '\\n%%s' "$?"; } | tail -c 16384 )
status=${said##*
}
last=$(printf '%%s' "${said%%
*}" | sed '/^[[:space:]]*$/d' | tail -n 1 | tr -d '\\n' | tail -c %(most)d | base64 | tr -d '\\n')
exec scontrol update "jobid=$SLURM_JOB_ID" "admincomment=ostler:$status:$last"
"""


def script(run: IdleRun) -> str:
    """The batch script; the command's words are quoted, so that none of them means anything to the shell."""
    return _SCRIPT % {
        "grace": max(1, run.grace_s),
        "seconds": max(1, run.seconds),
        "command": shlex.join(run.command),
        "most": MOST_OUTPUT,
    }


def start(tools: Tools, run: IdleRun, *, partition: str, qos: str) -> str:
    """Submit it; returns the job's id."""
    options = [
        "--parsable",
        f"--job-name={JOB_NAME}",
        f"--nodelist={run.node}",
        "--nodes=1",
        "--exclusive",
        "--no-requeue",
        f"--nice={NICE}",
        f"--time={-(-run.seconds // 60) + 1}",  # whole minutes, and one for the script around the command
        "--output=/dev/null",
        "--chdir=/",
    ]
    options += [f"--partition={partition}"] if partition else []
    options += [f"--qos={qos}"] if qos else []
    options += [f"--gres=gpu:{run.gpus}"] if run.gpus else []
    try:
        answer = tools.ask("sbatch", *options, text=script(run)).strip()
    except Failed as failed:
        raise Unavailable(f"sbatch: {failed.said}.", where=tools.name) from None
    job = answer.partition(";")[0]  # with a cluster's name after it in a federation
    if not re.fullmatch(r"\d{1,12}", job):
        raise Unavailable(f"sbatch gave no job id but '{answer[:60]}'.", where=tools.name)
    return job


def jobs(tools: Tools) -> frozenset[str]:
    """The ids of our idle runs: of our user and of that name, which no other user's job can be."""
    answer = tools.ask("squeue", "-h", "-a", *_ours(), "-o", "%A")
    return frozenset(answer.split())


def look(tools: Tools, reference: str) -> IdleView:
    """How far it is."""
    state = _state(tools, reference)
    if state is None:
        return IdleView(IdlePhase.STOPPED, "Slurm has forgotten the job")
    if state in _WAITING:
        return IdleView(IdlePhase.WAITING)
    if state in _RUNNING:
        return IdleView(IdlePhase.RUNNING)
    if state not in _ENDED:
        return IdleView(IdlePhase.STOPPED, state.lower().replace("_", " "))
    try:
        text = tools.ask("scontrol", "show", "job", reference)
    except (Failed, NotFound):
        return IdleView(IdlePhase.STOPPED, "Slurm has forgotten the job")
    found = re.search(r"^ +AdminComment=ostler:(\d{1,3}):([A-Za-z0-9+/=]*) *$", text, re.MULTILINE)
    if found is None:
        return IdleView(IdlePhase.STOPPED, f"{state.lower()} without a result; may the job's user write AdminComment?")
    status = int(found[1])
    if status in _TIMED_OUT:
        return IdleView(IdlePhase.STOPPED, "its time was up", status)
    try:
        output = base64.b64decode(found[2], validate=True)[-MOST_OUTPUT:]
    except (binascii.Error, ValueError):
        return IdleView(IdlePhase.STOPPED, "its result cannot be read", status)
    return IdleView(IdlePhase.ENDED, output.decode(errors="replace"), status)


def end(tools: Tools, reference: str) -> None:
    """Cancel it, if it is ours and there still."""
    if re.fullmatch(r"\d{1,12}", reference) and _state(tools, reference) in _WAITING | _RUNNING:
        try:
            tools.ask("scancel", "-Q", *_ours(), reference)
        except Failed:
            if _state(tools, reference) in _WAITING | _RUNNING:
                raise Unavailable(f"The idle run {reference} does not end.", where=tools.name) from None


def _ours() -> tuple[str, ...]:
    return ("-u", str(os.geteuid()), "-n", JOB_NAME)


def _state(tools: Tools, reference: str) -> str | None:
    if not re.fullmatch(r"\d{1,12}", reference):
        return None
    try:
        answer = tools.ask("squeue", "-h", "-a", "-t", "all", *_ours(), "-j", reference, "-o", "%T").split()
    except Failed:
        return None  # Invalid job id specified
    return answer[0] if answer else None
